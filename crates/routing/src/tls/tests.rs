//! Which record decides a name, what several records for one come to, and what a change leaves alone.

use super::*;
use crate::Compiler;
use crate::model::tls::{Alpn, ClientCertificates, PrivateKey, TlsVersion, TlsVersions};
use crate::model::{Crypto, Origin};

fn certificate(name: &str) -> Arc<Certificate> {
    Arc::new(Certificate {
        name: name.into(),
        chain: vec![Box::from(name.as_bytes())],
        key: PrivateKey::new(Box::from(*b"key")),
        staple: None,
    })
}

fn record(names: &[&str], visibility: Visibility, certificates: &[&str]) -> TlsHost {
    let pattern = |name: &&str| match (*name, name.strip_prefix("*.")) {
        ("*", _) => HostPattern::Any,
        (_, Some(suffix)) => HostPattern::Suffix(suffix.into()),
        (exact, None) => HostPattern::Exact(exact.into()),
    };
    TlsHost {
        origin: Origin {
            dialect: "test",
            kind: "Test".into(),
            namespace: "default".into(),
            name: "test".into(),
            uid: "uid".into(),
            generation: 1,
            field: "spec".into(),
        },
        bind: None,
        visibility,
        names: names.iter().map(pattern).collect(),
        sort_key: SortKey::default(),
        action: TlsAction::Terminate(Termination {
            certificates: certificates.iter().map(|name| certificate(name)).collect(),
            versions: TlsVersions {
                min: TlsVersion::V1_2,
                max: TlsVersion::V1_3,
            },
            crypto: Crypto::ANY,
            protocols: vec![Alpn::Http2, Alpn::Http1],
            client: ClientCertificates::None,
        }),
    }
}

fn compiled(records: Vec<(&str, TlsHost)>) -> (Compiler, Snapshot) {
    let mut compiler = Compiler::default();
    for (id, record) in records {
        compiler.put_tls(TlsId(id.into()), Arc::new(record));
    }
    let (snapshot, _) = compiler.compile();
    (compiler, snapshot)
}

/// The certificates that a client gets to choose from.
fn offered(snapshot: &Snapshot, listener: Visibility, name: Option<&str>) -> Vec<String> {
    match snapshot.tls(listener, name).map(|tls| &tls.action) {
        Some(
            CompiledTlsAction::Terminate(termination) | CompiledTlsAction::Relay(termination, _),
        ) => termination
            .certificates
            .iter()
            .map(|one| one.name.to_string())
            .collect(),
        Some(CompiledTlsAction::Passthrough(_)) => vec!["passthrough".into()],
        Some(CompiledTlsAction::Refuse) => vec!["refused".into()],
        None => Vec::new(),
    }
}

#[test]
fn the_most_specific_name_decides_whatever_its_case() {
    let external = Visibility::External;
    let (_, snapshot) = compiled(vec![
        ("exact", record(&["a.b.example"], external, &["exact"])),
        ("deep", record(&["*.b.example"], external, &["deep"])),
        ("wide", record(&["*.example"], external, &["wide"])),
        ("any", record(&["*"], external, &["any"])),
    ]);
    let offered = |name| offered(&snapshot, external, name);
    assert_eq!(offered(Some("A.b.example")), ["exact"]);
    assert_eq!(offered(Some("x.B.example")), ["deep"]);
    assert_eq!(offered(Some("x.y.b.example")), ["deep"]);
    assert_eq!(offered(Some("b.example")), ["wide"]);
    assert_eq!(offered(Some("elsewhere")), ["any"]);
    assert_eq!(offered(None), ["any"]);
}

#[test]
fn two_records_for_one_name_offer_the_certificates_of_both() {
    let external = Visibility::External;
    let mut stricter = record(&["a.example"], external, &["strict"]);
    if let TlsAction::Terminate(termination) = &mut stricter.action {
        termination.versions.min = TlsVersion::V1_3;
    }
    let (_, snapshot) = compiled(vec![
        ("1", record(&["a.example"], external, &["rsa"])),
        ("2", record(&["a.example"], external, &["ecdsa", "rsa"])),
        ("3", stricter),
    ]);
    let offered = offered(&snapshot, external, Some("a.example"));
    assert_eq!(
        offered,
        ["rsa", "ecdsa"],
        "what says otherwise than the first is not mixed in"
    );
}

#[test]
fn external_listeners_do_not_know_cluster_local_names() {
    let (_, snapshot) = compiled(vec![
        (
            "local",
            record(&["a.example"], Visibility::ClusterLocal, &["local"]),
        ),
        (
            "open",
            record(&["b.example"], Visibility::External, &["open"]),
        ),
    ]);
    let name = Some("a.example");
    assert!(offered(&snapshot, Visibility::External, name).is_empty());
    assert_eq!(
        offered(&snapshot, Visibility::ClusterLocal, name),
        ["local"]
    );
    assert_eq!(
        offered(&snapshot, Visibility::ClusterLocal, Some("b.example")),
        ["open"]
    );
}

#[test]
fn a_change_of_one_name_leaves_the_records_of_others_alone() {
    let external = Visibility::External;
    let (mut compiler, first) = compiled(vec![
        ("a", record(&["a.example"], external, &["one"])),
        ("b", record(&["b.example"], external, &["two"])),
    ]);
    compiler.put_tls(
        TlsId("a".into()),
        Arc::new(record(&["a.example"], external, &["renewed"])),
    );
    assert!(compiler.is_dirty());
    let (second, _) = compiler.compile();
    let at = |snapshot: &Snapshot, name| {
        Arc::clone(snapshot.tls(external, Some(name)).expect("a record"))
    };
    assert!(Arc::ptr_eq(
        &at(&first, "b.example"),
        &at(&second, "b.example")
    ));
    assert_eq!(offered(&second, external, Some("a.example")), ["renewed"]);
    compiler.put_tls(
        TlsId("b".into()),
        Arc::new(record(&["b.example"], external, &["two"])),
    );
    assert!(!compiler.is_dirty(), "an equal record changes nothing");
    compiler.remove_tls(&TlsId("a".into()));
    let (third, _) = compiler.compile();
    assert!(third.tls(external, Some("a.example")).is_none());
}
