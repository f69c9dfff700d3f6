//! The local certificate authority: where it is kept, and how the gateway asks it; and how public
//! authorities are answered.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use authority::Authority;
use authority::acme::{Answers, SelfSigned};
use proxy::Challenges;
use routing::model::tls::{Certificate, PrivateKey};

/// Opens the authority of a data directory.
pub fn open(data_dir: &Path) -> anyhow::Result<Arc<Authority>> {
    let authority = Authority::open(&data_dir.join("ca"), reconcile::now().0);
    let authority = authority.context("cannot open the local certificate authority")?;
    Ok(Arc::new(authority))
}

/// The authority as the gateway's, for hosts that users bring no certificate for.
pub fn issuer(authority: &Arc<Authority>) -> Arc<dyn proxy::Issuer> {
    Arc::new(Issuer(Arc::clone(authority)))
}

#[derive(Debug)]
struct Issuer(Arc<Authority>);

impl proxy::Issuer for Issuer {
    fn issue(&self, name: &str) -> Result<Certificate, String> {
        let issued = self.0.issue(&[name.to_owned()], reconcile::now().0);
        let issued = issued.map_err(|error| error.to_string())?;
        Ok(Certificate {
            name: format!("of the local authority for {name}").into(),
            chain: vec![issued.certificate_der().into()],
            key: PrivateKey::new(issued.key_der().into()),
            staple: None,
        })
    }
}

/// The gateway as ACME's.
pub fn answers(challenges: &Challenges) -> Arc<dyn Answers> {
    Arc::new(Gateway(challenges.clone()))
}

#[derive(Debug)]
struct Gateway(Challenges);

impl Answers for Gateway {
    fn http(&self, token: &str, text: Option<&str>) {
        self.0.set_http(token, text);
    }

    fn tls(&self, host: &str, certificate: Option<SelfSigned>) {
        let certificate = certificate.map(|made| Certificate {
            name: format!("of a challenge for {host}").into(),
            chain: vec![made.certificate_der.into()],
            key: PrivateKey::new(made.key_der.into()),
            staple: None,
        });
        if let Err(error) = self.0.set_tls(host, certificate.as_ref()) {
            // The authority will say that it saw something else.
            tracing::error!(host, error, "a challenge of ACME is not answered");
        }
    }
}
