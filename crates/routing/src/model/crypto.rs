//! What a TLS handshake may settle on, besides the version: suites of TLS 1.2, and curves.
//!
//! TLS 1.3 has suites of its own. All of them are offered wherever it is spoken: none of them is
//! weak, and what users write about suites is meant for the versions before it.

use serde::Serialize;

/// What may be settled on, where users say it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Crypto {
    /// Of TLS 1.2, the most wanted first. Those of one group are wanted equally: the client
    /// chooses. Empty is every one, and the client chooses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suites: Vec<Vec<Suite>>,
    /// Both sides must know one. Backends are offered them in this order; among those that a client
    /// offers, the client chooses. Empty is every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
}

impl Crypto {
    /// Everything that the gateway has.
    pub const ANY: Self = Self {
        suites: Vec::new(),
        curves: Vec::new(),
    };

    /// Whether nothing is left out.
    pub fn is_any(&self) -> bool {
        self.suites.is_empty() && self.curves.is_empty()
    }
}

/// A suite of TLS 1.2: who signs (the certificate's key), then how bytes are encrypted. All agree
/// on keys anew for each connection (ECDHE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Suite {
    EcdsaAes128Gcm,
    EcdsaAes256Gcm,
    EcdsaChacha20,
    RsaAes128Gcm,
    RsaAes256Gcm,
    RsaChacha20,
}

impl Suite {
    /// In the order of strength.
    pub const ALL: [Self; 6] = [
        Self::EcdsaAes256Gcm,
        Self::RsaAes256Gcm,
        Self::EcdsaChacha20,
        Self::RsaChacha20,
        Self::EcdsaAes128Gcm,
        Self::RsaAes128Gcm,
    ];

    /// Whether it is for certificates with RSA keys; else for those with keys on curves.
    pub fn is_rsa(self) -> bool {
        match self {
            Self::RsaAes128Gcm | Self::RsaAes256Gcm | Self::RsaChacha20 => true,
            Self::EcdsaAes128Gcm | Self::EcdsaAes256Gcm | Self::EcdsaChacha20 => false,
        }
    }
}

/// A group in which both sides agree on keys, in TLS 1.3 and before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Curve {
    X25519,
    P256,
    P384,
    /// With a part that quantum computers do not break; TLS 1.3 alone has it.
    X25519MlKem768,
}
