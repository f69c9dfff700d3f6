//! Tokens of every algorithm, and those that look good and are not.

use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
};
use serde_json::json;
use std::time::Duration;

use super::*;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token signed by `sign`.
fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let signature = sign(text.as_bytes());
    format!("{text}.{}", encode(signature))
}

fn set(key: &Value, is_inline: bool) -> keys::KeySet {
    let text = json!({ "keys": [key] }).to_string();
    keys::KeySet::read(text.as_bytes(), is_inline).expect("a set")
}

fn verify(set: &keys::KeySet, token: &str) -> Result<(), Denied> {
    set.verify(&Signed::parse(token)?, &keys::digest(token))
}

#[track_caller]
fn check(name: &str, key: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) {
    let header = json!({ "alg": name, "kid": "k" });
    let good = token(&header, &json!({ "sub": "a" }), &sign);
    assert_eq!(verify(&set(key, true), &good), Ok(()), "{name}");
    let other = token(&header, &json!({ "sub": "b" }), &sign);
    let (text, _) = other.rsplit_once('.').expect("a signature");
    let (_, signature) = good.rsplit_once('.').expect("a signature");
    let forged = format!("{text}.{signature}");
    assert_eq!(
        verify(&set(key, true), &forged),
        Err(Denied::Signature),
        "{name}"
    );
    let elsewhere = json!({ "alg": name, "kid": "other" });
    let unknown = token(&elsewhere, &json!({}), &sign);
    let mut key = key.clone();
    key["kid"] = "k".into();
    assert_eq!(
        verify(&set(&key, true), &unknown),
        Err(Denied::NoKey),
        "{name}"
    );
    // The same key said to be for another algorithm is not used.
    key["alg"] = if name == "ES384" { "ES256" } else { "ES384" }.into();
    assert_eq!(
        verify(&set(&key, true), &good),
        Err(Denied::NoKey),
        "{name}"
    );
}

#[test]
fn tokens_of_every_algorithm_are_verified_by_their_key_only() {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let public = rsa.public_key();
    let key = json!({
        "kty": "RSA",
        "n": encode(public.modulus().big_endian_without_leading_zero()),
        "e": encode(public.exponent().big_endian_without_leading_zero()),
    });
    let ways: [(&str, &'static dyn RsaEncoding); 4] = [
        ("RS256", &signature::RSA_PKCS1_SHA256),
        ("RS512", &signature::RSA_PKCS1_SHA512),
        ("PS256", &signature::RSA_PSS_SHA256),
        ("PS384", &signature::RSA_PSS_SHA384),
    ];
    for (name, way) in ways {
        check(name, &key, |text| {
            let mut out = vec![0; rsa.public_modulus_len()];
            rsa.sign(way, &random, text, &mut out).expect("signed");
            out
        });
    }
    let curves = [
        (
            "ES256",
            "P-256",
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        ),
        (
            "ES384",
            "P-384",
            &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        ),
        (
            "ES512",
            "P-521",
            &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        ),
    ];
    for (name, curve, how) in curves {
        let pair = EcdsaKeyPair::generate(how).expect("a key");
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let key = json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) });
        check(name, &key, |text| {
            pair.sign(&random, text).expect("signed").as_ref().to_vec()
        });
    }
    let pair = Ed25519KeyPair::generate().expect("a key");
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key()) });
    check("EdDSA", &key, |text| pair.sign(text).as_ref().to_vec());
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let key = json!({ "kty": "oct", "k": encode("secret") });
    check("HS256", &key, |text| {
        aws_lc_rs::hmac::sign(&secret, text).as_ref().to_vec()
    });
}

#[test]
fn a_public_key_is_no_shared_secret_and_a_fetched_secret_counts_for_nothing() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let public = rsa.public_key();
    let n = public.modulus().big_endian_without_leading_zero();
    let key = json!({ "kty": "RSA", "n": encode(n), "e": "AQAB" });
    let der: PublicKeyX509Der<'_> =
        aws_lc_rs::encoding::AsDer::as_der(public).expect("an encoding");
    for secret in [n, der.as_ref()] {
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let forged = token(&json!({ "alg": "HS256" }), &json!({}), |text| {
            aws_lc_rs::hmac::sign(&secret, text).as_ref().to_vec()
        });
        assert_eq!(verify(&set(&key, true), &forged), Err(Denied::NoKey));
    }
    let shared = json!({ "kty": "oct", "k": encode("secret") });
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let good = token(&json!({ "alg": "HS256" }), &json!({}), |text| {
        aws_lc_rs::hmac::sign(&secret, text).as_ref().to_vec()
    });
    assert_eq!(verify(&set(&shared, true), &good), Ok(()));
    assert_eq!(verify(&set(&shared, false), &good), Err(Denied::NoKeys));
}

