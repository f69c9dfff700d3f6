//! What an authority says of a certificate goes along with it, while it holds.

use std::sync::Mutex;

use routing::model::tls::{Certificate, Staple};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::tls::{Authority, connect, termination};
use super::*;

/// Notes the response that the gateway hands over, and trusts everybody.
#[derive(Debug, Default)]
struct Noted(Mutex<Vec<u8>>);

impl ServerCertVerifier for Noted {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        response: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().expect("not poisoned") = response.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        let known = provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}

fn stapled(
    authority: &Authority,
    name: &str,
    until: Option<i64>,
    is_required: bool,
) -> Certificate {
    let mut certificate = authority.issue(&[name]);
    certificate.staple = Some(Staple {
        response: Box::from(*b"all is well"),
        until,
        is_required,
    });
    certificate
}

#[tokio::test]
async fn a_response_is_stapled_until_it_ends_and_what_needs_it_is_then_not_shown() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let (past, future) = (Some(1_000_000_000), Some(32_503_680_000));
    let cases = [
        ("plain", authority.issue(&["plain"]), Some(&b""[..])),
        (
            "endless",
            stapled(&authority, "endless", None, false),
            Some(b"all is well"),
        ),
        (
            "good",
            stapled(&authority, "good", future, true),
            Some(b"all is well"),
        ),
        (
            "ended",
            stapled(&authority, "ended", past, false),
            Some(b""),
        ),
        ("must", stapled(&authority, "must", past, true), None),
    ];
    for (name, certificate, expected) in cases {
        gateway.terminate(name, termination(vec![certificate]));
        let noted = Arc::new(Noted::default());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&noted) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let connected = connect(&gateway, name, &Arc::new(config)).await;
        assert_eq!(connected.is_ok(), expected.is_some(), "{name}");
        if let Some(expected) = expected {
            assert_eq!(*noted.0.lock().expect("not poisoned"), expected, "{name}");
        }
    }
}
