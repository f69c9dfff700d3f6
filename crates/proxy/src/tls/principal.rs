//! Who a client's certificate is for, where somebody has verified it.

use routing::model::tls::ClientCertificates;
use routing::{CompiledTls, CompiledTlsAction};
use rustls::Connection;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const SPIFFE: &str = "spiffe://";

/// The identity without `spiffe://`, or else the first other name; `None` without a certificate,
/// and where certificates are not verified: then everybody could be anybody.
pub(crate) fn principal(tls: &CompiledTls, session: &Connection) -> Option<Box<str>> {
    let shown = session.peer_certificates();
    principal_of(tls, shown.and_then(<[_]>::first))
}

/// The same for the certificate that a client has shown.
pub(crate) fn principal_of(
    tls: &CompiledTls,
    shown: Option<&CertificateDer<'_>>,
) -> Option<Box<str>> {
    let CompiledTlsAction::Terminate(termination) = &tls.action else {
        return None;
    };
    match termination.client {
        ClientCertificates::Optional(_) | ClientCertificates::Require(_) => {}
        ClientCertificates::None | ClientCertificates::Unverified => return None,
    }
    name(shown?)
}

fn name(der: &[u8]) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let names = &names.value.general_names;
    let spiffe = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SPIFFE),
        _ => None,
    });
    let first = || {
        names.iter().find_map(|name| match name {
            GeneralName::URI(text) | GeneralName::DNSName(text) | GeneralName::RFC822Name(text) => {
                Some(*text)
            }
            _ => None,
        })
    };
    spiffe.or_else(first).map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    #[test]
    fn an_identity_comes_before_other_names() {
        let key = KeyPair::generate().expect("a key");
        let of = |names: &[SanType]| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names.to_vec();
            let certificate = params.self_signed(&key).expect("a certificate");
            name(certificate.der())
        };
        let dns = SanType::DnsName("a.example".try_into().expect("a name"));
        let identity = "spiffe://cluster.local/ns/default/sa/web";
        let spiffe = SanType::URI(identity.try_into().expect("a name"));
        let both = of(&[dns.clone(), spiffe]);
        assert_eq!(both.as_deref(), Some("cluster.local/ns/default/sa/web"));
        assert_eq!(of(&[dns]).as_deref(), Some("a.example"));
        assert_eq!(of(&[]), None);
        assert_eq!(name(b"no certificate"), None);
    }
}
