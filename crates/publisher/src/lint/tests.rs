//! Objects in files are judged as the gateway would judge them.

use super::*;
use crate::tests::kinds::KINDS;
use serde_json::json;

fn told(objects: Value) -> (Vec<String>, Report) {
    let objects = objects.as_array().expect("a list").clone();
    let report = lint(objects, "default", KINDS);
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
