//! What users said about TLS: certificates, who must show one, and where encrypted connections go.
//!
//! Key material never shows: not in `Debug`, not when the model is serialized.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{BindId, Crypto, HostPattern, Origin, SortKey, Split, Visibility};

/// Identity of a [`TlsHost`]: stable while its object and field keep their place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TlsId(pub Arc<str>);

/// What happens to TLS connections that ask for one of these names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TlsHost {
    pub origin: Origin,
    /// The bind that it is for; `None` means the gateway's shared listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<BindId>,
    /// Which of the shared listeners it is for.
    pub visibility: Visibility,
    /// Compared with the server name that the client asks for (SNI).
    pub names: Vec<HostPattern>,
    /// Position among those with the same name: lower comes first and decides; the certificates
    /// of later ones are offered too if everything else is equal.
    pub sort_key: SortKey,
    pub action: TlsAction,
}

/// Whether the gateway ends a TLS connection, passes it on or refuses it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum TlsAction {
    Terminate(Termination),
    /// Ended here, and what was inside goes to a backend as it is.
    Relay(Termination, Split),
    /// To a backend, encrypted as it is.
    Passthrough(Split),
    /// Closed without a word: nobody is there under these names.
    Refuse,
}

/// How the gateway ends TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Termination {
    /// Which of them a client gets is decided by the signatures that it knows. None means that
    /// the gateway's own authority issues one for the name when it is first asked for.
    pub certificates: Vec<Arc<Certificate>>,
    pub versions: TlsVersions,
    /// What handshakes may settle on.
    #[serde(skip_serializing_if = "Crypto::is_any")]
    pub crypto: Crypto,
    /// Offered to clients, most wanted first.
    pub protocols: Vec<Alpn>,
    pub client: ClientCertificates,
}

/// The versions that may be spoken, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TlsVersions {
    pub min: TlsVersion,
    pub max: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// A protocol inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Alpn {
    Http1,
    Http2,
}

impl Alpn {
    /// As it is called in the handshake.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Whether clients show a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ClientCertificates {
    /// They are not asked.
    None,
    /// They may; one that does not verify ends the connection.
    Optional(Arc<CaBundle>),
    /// They must, and it must verify.
    Require(Arc<CaBundle>),
    /// They may show any; nobody verifies it.
    Unverified,
}

/// Certificates (DER) that others are trusted by.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct CaBundle {
    /// The user's object, for messages.
    pub name: Arc<str>,
    #[serde(serialize_with = "count")]
    pub certificates: Vec<Box<[u8]>>,
}

/// A certificate with its chain (DER) and key.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Certificate {
    /// The user's object, for messages.
    pub name: Arc<str>,
    /// The end entity's certificate first.
    #[serde(serialize_with = "count")]
    pub chain: Vec<Box<[u8]>>,
    pub key: PrivateKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staple: Option<Staple>,
}

/// What an authority says about a certificate of its own (an OCSP response in DER, RFC 6960),
/// handed to clients that ask for it in the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Staple {
    #[serde(skip)]
    pub response: Box<[u8]>,
    /// When it ends, in seconds since 1970; never if the authority does not say.
    pub until: Option<i64>,
    /// Whether the certificate is not used any more once this has ended; else it is used without.
    pub is_required: bool,
}

/// A private key (DER: PKCS #8, PKCS #1 or SEC 1).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PrivateKey(Box<[u8]>);

impl PrivateKey {
    /// Takes the key's DER form.
    pub fn new(der: Box<[u8]>) -> Self {
        Self(der)
    }

    /// The key itself. Not for messages, logs or listings.
    pub fn secret(&self) -> &[u8] {
        &self.0
    }
}

/// How the gateway speaks TLS to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct UpstreamTls {
    /// Asked for in the handshake (SNI).
    pub server_name: Arc<str>,
    /// The backend's certificate must be for one of these; empty means for `server_name`. DNS
    /// names (`*.example.com` for any below), addresses, or whole URIs.
    pub accepted_names: Vec<Arc<str>>,
    pub trust: Trust,
    /// Shown if the backend asks.
    pub client: Option<Arc<Certificate>>,
    pub versions: TlsVersions,
    /// What handshakes may settle on.
    #[serde(skip_serializing_if = "Crypto::is_any")]
    pub crypto: Crypto,
}

/// Who must have signed a backend's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Trust {
    /// The authorities that the machine trusts.
    System,
    Bundle(Arc<CaBundle>),
    /// Nobody: the connection is encrypted, and anybody can be at its other end.
    Unverified,
}

fn count<S: Serializer>(certificates: &[Box<[u8]>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{} certificates", certificates.len()))
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CaBundle({}, {} certificates)",
            self.name,
            self.certificates.len()
        )
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.name)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit_struct("PrivateKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shows_neither_in_debug_output_nor_when_serialized() {
        let certificate = Certificate {
            name: "default/hello".into(),
            chain: vec![Box::from(*b"chain")],
            key: PrivateKey::new(Box::from(*b"hidden")),
            staple: None,
        };
        // The bytes of "hidden" as lists of numbers show them.
        let bytes = "104, 105, 100";
        let debug = format!("{certificate:?} {:?}", certificate.key);
        assert!(
            !debug.contains(bytes) && !debug.contains("hidden"),
            "{debug}"
        );
        let text = serde_json::to_string(&certificate).expect("serializes");
        assert!(text.contains("1 certificates"), "{text}");
        assert!(!text.contains("104") && !text.contains("hidden"), "{text}");
    }
}
