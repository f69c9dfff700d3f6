//! Authorities that ask whether a host leads here.

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use routing::model::tls::{Certificate, PrivateKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use testkit::http::ask;

use super::tls::{Authority, connect, teapot, termination};
use super::*;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[tokio::test]
async fn a_token_is_answered_before_every_route_as_long_as_it_is_given() {
    let mut gateway = Gateway::start().await;
    gateway.route("a", Action::Respond(teapot()));
    let challenges = gateway.gateway.challenges().clone();
    let path = get("/.well-known/acme-challenge/token");
    assert_eq!(ask(gateway.address, &path).await.status(), 418);
    challenges.set_http("token", Some("token.thumb"));
    let answer = ask(gateway.address, &path).await;
    assert_eq!(
        (answer.status(), answer.text()),
        (200, "token.thumb".into())
    );
    let other = ask(gateway.address, get("/.well-known/acme-challenge/other")).await;
    assert_eq!(other.status(), 418);
    challenges.set_http("token", None);
    assert_eq!(ask(gateway.address, &path).await.status(), 418);
}

/// Takes every certificate, as an authority does that looks at it itself.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn proof(host: &str) -> Certificate {
    let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
    let key = KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("signed");
    Certificate {
        name: "a proof".into(),
        chain: vec![made.der().to_vec().into()],
        key: PrivateKey::new(key.serialize_der().into()),
        staple: None,
    }
}

#[tokio::test]
async fn a_proof_is_shown_to_who_speaks_acme_alone_and_to_nobody_else() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    let challenges = gateway.gateway.challenges().clone();
    let proof = proof("a");
    challenges.set_tls("a", Some(&proof)).expect("usable");
    let asking = |protocols: &[&[u8]]| {
        let mut config: ClientConfig = authority.client();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(Anybody));
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Arc::new(config)
    };
    let acme = asking(&[b"acme-tls/1"]);
    let stream = connect(&gateway, "a", &acme).await.expect("a handshake");
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let shown = session.peer_certificates().expect("shown");
    assert_eq!(&*shown[0], &*proof.chain[0]);

    let usual = asking(&[b"http/1.1"]);
    let stream = connect(&gateway, "a", &usual).await.expect("a handshake");
    let shown = stream.get_ref().1.peer_certificates().expect("shown");
    assert_ne!(&*shown[0], &*proof.chain[0]);
    challenges.set_tls("a", None).expect("removed");
    let refused = connect(&gateway, "a", &acme).await;
    assert!(refused.is_err(), "nobody answers any more");
}
