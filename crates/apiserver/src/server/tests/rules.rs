//! Rules in CEL through the TLS door: those of CRDs, and ValidatingAdmissionPolicies.

use super::door::{Door, open};
use super::*;

impl Door {
    async fn send_json(&self, method: &str, path: &str, media: &str, body: &Value) -> (u16, Value) {
        let token = self.server.token().expect("token");
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: {media}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self
            .send(self.builder().with_no_client_auth(), &request)
            .await;
        let code = answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("status line");
        let (_, body) = answer.split_once("\r\n\r\n").expect("body");
        (code, serde_json::from_str(body).expect("JSON"))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send_json("POST", path, "application/json", body).await
    }

    async fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send_json("PATCH", path, "application/merge-patch+json", body)
            .await
    }
}

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GAUGES: &str = "/apis/rules.dev/v1/namespaces/default/gauges";

fn gauges(rules: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "gauges.rules.dev" },
        "spec": {
            "group": "rules.dev",
            "scope": "Namespaced",
            "names": { "plural": "gauges", "kind": "Gauge" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": {
                    "type": "object",
                    "properties": {
                        "level": { "type": "integer" },
                        "most": { "type": "integer", "default": 10 },
                        "unit": { "type": "string", "maxLength": 20 },
                    },
                    "x-kubernetes-validations": rules,
                }}}},
            }],
        },
    })
}

fn gauge(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "rules.dev/v1", "kind": "Gauge", "metadata": { "name": name }, "spec": spec })
}

fn message(answer: &(u16, Value)) -> &str {
    answer.1["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn rules_of_a_crd_judge_its_objects() {
    let door = open().await;
    let broken = door
        .post(CRDS, &gauges(json!([{ "rule": "self.levle > 0" }])))
        .await;
    assert_eq!(broken.0, 422, "{broken:?}");
    assert!(
        message(&broken).contains("x-kubernetes-validations[0].rule")
            && message(&broken).contains("levle"),
        "{broken:?}"
    );
    let rules = json!([
        { "rule": "self.level <= self.most", "messageExpression": "'level above ' + string(self.most)" },
        { "rule": "!has(oldSelf.unit) || self.unit == oldSelf.unit", "message": "the unit is for ever", "fieldPath": ".unit" },
    ]);
    assert_eq!(door.post(CRDS, &gauges(rules)).await.0, 201);
    let high = door.post(GAUGES, &gauge("g", json!({ "level": 11 }))).await;
    assert_eq!(
        (high.0, message(&high)),
        (
            422,
            "Gauge.rules.dev \"g\" is invalid: spec: Invalid value: \"object\": level above 10"
        )
    );
    let good = gauge("g", json!({ "level": 11, "most": 12, "unit": "bar" }));
    assert_eq!(door.post(GAUGES, &good).await.0, 201);
    let one = format!("{GAUGES}/g");
    let other = door
        .patch(&one, &json!({ "spec": { "unit": "psi" } }))
        .await;
    assert_eq!(other.0, 422);
    assert!(
        message(&other).contains("spec.unit: Invalid value: \"object\": the unit is for ever"),
        "{other:?}"
    );
    let level = door.patch(&one, &json!({ "spec": { "level": 3 } })).await;
    assert_eq!((level.0, &level.1["spec"]["level"]), (200, &json!(3)));
    door.tasks.drain(Duration::from_secs(10)).await;
}

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

#[tokio::test]
async fn a_bound_policy_denies_and_warns() {
    let door = open().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": "few" },
        "spec": {
            "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
            "matchConstraints": { "resourceRules": [{
                "operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
            }]},
            "matchConditions": [{ "name": "labeled", "expression": "has(object.metadata.labels)" }],
            "variables": [{ "name": "most", "expression": "int(params.data.most)" }],
            "validations": [{
                "expression": "!has(object.data) || size(object.data) <= variables.most",
                "messageExpression": "request.name + ' has more than ' + string(variables.most)",
                "reason": "Forbidden",
            }],
        },
    });
    let mut broken = policy.clone();
    broken["spec"]["validations"][0]["expression"] = json!("object.data.size( <");
    assert_eq!(door.post(POLICIES, &broken).await.0, 422);
    assert_eq!(door.post(POLICIES, &policy).await.0, 201);
    let map = |name: &str, labels: Value| json!({ "metadata": { "name": name, "labels": labels }, "data": { "a": "1", "b": "2" } });
    // Without a binding a policy does nothing.
    assert_eq!(
        door.post(maps, &map("free", json!({ "a": "b" }))).await.0,
        201
    );
    let parameters = json!({ "metadata": { "name": "few" }, "data": { "most": "1" } });
    assert_eq!(door.post(maps, &parameters).await.0, 201);
    let binding = |name: &str, action: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": name },
            "spec": {
                "policyName": "few",
                "paramRef": { "name": "few", "namespace": "default", "parameterNotFoundAction": "Deny" },
                "validationActions": [action],
            },
        })
    };
    assert_eq!(door.post(BINDINGS, &binding("few", "Deny")).await.0, 201);
    let denied = door.post(maps, &map("more", json!({ "a": "b" }))).await;
    assert_eq!(
        (denied.0, message(&denied)),
        (
            403,
            "configmaps \"more\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few' denied request: more has more than 1"
        )
    );
    let plain = json!({ "metadata": { "name": "plain" }, "data": { "a": "1", "b": "2" } });
    assert_eq!(door.post(maps, &plain).await.0, 201);
    let one = format!("{maps}/few");
    let room = door.patch(&one, &json!({ "data": { "most": "2" } })).await;
    assert_eq!(room.0, 200, "{room:?}");
    assert_eq!(
        door.post(maps, &map("more", json!({ "a": "b" }))).await.0,
        201
    );
    door.tasks.drain(Duration::from_secs(10)).await;
}
