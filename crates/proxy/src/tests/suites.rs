//! What handshakes settle on where the model says it: suites of TLS 1.2, curves, at both ends.

use rcgen::KeyPair;
use routing::model::tls::{Trust, UpstreamTls};
use routing::model::{Crypto, Curve, Suite};
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};

use super::tls::{Authority, BOTH, backend_server, connect, termination};
use super::*;

use Suite::{EcdsaAes128Gcm, EcdsaAes256Gcm, EcdsaChacha20, RsaAes128Gcm, RsaChacha20};
use cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 as ECDSA_128,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 as ECDSA_256,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 as ECDSA_CHACHA,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 as RSA_128,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 as RSA_CHACHA, TLS13_AES_128_GCM_SHA256 as NEW_128,
    TLS13_CHACHA20_POLY1305_SHA256 as NEW_CHACHA,
};

fn provider(suites: &[SupportedCipherSuite]) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: suites.to_vec(),
        ..aws_lc_rs::default_provider()
    }
}

fn curves(groups: &[&'static dyn SupportedKxGroup]) -> CryptoProvider {
    CryptoProvider {
        kx_groups: groups.to_vec(),
        ..aws_lc_rs::default_provider()
    }
}

/// A gateway whose host `a` has certificates of both kinds.
async fn offering(authority: &Authority, crypto: Crypto) -> Gateway {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let both = vec![authority.issue(&["a"]), authority.issue_with(&["a"], rsa)];
    let mut gateway = Gateway::start().await;
    let mut wanted = termination(both);
    wanted.crypto = crypto;
    gateway.terminate("a", wanted);
    gateway
}

/// What a client and the gateway settle on; `None` if on nothing.
async fn settled(
    gateway: &Gateway,
    config: &Arc<rustls::ClientConfig>,
) -> Option<(CipherSuite, NamedGroup)> {
    let stream = connect(gateway, "a", config).await.ok()?;
    let session = stream.get_ref().1;
    let suite = session.negotiated_cipher_suite()?.suite();
    let group = session.negotiated_key_exchange_group()?.name();
    Some((suite, group))
}

fn suites(groups: &[&[Suite]]) -> Crypto {
    Crypto {
        suites: groups.iter().map(|group| group.to_vec()).collect(),
        curves: Vec::new(),
    }
}

#[tokio::test]
async fn the_order_of_suites_is_the_hosts_and_within_a_group_the_clients() {
    let authority = Authority::new();
    let written = suites(&[
        &[EcdsaChacha20, EcdsaAes128Gcm],
        &[RsaChacha20],
        &[RsaAes128Gcm],
    ]);
    let gateway = offering(&authority, written).await;
    let cases: [(&[SupportedCipherSuite], Option<SupportedCipherSuite>); 6] = [
        (&[RSA_128, RSA_CHACHA, ECDSA_128], Some(ECDSA_128)),
        (&[RSA_128, ECDSA_128, ECDSA_CHACHA], Some(ECDSA_128)),
        (&[RSA_128, ECDSA_CHACHA, ECDSA_128], Some(ECDSA_CHACHA)),
        (&[ECDSA_256, RSA_128, RSA_CHACHA], Some(RSA_CHACHA)),
        (&[ECDSA_256, RSA_128], Some(RSA_128)),
        (&[ECDSA_256], None),
    ];
    for (offered, expected) in cases {
        let client = authority.client_with(&[&TLS12], provider(offered));
        let got = settled(&gateway, &client).await.map(|(suite, _)| suite);
        assert_eq!(got, expected.map(|it| it.suite()), "{offered:?}");
    }
}

#[tokio::test]
async fn a_suite_counts_only_with_a_certificate_for_it() {
    let authority = Authority::new();
    let mut gateway = Gateway::start().await;
    let mut wanted = termination(vec![authority.issue(&["a"])]);
    wanted.crypto = suites(&[&[RsaChacha20], &[EcdsaAes256Gcm]]);
    gateway.terminate("a", wanted.clone());
    let client = authority.client_with(&[&TLS12], provider(&[RSA_CHACHA, ECDSA_256]));
    let got = settled(&gateway, &client).await.map(|(suite, _)| suite);
    assert_eq!(got, Some(ECDSA_256.suite()));
    // A host that does not speak TLS 1.3 to clients that would.
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let rsa = authority.issue_with(&["a"], rsa);
    wanted.certificates.push(Arc::new(rsa));
    wanted.versions.max = routing::model::tls::TlsVersion::V1_2;
    gateway.terminate("a", wanted);
    let client = authority.client_with(&[&TLS13, &TLS12], aws_lc_rs::default_provider());
    let got = settled(&gateway, &client).await.map(|(suite, _)| suite);
    assert_eq!(got, Some(RSA_CHACHA.suite()));
}

#[tokio::test]
async fn suites_of_the_newest_version_stay_the_clients_choice() {
    let authority = Authority::new();
    let gateway = offering(&authority, suites(&[&[RsaAes128Gcm], &[EcdsaAes128Gcm]])).await;
    for wanted in [NEW_CHACHA, NEW_128] {
        let offered = [&[wanted][..], aws_lc_rs::DEFAULT_CIPHER_SUITES].concat();
        let client = authority.client_with(&[&TLS13, &TLS12], provider(&offered));
        let got = settled(&gateway, &client).await.map(|(suite, _)| suite);
        assert_eq!(got, Some(wanted.suite()));
    }
}

#[tokio::test]
async fn clients_must_know_one_of_the_hosts_curves() {
    let authority = Authority::new();
    let crypto = Crypto {
        suites: Vec::new(),
        curves: vec![Curve::P384, Curve::P256],
    };
    let gateway = offering(&authority, crypto).await;
    for version in [&TLS12, &TLS13] {
        let client = |groups: &[&'static dyn SupportedKxGroup]| {
            authority.client_with(&[version], curves(groups))
        };
        let strange = client(&[kx_group::X25519]);
        assert_eq!(settled(&gateway, &strange).await, None);
        let one = client(&[kx_group::X25519, kx_group::SECP384R1]);
        let got = settled(&gateway, &one).await.map(|(_, group)| group);
        assert_eq!(got, Some(NamedGroup::secp384r1));
        let both = client(&[kx_group::SECP256R1, kx_group::SECP384R1]);
        let got = settled(&gateway, &both).await.map(|(_, group)| group);
        assert_eq!(got, Some(NamedGroup::secp256r1));
    }
}

#[tokio::test]
async fn backends_are_offered_what_their_record_says() {
    let authority = Authority::new();
    let address = backend_server(&authority.issue(&["right.example"])).await;
    // The server's key is on a curve, and it knows X25519, P-256 and P-384.
    let cases = [
        (suites(&[&[EcdsaAes128Gcm]]), 200),
        (suites(&[&[RsaAes128Gcm]]), 503),
        (
            Crypto {
                suites: Vec::new(),
                curves: vec![Curve::P384],
            },
            200,
        ),
    ];
    for (crypto, status) in cases {
        let mut versions = BOTH;
        versions.max = routing::model::tls::TlsVersion::V1_2;
        let tls = UpstreamTls {
            server_name: "right.example".into(),
            accepted_names: Vec::new(),
            trust: Trust::Bundle(authority.bundle()),
            client: None,
            versions,
            crypto,
        };
        let mut gateway = Gateway::start().await;
        gateway.serve(Backend {
            tls: Some(Arc::new(tls.clone())),
            ..backend("b", &[address])
        });
        let answer = testkit::http::ask(gateway.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer.status(), status, "{tls:?}: {}", answer.text());
    }
}
