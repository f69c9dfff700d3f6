//! A Secret of type `kubernetes.io/tls` → a certificate for the gateway, checked as far as a
//! handshake will need it; a ConfigMap or a ClusterTrustBundle → the certificates of authorities.

use std::sync::{Arc, LazyLock};

use api::certificates::ClusterTrustBundle;
use dialects::gateway_api::AuthoritiesState;
use dialects::{CertificateState, Name};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use routing::model::tls::{CaBundle, Certificate, PrivateKey};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::staple;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// What the authority says about the certificate, in DER; the name is Istio's and Gloo's.
const STAPLE: &str = "tls.ocsp-staple";
/// In ConfigMaps.
const AUTHORITIES: &str = "ca.crt";

/// The certificates of authorities that a ConfigMap holds.
pub(crate) fn authorities(name: &Name, map: &ConfigMap) -> AuthoritiesState {
    let data = map.data.as_ref().and_then(|data| data.get(AUTHORITIES));
    let data = data.ok_or_else(|| format!("it has no {AUTHORITIES}"))?;
    bundle(name.to_string(), AUTHORITIES, data)
}

/// The same of a ClusterTrustBundle.
pub(crate) fn trust_bundle(name: &Name, object: &ClusterTrustBundle) -> AuthoritiesState {
    let text = &object.spec.trust_bundle;
    bundle(name.name.to_string(), "spec.trustBundle", text)
}

fn bundle(name: String, field: &str, text: &str) -> AuthoritiesState {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let certificates = parsed.map_err(|_| format!("{field} is not PEM"))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("{field} holds what is no certificate: {error}"))?;
    }
    if certificates.is_empty() {
        return Err(format!("{field} holds no certificate in PEM form").into());
    }
    Ok(Arc::new(CaBundle {
        name: name.into(),
        certificates: certificates.iter().map(|der| der.to_vec().into()).collect(),
    }))
}

/// What most Secrets hold.
static NO_CERTIFICATE: LazyLock<Arc<str>> =
    LazyLock::new(|| format!("it has no {CERTIFICATE}").into());

/// What a Secret holds. The texts never quote what is in it.
pub(crate) fn read(name: &Name, secret: &Secret) -> CertificateState {
    let data = secret.data.as_ref();
    if !data.is_some_and(|data| data.contains_key(CERTIFICATE)) {
        return Err(Arc::clone(&NO_CERTIFICATE));
    }
    parse(name, secret).map(Arc::new).map_err(Arc::from)
}

fn parse(name: &Name, secret: &Secret) -> Result<Certificate, String> {
    let field = |key: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        let data = data.filter(|data| !data.0.is_empty());
        data.map(|data| data.0.as_slice())
            .ok_or_else(|| format!("it has no {key}"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(field(CERTIFICATE)?).collect();
    let chain = chain.map_err(|_| format!("{CERTIFICATE} is not PEM"))?;
    if chain.is_empty() {
        return Err(format!("{CERTIFICATE} holds no certificate in PEM form"));
    }
    let key = PrivateKeyDer::from_pem_slice(field(KEY)?)
        .map_err(|_| format!("{KEY} holds no private key in PEM form"))?;
    let staple = match (field(STAPLE), chain.first()) {
        (Ok(response), Some(leaf)) => {
            let staple = staple::read(response, leaf);
            Some(staple.map_err(|why| format!("{STAPLE} {why}"))?)
        }
        _ => None,
    };
    let certificate = Certificate {
        name: name.to_string().into(),
        chain: chain.iter().map(|der| der.to_vec().into()).collect(),
        key: PrivateKey::new(key.secret_der().into()),
        staple,
    };
    let provider = aws_lc_rs::default_provider();
    let old = is_old(&chain, &key);
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(certificate),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(format!("{KEY} is not the key of {CERTIFICATE}"))
        }
        Err(rustls::Error::InvalidCertificate(_)) if old => Ok(certificate),
        Err(error) => Err(format!("{CERTIFICATE} and {KEY}: {error}")),
    }
}

