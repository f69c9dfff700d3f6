//! Names of certificates that the library for handshakes does not compare: URIs, and wildcards.

use std::sync::Arc;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// `scheme:rest`, or `*.example.com` for all names below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AlternativeName(pub(super) Arc<str>);

impl AlternativeName {
    /// Whether a text is one.
    pub(super) fn is(text: &str) -> bool {
        text.contains(':') || text.starts_with("*.")
    }

    /// Whether a certificate (DER) is for this name.
    pub(super) fn is_in(&self, der: &[u8]) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return false;
        };
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return false;
        };
        names.value.general_names.iter().any(|name| match name {
            GeneralName::URI(uri) => *uri == &*self.0,
            GeneralName::DNSName(name) => self.covers(name),
            _ => false,
        })
    }

    /// A wildcard covers itself, and every name that ends with what follows its asterisk.
    fn covers(&self, name: &str) -> bool {
        let Some(suffix) = self.0.strip_prefix('*') else {
            return false;
        };
        let begin = name.len().checked_sub(suffix.len());
        begin.is_some_and(|begin| {
            begin > 0
                && name
                    .get(begin..)
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    #[test]
    fn uris_are_compared_whole_and_wildcards_by_their_end() {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI("spiffe://a.example/one".try_into().expect("a name")),
            SanType::DnsName("b.c.example".try_into().expect("a name")),
        ];
        let certificate = params.self_signed(&key).expect("a certificate");
        let is_in = |name: &str| AlternativeName(name.into()).is_in(certificate.der());
        assert!(is_in("spiffe://a.example/one"));
        assert!(!is_in("spiffe://a.example/on"));
        assert!(is_in("*.c.example") && is_in("*.EXAMPLE"));
        assert!(!is_in("*.b.c.example") && !is_in("*.d.example"));
        assert!(!AlternativeName("*.a".into()).is_in(b"no certificate"));
        assert!(!AlternativeName::is("a.example"));
    }
}
