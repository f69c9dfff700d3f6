//! TLS: what the model says about it, as rustls wants it, and both kinds of handshake.
//!
//! One provider, aws-lc-rs: the API server links it already, and its handshakes are the cheapest.
//! Key material stays inside rustls' types, which do not print it.

pub(crate) mod accept;
mod alternative;
mod client;
mod config;
mod own;
mod principal;
pub(crate) mod stream;

use std::sync::{Arc, LazyLock};

use routing::model::tls::{TlsVersion, TlsVersions};
use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

pub(crate) use client::{Clients, connect};
#[cfg(feature = "http3")]
pub(crate) use config::server_config;
pub use own::Issuer;
#[cfg(feature = "http3")]
pub(crate) use principal::principal_of;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Everything cryptographic.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// The versions within these bounds, newest first.
fn versions(bounds: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    let known = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)];
    let allowed = known
        .into_iter()
        .filter(|(version, _)| (bounds.min..=bounds.max).contains(version));
    allowed.map(|(_, supported)| supported).collect()
}
