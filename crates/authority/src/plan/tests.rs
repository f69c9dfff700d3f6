//! Plans over time, and what makes a new certificate.

use super::*;
use api::condition::find;
use serde_json::json;

struct World {
    authority: Authority,
    _dir: tempfile::TempDir,
}

fn at(text: &str) -> Time {
    Time(text.parse().expect("a time"))
}

fn start() -> Time {
    at("2026-01-01T00:00:00Z")
}

fn world() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    World {
        authority: Authority::open(dir.path(), start().0).expect("an authority"),
        _dir: dir,
    }
}

fn certificate(names: &[&str]) -> Certificate {
    serde_json::from_value(json!({
        "apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "Certificate",
        "metadata": {
            "name": "route-1", "namespace": "default", "uid": "u1", "generation": 3,
            "annotations": {"networking.knative.dev/certificate.class": api::names::CERTIFICATE_CLASS},
        },
        "spec": {"dnsNames": names, "secretName": "route-1"},
    }))
    .expect("a Certificate")
}

/// Reason of Ready if it is not True.
fn reason(plan: &Plan) -> Option<String> {
    let ready = find(&plan.status.conditions, READY).expect("Ready");
    (ready.status != "True").then(|| ready.reason.clone().unwrap_or_default())
}

#[test]
fn a_new_certificate_gets_a_secret_and_is_left_alone_until_it_nears_its_end() {
    let world = world();
    let certificate = certificate(&["a.example", "A.example", "*.b.example"]);
    assert!(is_ours(&certificate));
    let first = plan(&certificate, None, &world.authority, &start()).expect("a plan");
    assert_eq!(reason(&first), None);
    assert_eq!(first.status.observed_generation, Some(3));
    assert_eq!(first.again, Some(Duration::from_secs(60 * 24 * 3600)));
    let secret = first.secret.expect("a Secret");
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    let data = secret.data.as_ref().expect("data");
    assert_eq!(
        data.keys().collect::<Vec<_>>(),
        ["ca.crt", "tls.crt", "tls.key"]
    );

    let look = |time: &str| {
        plan(&certificate, Some(&secret), &world.authority, &at(time)).expect("a plan")
    };
    assert!(look("2026-02-28T00:00:00Z").secret.is_none());
    let renewed = look("2026-03-03T00:00:00Z");
    assert_eq!(reason(&renewed), None);
    assert_ne!(renewed.secret.expect("a new one").data, secret.data);
}

#[test]
fn other_names_another_authority_or_a_broken_secret_make_a_new_certificate() {
    let (world, other) = (world(), world());
    let asked = certificate(&["a.example"]);
    let secret = plan(&asked, None, &world.authority, &start())
        .expect("a plan")
        .secret;
    let secret = secret.expect("a Secret");
    let is_new = |asked: &Certificate, secret: &Secret, authority: &Authority| {
        let plan = plan(asked, Some(secret), authority, &start()).expect("a plan");
        plan.secret.is_some()
    };
    assert!(!is_new(&asked, &secret, &world.authority));
    assert!(is_new(
        &certificate(&["b.example"]),
        &secret,
        &world.authority
    ));
    assert!(is_new(&asked, &secret, &other.authority));
    let mut broken = secret.clone();
    broken.data.as_mut().expect("data").remove("tls.key");
    assert!(is_new(&asked, &broken, &world.authority));
    let mut former = secret;
    former.metadata.owner_references.as_mut().expect("an owner")[0].uid = "u0".to_owned();
    assert!(is_new(&asked, &former, &world.authority));
}

#[test]
fn what_cannot_be_is_told_and_nothing_is_written() {
    let world = world();
    let foreign = Secret::default();
    let mut nameless = certificate(&["a.example"]);
    nameless.spec.secret_name.clear();
    let many: Vec<String> = (0..101).map(|at| format!("h{at}.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (asked, secret, expected) in [
        (certificate(&[]), None, "InvalidDNSNames"),
        (certificate(&["not a host"]), None, "InvalidDNSNames"),
        (certificate(&["a.*.example"]), None, "InvalidDNSNames"),
        (certificate(&many), None, "InvalidDNSNames"),
        (nameless, None, "SecretNameMissing"),
        (
            certificate(&["a.example"]),
            Some(&foreign),
            "SecretNotOwned",
        ),
    ] {
        let plan = plan(&asked, secret, &world.authority, &start()).expect("a plan");
        assert_eq!(reason(&plan).as_deref(), Some(expected));
        assert!(plan.secret.is_none() && plan.status.not_after.is_none());
    }
}
