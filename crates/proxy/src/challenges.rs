//! Answers to authorities that ask whether a host leads here (ACME, RFC 8555 §8.3 and RFC 8737).
//!
//! They come before every route: a host that redirects to `https`, or asks for credentials, must
//! be able to get its certificate too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use routing::RequestView as _;
use routing::model::tls::Certificate;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::downstream::Reply;
use crate::message::View;
use crate::tls;

/// Where an authority looks (RFC 8555 §8.3).
const PATH: &str = "/.well-known/acme-challenge/";
/// The protocol of RFC 8737.
const PROTOCOL: &[u8] = b"acme-tls/1";
/// Answers at once. An order of a hundred names needs so many.
const MOST: usize = 10_000;

/// The answers that are given. Clone freely.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Spares requests the look at the rest.
    is_on: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By token.
    http: HashMap<String, String>,
    /// By host.
    tls: HashMap<String, Arc<ServerConfig>>,
}

impl Challenges {
    /// Answers with `text` to who asks for the token, or no more.
    pub fn set_http(&self, token: &str, text: Option<&str>) {
        let mut held = self.lock();
        match text {
            Some(text) if held.http.len() < MOST => {
                held.http.insert(token.to_owned(), text.to_owned());
            }
            Some(_) => tracing::warn!("too many challenges of ACME at once"),
            None => drop(held.http.remove(token)),
        }
        self.note(&held);
    }

    /// Shows a certificate to who asks for `acme-tls/1` of a host, or no more.
    ///
    /// # Errors
    /// If the key cannot be used.
    pub fn set_tls(&self, host: &str, certificate: Option<&Certificate>) -> Result<(), String> {
        let config = certificate.map(config).transpose()?;
        let mut held = self.lock();
        match config {
            Some(config) if held.tls.len() < MOST => {
                held.tls.insert(host.to_owned(), config);
            }
            Some(_) => return Err("too many challenges of ACME at once".to_owned()),
            None => drop(held.tls.remove(host)),
        }
        self.note(&held);
        Ok(())
    }

    /// The answer to a request, if it is a question that is answered here.
    pub(crate) fn answer(&self, view: View<'_>) -> Option<Reply> {
        if !self.is_on() {
            return None;
        }
        let token = view.path().strip_prefix(PATH)?;
        let body = self.lock().http.get(token)?.clone();
        let kind = ("Content-Type", "application/octet-stream");
        Some(Reply {
            status: 200,
            headers: vec![(kind.0.into(), kind.1.into())],
            body: body.into(),
            flag: "acme",
            ..Reply::default()
        })
    }

    /// How a handshake goes on whose client speaks nothing but `acme-tls/1`.
    pub(crate) fn handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if !self.is_on() {
            return None;
        }
        let is_asked = hello.alpn()?.eq([PROTOCOL]);
        let host = hello.server_name().filter(|_| is_asked)?;
        self.lock().tls.get(&host.to_ascii_lowercase()).cloned()
    }

    /// Whether anything may be asked now.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Acquire)
    }

    fn note(&self, held: &Held) {
        let is_on = !held.http.is_empty() || !held.tls.is_empty();
        self.0.is_on.store(is_on, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config(certificate: &Certificate) -> Result<Arc<ServerConfig>, String> {
    let chain = certificate.chain.iter();
    let chain = chain
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let key = PrivateKeyDer::try_from(certificate.key.secret().to_vec())?;
    let key = tls::provider().key_provider.load_private_key(key);
    // Not compared with the certificate: its critical extension is unknown to who would do it.
    let key = CertifiedKey::new(chain, key.map_err(|error| error.to_string())?);
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}
