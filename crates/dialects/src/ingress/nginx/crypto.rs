//! `ssl-ciphers` and `ssl-prefer-server-ciphers`: what handshakes for the hosts of `spec.tls` may
//! settle on. The gateway chooses among suites, unless it is told to leave that to clients.

use routing::model::tls::{TlsVersion, TlsVersions};
use routing::model::{Crypto, Suite};

use super::{Annotations, Wishes};
use crate::shared::crypto;

const VERSIONS: TlsVersions = TlsVersions {
    min: TlsVersion::V1_2,
    max: TlsVersion::V1_3,
};

impl Annotations<'_> {
    pub(super) fn crypto(&mut self, wishes: &mut Wishes) {
        let prefers = self.flag("ssl-prefer-server-ciphers");
        let mut suites: Vec<Vec<Suite>> = match prefers {
            Some(true) => Suite::ALL.map(|suite| vec![suite]).to_vec(),
            Some(false) | None => Vec::new(),
        };
        if let Some((key, list)) = self.take("ssl-ciphers") {
            match crypto::suites(&[list], VERSIONS) {
                Ok(listed) => {
                    if let Some(text) = listed.told() {
                        self.refuse(key, &text);
                    }
                    if !listed.wanted.is_empty() {
                        suites = listed.wanted;
                    }
                }
                Err(text) => {
                    wishes.has_no_suites = true;
                    self.refuse(key, &format!("{text}; nothing is served by HTTPS"));
                }
            }
        }
        if prefers == Some(false) && !suites.is_empty() {
            suites = vec![suites.concat()];
        }
        wishes.crypto = (!suites.is_empty()).then_some(Crypto {
            suites,
            curves: Vec::new(),
        });
    }
}
