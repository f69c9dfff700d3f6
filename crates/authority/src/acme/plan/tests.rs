//! Steps towards a certificate of a public authority.

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::*;

const DIRECTORY_URL: &str = "https://ca.example/directory";

fn certificate(names: &[&str]) -> Certificate {
    let object = json!({
        "metadata": {"namespace": "default", "name": "web", "uid": "u"},
        "spec": {"dnsNames": names, "secretName": "web"},
    });
    serde_json::from_value(object).expect("a Certificate")
}

/// What an authority would sign: 90 days from the first of January.
fn signed(names: &[&str]) -> Signed {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    let key = KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("signed");
    Signed {
        chain: made.pem(),
        key: key.serialize_pem(),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[test]
fn a_certificate_is_ordered_once_and_again_when_a_third_of_its_time_is_left() {
    let wanted = certificate(&["a.example.com"]);
    let january = at("2026-01-02T00:00:00Z");
    let Step::Order(names, None) = step(&wanted, None, DIRECTORY_URL, january) else {
        panic!("an order");
    };
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a.example.com"]);
    let secret = filled(&wanted, None, DIRECTORY_URL, signed(&["a.example.com"]));
    let of = |now: &str| step(&wanted, Some(&secret), DIRECTORY_URL, at(now));
    assert!(matches!(of("2026-01-02T00:00:00Z"), Step::Held(_)));
    assert!(matches!(of("2026-02-28T00:00:00Z"), Step::Held(_)));
    assert!(
        matches!(of("2026-03-03T00:00:00Z"), Step::Order(_, Some(_))),
        "still in force"
    );
    assert!(
        matches!(of("2026-04-02T00:00:00Z"), Step::Order(_, None)),
        "over"
    );
}

#[test]
fn other_names_and_another_authority_need_another_certificate() {
    let now = at("2026-01-02T00:00:00Z");
    let wanted = certificate(&["a.example.com"]);
    let other = filled(&wanted, None, DIRECTORY_URL, signed(&["b.example.com"]));
    assert!(matches!(
        step(&wanted, Some(&other), DIRECTORY_URL, now),
        Step::Order(_, None)
    ));
    let elsewhere = filled(&wanted, None, "https://other", signed(&["a.example.com"]));
    assert!(matches!(
        step(&wanted, Some(&elsewhere), DIRECTORY_URL, now),
        Step::Order(_, None)
    ));
}

#[test]
fn what_no_authority_would_sign_and_what_is_not_ours_is_refused() {
    let now = at("2026-01-02T00:00:00Z");
    let refused = |certificate: &Certificate, secret: Option<&Secret>| match step(
        certificate,
        secret,
        DIRECTORY_URL,
        now,
    ) {
        Step::Refused(reason, _) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&certificate(&["*.example.com"]), None),
        "WildcardNotSupported"
    );
    assert_eq!(refused(&certificate(&[]), None), "InvalidDNSNames");
    let foreign = Secret::default();
    assert_eq!(
        refused(&certificate(&["a.b"]), Some(&foreign)),
        "SecretNotOwned"
    );
}

#[test]
fn pauses_double_up_to_an_hour() {
    let pauses = [1, 2, 3, 7, 40].map(|failures| pause(failures).as_secs());
    assert_eq!(pauses, [60, 120, 240, 3600, 3600]);
}
