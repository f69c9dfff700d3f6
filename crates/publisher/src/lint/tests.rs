//! Objects in files are judged as the gateway would judge them.

use super::*;
use crate::asked::Get;
use crate::tests::kinds::KINDS;
use serde_json::json;

fn told(objects: Value) -> (Vec<String>, Report) {
    let objects = objects.as_array().expect("a list").clone();
    let report = lint(objects, ("default", false), KINDS);
    let lines = report.findings.iter().map(|it| {
        format!(
            "{} {}/{} {} {:?}",
            it.kind, it.namespace, it.name, it.field, it.effect
        )
    });
    (lines.collect(), report)
}

#[test]
fn every_object_is_judged_as_the_gateway_would_judge_it() {
    let spec = json!({"host": "a.example.com", "service": "app", "odd": 1});
    let ingress = json!({"rules": [{"host": "b.example.com", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "app", "port": {"number": 80}}}},
    ]}}]});
    let (lines, report) = told(json!([
        {"apiVersion": "things.example.dev/v1", "kind": "Thing", "metadata": {"name": "odd"}, "spec": spec},
        {"apiVersion": "things.example.dev/v9", "kind": "Thing", "metadata": {"name": "new"}},
        {"apiVersion": "things.example.dev/v1", "kind": "Unknown", "metadata": {"name": "x", "namespace": "n"}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}, "spec": ingress},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}},
    ]));
    assert_eq!(
        lines,
        [
            "Ingress default/web spec.rules[0].http.paths[0].backend.service.name Waiting",
            "Thing default/new  Refused",
            "Thing default/odd spec.odd Refused",
            "Unknown n/x  Refused",
        ]
    );
    assert_eq!(report.judged, 4);
    assert_eq!(report.others["Deployment.apps"], 1);
}

#[test]
fn knatives_objects_and_its_configuration_are_judged_as_they_are_admitted() {
    let (lines, report) = told(json!([
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "none"},
            "spec": {"template": {"spec": {"containers": []}}}},
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "hello"},
            "spec": {"template": {"spec": {"containers": [{"image": "hello"}]}}}},
        {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "config-kourier", "namespace": "knative-serving"},
            "data": {"enable-proxy-protocol": "true"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}},
        {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "old", "annotations": {"getambassador.io/config": "kind: Mapping"}}},
        {"apiVersion": "networking.k8s.io/v1beta1", "kind": "Ingress", "metadata": {"name": "old"}},
    ]));
    assert_eq!(
        lines,
        [
            "ConfigMap knative-serving/config-kourier  Refused",
            "Ingress default/old  Refused",
            "Service default/none  Refused",
            "Service default/old  Refused",
        ]
    );
    assert_eq!(report.judged, 4);
    assert!(report.findings[0].message.contains("--proxy-protocol"));
}

#[test]
fn a_route_is_judged_at_the_gateway_that_the_files_have() {
    let route = json!({
        "parentRefs": [{"name": "edge"}],
        "rules": [{"backendRefs": [{"name": "gone", "port": 80}]}],
    });
    let listeners = json!([{"name": "http", "protocol": "SMTP", "port": 80}, {"name": "web", "protocol": "HTTP", "port": 8080}]);
    let group = "gateway.networking.k8s.io/v1";
    let (lines, _) = told(json!([
        {"apiVersion": group, "kind": "Gateway", "metadata": {"name": "edge"},
            "spec": {"gatewayClassName": "theirs", "listeners": listeners}},
        {"apiVersion": group, "kind": "HTTPRoute", "metadata": {"name": "r"}, "spec": route},
    ]));
    assert!(
        lines.contains(&"HTTPRoute default/r spec Refused".to_owned()),
        "{lines:?}"
    );
    let listener = "Gateway default/edge spec.listeners[http] Refused".to_owned();
    assert!(lines.contains(&listener), "{lines:?}");
}

#[test]
fn what_a_server_adds_to_objects_is_not_missed_in_files() {
    let group = "gateway.networking.k8s.io/v1";
    let parents = json!([{"kind": "Service", "group": "", "name": "app"}, {"kind": "Service", "group": "", "name": "pods"}]);
    let (_, report) = told(json!([
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pods"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}},
        {"apiVersion": group, "kind": "HTTPRoute", "metadata": {"name": "r"}, "spec": {"parentRefs": parents}},
    ]));
    let messages: Vec<_> = report.findings.iter().map(|it| &*it.message).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].starts_with("Service default/pods has no cluster IP"));
}

