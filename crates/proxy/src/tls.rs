//! TLS: what the model says about it, as rustls wants it, and both kinds of handshake.
//!
//! One provider, aws-lc-rs: the API server links it already, and its handshakes are the cheapest.
//! Key material stays inside rustls' types, which do not print it.

pub(crate) mod accept;
mod alternative;
mod client;
mod config;
mod ending;
mod own;
mod principal;
pub(crate) mod stream;

use std::sync::{Arc, LazyLock};

use routing::model::tls::{TlsVersion, TlsVersions};
use routing::model::{Crypto, Curve, Suite};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

pub(crate) use client::{Clients, connect};
#[cfg(feature = "http3")]
pub(crate) use config::datagram_config;
pub use own::Issuer;
#[cfg(feature = "http3")]
pub(crate) use principal::principal_of;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Everything cryptographic.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// Everything cryptographic, with no more to settle on than this.
fn provider_of(crypto: &Crypto) -> Arc<CryptoProvider> {
    if crypto.is_any() {
        return provider();
    }
    let mut provider = CryptoProvider::clone(&PROVIDER);
    if !crypto.suites.is_empty() {
        let is_newer = |it: &SupportedCipherSuite| it.tls13().is_some();
        provider.cipher_suites.retain(is_newer);
        let wanted = crypto.suites.iter().flatten();
        provider.cipher_suites.extend(wanted.map(|it| suite(*it)));
    }
    if !crypto.curves.is_empty() {
        provider.kx_groups = crypto.curves.iter().map(|it| curve(*it)).collect();
    }
    Arc::new(provider)
}

/// A suite of TLS 1.2.
fn suite(suite: Suite) -> SupportedCipherSuite {
    match suite {
        Suite::EcdsaAes128Gcm => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Suite::EcdsaAes256Gcm => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Suite::EcdsaChacha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Suite::RsaAes128Gcm => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        Suite::RsaAes256Gcm => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Suite::RsaChacha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn curve(curve: Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::X25519 => kx_group::X25519,
        Curve::P256 => kx_group::SECP256R1,
        Curve::P384 => kx_group::SECP384R1,
        Curve::X25519MlKem768 => kx_group::X25519MLKEM768,
    }
}

/// The versions within these bounds, newest first.
fn versions(bounds: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    let known = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)];
    let allowed = known
        .into_iter()
        .filter(|(version, _)| (bounds.min..=bounds.max).contains(version));
    allowed.map(|(_, supported)| supported).collect()
}
