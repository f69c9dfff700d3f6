//! Lists as users write them.

use super::*;
use Suite::{
    EcdsaAes128Gcm, EcdsaAes256Gcm, EcdsaChacha20, RsaAes128Gcm, RsaAes256Gcm, RsaChacha20,
};

const BOTH: TlsVersions = TlsVersions {
    min: TlsVersion::V1_2,
    max: TlsVersion::V1_3,
};

fn check(written: &[&str], expected: &[&[Suite]], missing: Option<&str>) {
    let listed = suites(written, BOTH).expect("something is left");
    assert_eq!(listed.wanted, expected, "{written:?}");
    let told = listed.told().unwrap_or_default();
    match missing {
        None => assert_eq!(told, "", "{written:?}"),
        Some(missing) => assert!(told.contains(missing), "{told}"),
    }
}

#[test]
fn names_of_both_kinds_keep_their_order_and_groups() {
    check(&[], &[], None);
    check(&[" "], &[], None);
    check(
        &[
            "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "TLS_AES_128_GCM_SHA256",
        ],
        &[&[EcdsaAes128Gcm, EcdsaChacha20], &[RsaChacha20]],
        None,
    );
    check(
        &["ECDHE-RSA-AES256-GCM-SHA384:AES128-SHA,ECDHE-RSA-AES128-GCM-SHA256"],
        &[&[RsaAes256Gcm], &[RsaAes128Gcm]],
        Some("AES128-SHA;"),
    );
}

#[test]
fn rules_add_take_out_and_move() {
    let strongest: &[&[Suite]] = &[&[EcdsaAes256Gcm], &[RsaAes256Gcm]];
    check(&["HIGH:!aNULL:!MD5:!CHACHA20:!AES128"], strongest, None);
    check(&["EECDH+AESGCM+AES256"], strongest, None);
    check(
        &["aRSA:+AES256:-CHACHA20:!RC4:RC4+RSA:CHACHA20+aRSA"],
        &[&[RsaAes128Gcm], &[RsaAes256Gcm], &[RsaChacha20]],
        Some("RC4+RSA"),
    );
    check(
        &["ECDSA+AES128:ECDSA+AES256:@STRENGTH"],
        &[&[EcdsaAes256Gcm], &[EcdsaAes128Gcm]],
        None,
    );
    check(
        &["!CHACHA20:ECDSA:ECDSA+CHACHA20"],
        &[&[EcdsaAes256Gcm], &[EcdsaAes128Gcm]],
        None,
    );
}

#[test]
fn without_any_suite_the_user_is_told_what_to_write() {
    let error = suites(&["AES128-SHA", "X"], BOTH).expect_err("none");
    assert!(error.contains("AES128-SHA, X"), "{error}");
    assert!(error.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{error}");
    let error = suites(&["TLS_AES_128_GCM_SHA256"], BOTH).expect_err("none");
    assert!(error.contains("TLS 1.3 be the oldest"), "{error}");
    let newest = TlsVersions {
        min: TlsVersion::V1_3,
        ..BOTH
    };
    let listed = suites(&["AES128-SHA"], newest).expect("it does not matter");
    assert_eq!(listed.wanted, Vec::<Vec<Suite>>::new());
    assert!(
        listed
            .told()
            .is_some_and(|text| text.contains("AES128-SHA"))
    );
    let many: Vec<_> = (0..20).map(|it| format!("X{it}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let error = suites(&many, BOTH).expect_err("none");
    assert!(error.contains("X7 and 12 more"), "{error}");
}

#[test]
fn curves_have_many_names() {
    let read = curves(&["X25519:prime256v1", "P-256", "secp521r1"]).expect("some");
    assert_eq!(read.wanted, [Curve::X25519, Curve::P256]);
    assert_eq!(read.missing.as_deref(), Some("secp521r1"));
    assert!(curves(&["P-521"]).is_err());
    assert_eq!(curves(&[]), Ok(Listed::of(Vec::new(), &[])));
    for curve in [
        Curve::X25519,
        Curve::P256,
        Curve::P384,
        Curve::X25519MlKem768,
    ] {
        let read = curves(&[curve_text(curve)]).expect("known");
        assert_eq!(read.wanted, [curve]);
    }
}

#[test]
fn every_name_of_a_suite_is_its_own() {
    for suite in Suite::ALL {
        assert_eq!(selected(suite_text(suite)), [suite]);
    }
}
