//! The local certificate authority: where it is kept, and how the gateway asks it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use authority::Authority;
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
        })
    }
}