#[test]
fn what_is_no_signed_token_is_refused() {
    let denied = |token: &str| Signed::parse(token).err();
    for text in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "e30.e30.",
        "bm8.e30.e30",
        "WzFd.e30.e30",
    ] {
        assert!(denied(text).is_some(), "{text:?}");
    }
    let unsigned = |header: Value| denied(&token(&header, &json!({}), |_| Vec::new()));
    assert_eq!(unsigned(json!({ "alg": "none" })), Some(Denied::Algorithm));
    assert_eq!(unsigned(json!({ "alg": "HS1" })), Some(Denied::Algorithm));
    assert_eq!(unsigned(json!({})), Some(Denied::Algorithm));
    let critical = json!({ "alg": "ES256", "crit": ["b64"] });
    assert_eq!(unsigned(critical), Some(Denied::Form));
}

#[test]
fn a_set_may_hold_what_we_do_not_know() {
    let read = |text: &str| keys::KeySet::read(text.as_bytes(), true);
    for text in ["", "[]", "{}", "{\"keys\":1}"] {
        assert!(read(text).is_none(), "{text:?}");
    }
    let strange = json!({ "keys": [1, {}, { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" },
        { "kty": "EC", "crv": "secp256k1" }, { "kty": "oct", "k": "", "use": "enc" }] });
    let set = read(&strange.to_string()).expect("a set");
    let one = token(&json!({ "alg": "ES256" }), &json!({}), |_| vec![0; 64]);
    assert_eq!(verify(&set, &one), Err(Denied::NoKeys));
}

#[test]
fn claims_are_checked_with_the_leeway_that_is_allowed() {
    let provider = TokenProvider {
        issuer: None,
        audiences: vec!["api".into(), "https://b.example/".into()],
        keys: routing::model::KeySource::Inline("".into()),
        from: Vec::new(),
        forward: false,
        claims_to_headers: Vec::new(),
        payload_header: None,
        leeway: Duration::from_secs(60),
    };
    let check = |claims: Value| check_claims(&provider, &claims, 1000.0);
    let aud = "api";
    assert_eq!(check(json!({ "aud": aud })), Ok(()));
    assert_eq!(check(json!({ "aud": ["x", "https://b.example"] })), Ok(()));
    for other in [
        json!({}),
        json!({ "aud": "x" }),
        json!({ "aud": [] }),
        json!({ "aud": 1 }),
    ] {
        assert_eq!(check(other), Err(Denied::Audience));
    }
    assert_eq!(
        check(json!({ "aud": aud, "exp": 941, "nbf": 1060 })),
        Ok(())
    );
    assert_eq!(
        check(json!({ "aud": aud, "exp": 940 })),
        Err(Denied::Expired)
    );
    assert_eq!(
        check(json!({ "aud": aud, "nbf": 1061 })),
        Err(Denied::Early)
    );
    assert_eq!(
        check(json!({ "aud": aud, "exp": "1061" })),
        Err(Denied::Form)
    );
}

#[test]
fn claims_have_values_by_their_path() {
    let token = Verified::new(json!({
        "iss": "i", "sub": "s", "n": 7, "ok": true, "scope": "read write",
        "realm": { "roles": ["dev", "admin", 3] }, "gone": null,
    }));
    assert_eq!(token.principal.as_deref(), Some("i/s"));
    let values = |path: &[&str]| {
        let path: Vec<Arc<str>> = path.iter().map(|part| Arc::from(*part)).collect();
        token.values(&path).join("|")
    };
    assert_eq!(values(&["realm", "roles"]), "dev|admin|3");
    assert_eq!(values(&["n"]), "7");
    assert_eq!(values(&["ok"]), "true");
    assert_eq!(values(&["scope"]), "read write|read|write");
    for path in [&["realm"][..], &["gone"], &["x", "y"], &["sub", "x"]] {
        assert_eq!(values(path), "");
    }
}