/// Whether this is the key of a certificate of X.509's first version, as `openssl x509 -req` makes
/// it unless it is told of extensions. The library reads those of version 3 alone, but a server
/// only shows them, and many clients take them. Such a one has no version field.
fn is_old(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> bool {
    /// The tag of a version.
    const VERSION: u8 = 0xa0;
    let Some(leaf) = chain.first() else {
        return false;
    };
    let key = aws_lc_rs::sign::any_supported_type(key);
    let Some(public) = key
        .ok()
        .and_then(|key| key.public_key().map(|it| it.to_vec()))
    else {
        return false;
    };
    let first = sequence(leaf).and_then(sequence).and_then(<[u8]>::first);
    let is_first_version = first.is_some_and(|tag| *tag != VERSION);
    is_first_version && leaf.windows(public.len()).any(|part| part == public)
}

/// What is in the DER sequence that the bytes begin with.
fn sequence(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0x30, length @ 0..=0x7f, rest @ ..] => rest.get(..usize::from(*length)),
        [0x30, 0x81, length, rest @ ..] => rest.get(..usize::from(*length)),
        [0x30, 0x82, high, low, rest @ ..] => {
            rest.get(..usize::from(u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    fn state(certificate: &str, key: &str) -> CertificateState {
        let entries = [(CERTIFICATE, certificate), (KEY, key)];
        let data = entries.map(|(key, text)| (key.to_owned(), ByteString(text.into())));
        let secret = Secret {
            data: Some(data.into()),
            ..Secret::default()
        };
        read(&Name::new("default", "tls"), &secret)
    }

    fn made() -> (String, String) {
        let Made { cert, signing_key } =
            generate_simple_self_signed(vec!["a.example".into()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_taken() {
        let (certificate, key) = made();
        let read = state(&certificate, &key).expect("it is whole");
        assert_eq!((&*read.name, read.chain.len()), ("default/tls", 1));
    }

    #[test]
    fn what_is_broken_is_named_and_never_quoted() {
        let ((certificate, key), (_, other)) = (made(), made());
        let broken = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        for (certificate, key, expected) in [
            ("", &*key, "it has no tls.crt"),
            (&*certificate, "", "it has no tls.key"),
            (&*key, &*key, "tls.crt holds no certificate in PEM form"),
            (
                &*certificate,
                "secret",
                "tls.key holds no private key in PEM form",
            ),
            (&*certificate, &*other, "tls.key is not the key of tls.crt"),
        ] {
            assert_eq!(
                state(certificate, key).expect_err(expected).as_ref(),
                expected
            );
        }
        let error = state(&certificate, broken).expect_err("no key");
        assert!(!error.contains("secret"), "{error}");
        let none = read(&Name::new("default", "token"), &Secret::default());
        assert_eq!(none.expect_err("empty").as_ref(), "it has no tls.crt");
    }

    /// The parts of a DER sequence.
    fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        while bytes.len() > 1 {
            let (header, length) = match bytes[1] {
                0x81 => (3, usize::from(bytes[2])),
                0x82 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                short => (2, usize::from(short)),
            };
            let (part, rest) = bytes.split_at(header + length);
            parts.push(part);
            bytes = rest;
        }
        parts
    }

    fn sequence_of(parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        [&[0x30, 0x82], &length[..], &content].concat()
    }

    /// The same certificate without what came with later versions. Nobody looks at its signature.
    fn first_version(certificate: &[u8]) -> CertificateDer<'static> {
        let all = parts(sequence(certificate).expect("a certificate"));
        let signed = parts(sequence(all[0]).expect("its fields"));
        let old = signed.into_iter().filter(|part| part[0] & 0xe0 != 0xa0);
        let old = sequence_of(&old.collect::<Vec<_>>());
        sequence_of(&[&old, all[1], all[2]]).into()
    }

    #[test]
    fn a_certificate_of_the_first_version_is_taken_with_its_own_key_only() {
        let Made { cert, signing_key } =
            generate_simple_self_signed(vec!["a.example".into()]).expect("a certificate");
        let chain = vec![first_version(cert.der())];
        let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes());
        let key = key.expect("a key");
        let provider = aws_lc_rs::default_provider();
        let refused = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider);
        assert!(refused.is_err(), "the library takes it by itself now");
        assert!(is_old(&chain, &key));
        assert!(!is_old(&[cert.der().clone()], &key));
        let (_, other) = made();
        let other = PrivateKeyDer::from_pem_slice(other.as_bytes()).expect("a key");
        assert!(!is_old(&chain, &other));
    }
}