#[test]
fn a_gateway_that_is_not_accepted_is_told_why_and_no_more() {
    let group = "gateway.networking.k8s.io/v1";
    let reference = json!({"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "p"});
    let (lines, _) = told(json!([
        {"apiVersion": group, "kind": "GatewayClass", "metadata": {"name": "eg"},
            "spec": {"controllerName": "example.com/c", "parametersRef": reference}},
        {"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy", "metadata": {"name": "p"}},
        {"apiVersion": group, "kind": "Gateway", "metadata": {"name": "edge"},
            "spec": {"gatewayClassName": "eg", "listeners": [{"name": "web", "protocol": "HTTP", "port": 80}]}},
    ]));
    assert_eq!(
        lines,
        [
            "EnvoyProxy default/p  Refused",
            "Gateway default/edge spec Refused"
        ]
    );
}

/// Where a request goes: the shared listeners' answer, or that of the only bind.
fn goes_to(objects: Vec<Value>, request: &Get) -> Option<String> {
    let (mut index, _) = translate(objects, ("default", false), KINDS);
    let snapshot = index.compile().0;
    let key = snapshot.binds().next();
    let key = key.map(|bind| routing::BindKey::new(bind.id.clone()));
    let route = match &key {
        Some(key) => snapshot.select_at(key, request)?,
        None => snapshot.select(routing::Visibility::External, request)?,
    };
    match &route.action {
        routing::CompiledAction::Forward(split) => Some(split.at(0).backend.to_string()),
        _ => None,
    }
}

#[test]
fn what_an_ingress_becomes_sends_requests_where_the_ingress_sent_them() {
    let service = |name: &str| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    let path = |path: &str, kind: &str, service: &str| json!({"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": {"number": 80}}}});
    let rules = json!([{"host": "a.example.com", "http": {"paths": [
        path("/", "Prefix", "one"), path("/b", "Prefix", "two"), path("/b/c", "Exact", "three"),
        path("/text", "ImplementationSpecific", "two"),
    ]}}, {"host": "*.example.com", "http": {"paths": [path("/", "Prefix", "three")]}}]);
    let services: Vec<_> = ["one", "two", "three"].map(service).to_vec();
    let mut before = services.clone();
    before.push(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "Web".to_lowercase()}, "spec": {"rules": rules}}));
    let (migration, report) = migrate(before.clone(), ("default", "suimon"), KINDS);
    assert_eq!(report.findings, []);
    let mut after = services;
    after.extend(migration.objects);
    for (host, path) in [
        ("a.example.com", "/"),
        ("a.example.com", "/b"),
        ("a.example.com", "/b/x"),
        ("a.example.com", "/b/c"),
        ("a.example.com", "/bb"),
        ("a.example.com", "/textual"),
        ("b.example.com", "/b/c"),
        ("b.example.org", "/"),
    ] {
        let request = Get(host, path);
        let sent = goes_to(before.clone(), &request);
        assert_eq!(goes_to(after.clone(), &request), sent, "{host}{path}");
        assert_eq!(sent.is_some(), host != "b.example.org");
    }
    let told = migration.notes.iter().map(|it| it.verdict);
    let told: Vec<_> = told.filter(|it| *it != migrate::Verdict::Kept).collect();
    assert_eq!(told, [migrate::Verdict::Changed], "{:?}", migration.notes);
}

#[test]
fn a_socket_that_nothing_is_at_is_told_and_not_passed_over() {
    let spec = json!({"host": "", "service": "app", "port": 9000, "raw": true});
    let thing = json!({"apiVersion": "things.example.dev/v1", "kind": "Thing", "metadata": {"name": "raw"}, "spec": spec});
    let (migration, _) = migrate(vec![thing], ("default", "suimon"), KINDS);
    let notes: Vec<_> = migration.notes.iter().map(|it| &*it.message).collect();
    let told = "port 9000 takes connections that no rule is for, and is not open there";
    assert_eq!(notes, [told]);
}
