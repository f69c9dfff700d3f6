//! Certificates that the gateway issues itself, for names that users bring none for: made when a
//! name is first asked for, and made anew long before they end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use routing::model::tls::Certificate;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::config::certified_key;
use super::ending::Shown;

/// Signs certificates for names of the gateway's hosts.
pub trait Issuer: fmt::Debug + Send + Sync {
    /// A new certificate for a name, perhaps a wildcard, that is good for 60 days at least.
    ///
    /// # Errors
    /// Why there is none.
    fn issue(&self, name: &str) -> Result<Certificate, String>;
}

/// After this time a certificate is replaced.
const RENEW: Duration = Duration::from_secs(30 * 24 * 3600);

/// The certificate of one name.
pub(super) struct OwnCertificate {
    name: String,
    issuer: Arc<dyn Issuer>,
    /// With the time of its making.
    held: Mutex<(Instant, Arc<CertifiedKey>)>,
}

impl OwnCertificate {
    pub(super) fn new(name: String, issuer: Arc<dyn Issuer>) -> Result<Self, String> {
        let made = make(&name, issuer.as_ref())?;
        Ok(Self {
            name,
            issuer,
            held: Mutex::new((Instant::now(), made)),
        })
    }
}

fn make(name: &str, issuer: &dyn Issuer) -> Result<Arc<CertifiedKey>, String> {
    let certificate = issuer.issue(name)?;
    certified_key(&certificate).map_err(|error| error.to_string())
}

impl Shown for OwnCertificate {
    fn signs(&self, schemes: &[SignatureScheme], is_rsa: bool) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let key = &held.1.key;
        (key.algorithm() == SignatureAlgorithm::RSA) == is_rsa
            && key.choose_scheme(schemes).is_some()
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0.elapsed() > RENEW {
            match make(&self.name, self.issuer.as_ref()) {
                Ok(made) => *held = (Instant::now(), made),
                // The old one is good for a while, and the next handshake tries again.
                Err(error) => {
                    tracing::warn!(name = %self.name, %error, "cannot renew a certificate");
                }
            }
        }
        Some(Arc::clone(&held.1))
    }
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnCertificate({})", self.name)
    }
}
