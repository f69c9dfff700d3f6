//! How the connections of one name are ended, where the gateway chooses among suites of TLS 1.2.
//!
//! Rustls prefers as its client or as its server does, over the whole list. Here groups are wanted
//! one after the other and the client chooses within one, so each group has a configuration: a
//! hello gets that of the first from which something can come. All of them know every suite of
//! TLS 1.3.

use std::sync::Arc;

use routing::model::tls::{Termination, TlsVersion};
use routing::model::{Crypto, Suite};
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
};
use rustls::{Error, SignatureScheme};

use super::config::client_verifier;
use super::{provider_of, suite, versions};

/// The certificates of a name.
pub(super) trait Shown: ResolvesServerCert {
    /// Whether one of them, with an RSA key or with another, signs so that a client that knows
    /// these schemes can tell.
    fn signs(&self, schemes: &[SignatureScheme], is_rsa: bool) -> bool;
}

/// Configurations by group of suites; one if the client chooses among all.
#[derive(Debug)]
pub(super) struct Ending {
    groups: Vec<Vec<Suite>>,
    /// In the order of the groups, and one at least.
    configs: Vec<Arc<ServerConfig>>,
    certificates: Arc<dyn Shown>,
}

impl Ending {
    pub(super) fn new(
        termination: &Termination,
        certificates: Arc<dyn Shown>,
    ) -> Result<Self, String> {
        let groups = termination.crypto.suites.clone();
        // Tickets keep nothing here; their keys are made anew every six hours, and are this record's
        // own: a session of one host never opens another that asks for more.
        let tickets = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        let config = |suites: Vec<Vec<Suite>>| {
            let config = build(termination, suites, &certificates, &tickets);
            config.map(Arc::new)
        };
        let configs: Result<Vec<_>, _> = match groups.len() {
            0 | 1 => [config(groups.clone())].into_iter().collect(),
            _ => groups.iter().map(|it| config(vec![it.clone()])).collect(),
        };
        Ok(Self {
            groups,
            configs: configs?,
            certificates,
        })
    }

    /// For clients of TLS 1.3.
    #[cfg(feature = "http3")]
    pub(super) fn any(&self) -> &Arc<ServerConfig> {
        &self.configs[0]
    }

    /// For this client. Where no group fits, the handshake fails with any of them, unless it comes
    /// to TLS 1.3.
    pub(super) fn of(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        let (known, schemes) = (hello.cipher_suites(), hello.signature_schemes());
        let signs = [false, true].map(|is_rsa| self.certificates.signs(schemes, is_rsa));
        let fits = |wanted: &Suite| {
            signs[usize::from(wanted.is_rsa())] && known.contains(&suite(*wanted).suite())
        };
        let fitting = self.groups.iter().position(|group| group.iter().any(fits));
        let config = fitting.and_then(|at| self.configs.get(at));
        config.unwrap_or(&self.configs[0])
    }
}

fn build(
    termination: &Termination,
    suites: Vec<Vec<Suite>>,
    certificates: &Arc<dyn Shown>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, String> {
    let crypto = Crypto {
        suites,
        curves: termination.crypto.curves.clone(),
    };
    let mut provider = provider_of(&crypto);
    if termination.versions.max < TlsVersion::V1_3 && !crypto.suites.is_empty() {
        // Rustls takes a certificate that any common suite goes with, and those of TLS 1.3 go with
        // every one.
        let provider = Arc::make_mut(&mut provider);
        provider.cipher_suites.retain(|it| it.tls13().is_none());
    }
    let explain = |error: Error| error.to_string();
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(termination.versions))
        .map_err(explain)?;
    let builder = builder.with_client_cert_verifier(client_verifier(&termination.client)?);
    let mut config = builder.with_cert_resolver(Arc::clone(certificates) as _);
    let protocols = termination.protocols.iter();
    config.alpn_protocols = protocols.map(|protocol| protocol.name().to_vec()).collect();
    config.ticketer = Arc::clone(tickets);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
