//! Whose connections and datagrams are whose, once everything is compiled.

use routing::{BindKey, CompiledSplit, CompiledTlsAction, Snapshot};

use super::*;

/// What of the snapshot is asked.
fn compiled(documents: &[Value]) -> (Snapshot, Vec<BindKey>) {
    let output = translate_all(documents);
    let binds = output.records.binds;
    let keys = binds.iter().map(|bind| BindKey::new(bind.id.clone()));
    let keys = keys.collect();
    let model = Model {
        binds: binds
            .into_iter()
            .map(|bind| (bind.id.clone(), bind))
            .collect(),
        routes: output.records.routes,
        tls: output.records.tls.into_iter().chain(output.https).collect(),
        streams: output.records.streams,
        ..Model::default()
    };
    (routing::compile(&model, None).0, keys)
}

fn only(split: &CompiledSplit) -> String {
    let arm = split.at(0);
    match arm.instead.as_deref() {
        Some(_) => "closed".to_owned(),
        None => arm.backend.to_string(),
    }
}

/// What becomes of a TLS connection for a name at the first bind.
fn asked(documents: &[Value], name: &str) -> String {
    let (snapshot, keys) = compiled(documents);
    let name = Some(name).filter(|name| !name.is_empty());
    let found = snapshot.tls_at(&keys[0], name);
    found.map_or_else(
        || "nobody".to_owned(),
        |tls| match &tls.action {
            CompiledTlsAction::Terminate(_) => "http".to_owned(),
            CompiledTlsAction::Relay(_, split) => format!("ended, {}", only(split)),
            CompiledTlsAction::Passthrough(split) => format!("passed, {}", only(split)),
            CompiledTlsAction::Refuse => "refused".to_owned(),
        },
    )
}

fn services(names: &[&str]) -> String {
    let one = |name: &&str| {
        format!(
            "---
kind: Service
metadata: {{name: {name}, namespace: ns}}
spec: {{ports: [{{name: https, port: 443}}, {{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53}}]}}
"
        )
    };
    names.iter().map(one).collect()
}

fn tls_route(name: &str, listener: &str, hostnames: &str) -> String {
    format!(
        "---
kind: TLSRoute
metadata: {{name: {name}, namespace: ns, creationTimestamp: '2026-01-01T00:00:00Z'}}
spec:
  parentRefs: [{{name: g, sectionName: {listener}}}]
  hostnames: {hostnames}
  rules: [{{backendRefs: [{{name: {name}, port: 443}}]}}]
"
    )
}

const MIXED: &str = "
kind: GatewayClass
metadata: {name: c}
spec: {controllerName: suimon.dev/gateway-controller}
---
kind: Secret
metadata: {name: cert, namespace: ns}
stringData: {tls.crt: c, tls.key: k}
---
kind: Gateway
metadata: {name: g, namespace: ns}
spec:
  gatewayClassName: c
  listeners:
    - {name: wide, port: 443, protocol: TLS, hostname: '*.example.com', tls: {mode: Passthrough}}
    - {name: ended, port: 443, protocol: TLS, hostname: '*.in.example.com', tls: {certificateRefs: [{name: cert}]}}
    - {name: exact, port: 443, protocol: TLS, hostname: a.in.example.com, tls: {mode: Passthrough}}
";

#[test]
fn a_connection_belongs_to_the_most_specific_listener_and_to_no_other() {
    let yaml = [
        MIXED.to_owned(),
        services(&["wide", "ended", "lost"]),
        tls_route(
            "wide",
            "wide",
            "['*.example.com', b.in.example.com, x.example.org]",
        ),
        tls_route("ended", "ended", "['*.com']"),
        // Nobody asks the wide listener for a host of a narrower one.
        tls_route("lost", "wide", "[a.in.example.com]"),
    ];
    let documents = documents(&yaml.concat());
    let check =
        |name: &str, expected: &str| assert_eq!(asked(&documents, name), expected, "{name}");
    check("x.example.com", "passed, ns/wide:443/tcp");
    check("X.Y.Example.com", "passed, ns/wide:443/tcp");
    check("b.in.example.com", "ended, ns/ended:443/tcp");
    check("b.b.in.example.com", "ended, ns/ended:443/tcp");
    // Its own listener has no route.
    check("a.in.example.com", "refused");
    check("example.com", "refused");
    check("x.example.org", "refused");
    check("", "refused");
}

#[test]
fn https_shares_a_port_with_tls_that_is_passed_on() {
    let gateway = MIXED.replace(
        "{name: ended, port: 443, protocol: TLS, hostname: '*.in.example.com'",
        "{name: ended, port: 443, protocol: HTTPS, hostname: '*.in.example.com'",
    );
    let yaml = [
        gateway,
        services(&["wide"]),
        tls_route("wide", "wide", "['*.example.com']"),
    ];
    let documents = documents(&yaml.concat());
    assert_eq!(
        asked(&documents, "x.example.com"),
        "passed, ns/wide:443/tcp"
    );
    assert_eq!(asked(&documents, "x.in.example.com"), "http");
    assert_eq!(asked(&documents, "a.in.example.com"), "refused");
    // Clients of HTTPS are told why.
    assert_eq!(asked(&documents, "example.org"), "nobody");
}

#[test]
fn the_oldest_route_of_a_listener_has_everything() {
    let route = |name: &str, created: &str, backend: &str| {
        format!(
            "---
kind: UDPRoute
metadata: {{name: {name}, namespace: ns, creationTimestamp: '{created}'}}
spec: {{parentRefs: [{{name: g}}], rules: [{{backendRefs: [{{name: {backend}, port: 53}}]}}]}}
"
        )
    };
    let gateway = "
kind: GatewayClass
metadata: {name: c}
spec: {controllerName: suimon.dev/gateway-controller}
---
kind: Gateway
metadata: {name: g, namespace: ns}
spec: {gatewayClassName: c, listeners: [{name: dns, port: 53, protocol: UDP}]}
";
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let served = |routes: &[String]| {
        let yaml = [
            gateway.to_owned(),
            services(&["one", "two"]),
            routes.concat(),
        ]
        .concat();
        let (snapshot, keys) = compiled(&documents(&yaml));
        let split = snapshot.stream_at(&keys[0]);
        split.map_or_else(|| "nobody".to_owned(), |split| only(split))
    };
    assert_eq!(
        served(&[route("b", old, "one"), route("a", new, "two")]),
        "ns/one:53/udp"
    );
    assert_eq!(
        served(&[route("b", old, "one"), route("a", old, "two")]),
        "ns/two:53/udp"
    );
    // Also if it leads nowhere.
    assert_eq!(
        served(&[route("b", old, "gone"), route("a", new, "two")]),
        "closed"
    );
    assert_eq!(served(&[]), "nobody");
}
