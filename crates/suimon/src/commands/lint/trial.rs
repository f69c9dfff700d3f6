//! What the API server would say of objects in files, before a gateway sees them: versions that are
//! not served, unknown fields, wrong values, rules of the definitions.
//!
//! Kinds that a gateway or Knative reads are tried, and what they need; the rest of Kubernetes is
//! not this command's matter.

use std::collections::BTreeSet;

use apiserver::trial;
use apiserver::types::{ResourceType, TypeTable, split_api_version};
use dialects::Effect;
use publisher::{Finding, Report};
use serde_json::Value;

use crate::roles::system;

/// The reason of findings that the publisher has about objects that it cannot read.
const UNREADABLE: &str = "ObjectInvalid";
/// The reason of its findings that Knative's admission has: it judges what is a whole object only.
const DENIED: &str = "AdmissionDenied";
/// The reason of values that the schema or a rule refuses.
const INVALID: &str = "FieldInvalid";

/// What was found, and how many objects of kinds that only the API server judges there are.
#[derive(Debug, Default)]
pub(in crate::commands) struct Tried {
    findings: Vec<Finding>,
    kinds: BTreeSet<String>,
}

/// Tries every object, and leaves it as a server would store it.
pub(in crate::commands) fn all(objects: &mut [Value], namespace: &str) -> Tried {
    let definitions = system::definitions();
    let groups: BTreeSet<_> = definitions
        .iter()
        .filter_map(|it| it["spec"]["group"].as_str())
        .collect();
    let is_tried = |object: &Value| {
        let (group, _) = split_api_version(object["apiVersion"].as_str().unwrap_or_default());
        let kind = object["kind"].as_str().unwrap_or_default();
        groups.contains(group)
            || matches!((group, kind), ("networking.k8s.io", _) | ("", "Service"))
    };
    let mut tried = Tried::default();
    let wanted: BTreeSet<_> = objects
        .iter()
        .filter(|it| is_tried(it))
        .map(name_of)
        .collect();
    let types = types(&definitions, &wanted);
    for object in objects.iter_mut().filter(|it| is_tried(it)) {
        tried.object(object, namespace, &types);
    }
    tried
}

/// Group and kind.
fn name_of(object: &Value) -> (String, String) {
    let (group, _) = split_api_version(object["apiVersion"].as_str().unwrap_or_default());
    let kind = object["kind"].as_str().unwrap_or_default();
    (group.to_owned(), kind.to_owned())
}

/// The built-in types and those of these definitions that are wanted: reading one is work.
fn types(definitions: &[Value], wanted: &BTreeSet<(String, String)>) -> TypeTable {
    let is_wanted = |it: &&Value| {
        let spec = &it["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        wanted.contains(&(text(&spec["group"]), text(&spec["names"]["kind"])))
    };
    let table = TypeTable::builtin();
    let wanted = definitions.iter().filter(is_wanted);
    wanted.fold(table, |table, definition| {
        table.with_crd(definition).unwrap_or(table)
    })
}

impl Tried {
    fn object(&mut self, object: &mut Value, namespace: &str, types: &TypeTable) {
        let (group, kind) = name_of(object);
        let Some(found) = types.of(object) else {
            return self.other_version(object, (&group, &kind), types);
        };
        if found.custom {
            self.kinds.insert(format!("{kind}.{group}"));
        }
        if !place(object, namespace, found) {
            return;
        }
        let told = trial::create(found, object);
        for path in told.unknown {
            let message = format!(
                "{path} is not known: kubectl refuses it and others lose it; correct its name or its \
                 place, or remove it"
            );
            self.say(object, (&path, "FieldUnknown"), message);
        }
        for error in &told.errors {
            self.say(object, (&error.field, INVALID), error.body());
        }
    }

    fn other_version(&mut self, object: &Value, (group, kind): (&str, &str), types: &TypeTable) {
        let same = types
            .iter()
            .filter(|it| it.group == group && it.kind == kind);
        let served: Vec<_> = same.collect();
        // The publisher says what to write in place of an old Ingress.
        let Some(first) = served.first().filter(|_| kind != "Ingress") else {
            return;
        };
        let versions: Vec<_> = served.iter().map(|it| it.version.as_str()).collect();
        let message = format!(
            "{} of {} is not served; write one of {}",
            object["apiVersion"].as_str().unwrap_or_default(),
            first.plural,
            versions.join(", ")
        );
        self.say(object, ("", "VersionNotServed"), message);
    }

    fn say(&mut self, object: &Value, (field, reason): (&str, &str), message: String) {
        let text = |field: &str| {
            let text = object["metadata"][field].as_str();
            text.unwrap_or_default().to_owned()
        };
        self.findings.push(Finding {
            kind: name_of(object).1,
            namespace: text("namespace"),
            name: text("name"),
            field: field.to_owned(),
            effect: Effect::Refused,
            reason: reason.to_owned(),
            message,
        });
    }

    /// Joins what the gateway says: what it could not read was told here, and better.
    pub(in crate::commands) fn join(self, report: &mut Report) {
        let named = |it: &Finding| (it.kind.clone(), it.namespace.clone(), it.name.clone());
        let told: BTreeSet<_> = self.findings.iter().map(named).collect();
        let invalid = self.findings.iter().filter(|it| it.reason == INVALID);
        let invalid: BTreeSet<_> = invalid.map(named).collect();
        let is_told = |it: &Finding| {
            it.reason == UNREADABLE && told.contains(&named(it))
                || it.reason == DENIED && invalid.contains(&named(it))
        };
        report.findings.retain(|it| !is_told(it));
        report.findings.extend(self.findings);
        report.findings.sort();
        report.findings.dedup();
        for kind in self.kinds {
            report.judged += report.others.remove(&kind).unwrap_or_default();
        }
    }
}

/// Puts an object into its namespace. `false` if it has no metadata that it could stand in.
fn place(object: &mut Value, namespace: &str, kind: &ResourceType) -> bool {
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return false;
    };
    let given = metadata.get("namespace").and_then(Value::as_str);
    if !kind.namespaced {
        metadata.remove("namespace");
    } else if given.unwrap_or_default().is_empty() {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    true
}

#[cfg(test)]
mod tests {
    use dialects::foreign;
    use serde_json::json;

    use super::*;

    fn told(mut objects: Vec<Value>) -> (Vec<String>, Report) {
        let tried = all(&mut objects, "default");
        let mut report = publisher::lint(objects, ("default", false), foreign::kinds());
        tried.join(&mut report);
        let lines = report.findings.iter();
        let lines = lines.map(|it| format!("{} {} {}", it.name, it.field, it.reason));
        (lines.collect(), report)
    }

    fn route(name: &str, version: &str, spec: Value) -> Value {
        json!({"apiVersion": format!("gateway.networking.k8s.io/{version}"), "kind": "HTTPRoute",
            "metadata": {"name": name}, "spec": spec})
    }

    #[test]
    fn what_the_server_would_refuse_is_told_once_with_its_field() {
        let misspelled = json!({"hostname": ["a.example.com"]});
        let relative = json!({"rules": [{"matches": [{"path": {"value": "no-slash"}}]}]});
        let (lines, _) = told(vec![
            route("good", "v1", json!({"hostnames": ["a.example.com"]})),
            route("misspelled", "v1", misspelled),
            route("relative", "v1", relative),
            route("shape", "v1", json!({"rules": {"matches": []}})),
            route("version", "v9", json!({})),
        ]);
        let about = |name: &str| lines.iter().filter(|it| it.starts_with(name)).count();
        assert_eq!(about("good"), 0, "{lines:?}");
        assert!(lines.contains(&"misspelled spec.hostname FieldUnknown".to_owned()));
        assert!(
            lines
                .iter()
                .any(|it| it.starts_with("relative spec.rules[0].matches[0].path"))
        );
        assert!(
            lines.contains(&"shape spec.rules FieldInvalid".to_owned()),
            "{lines:?}"
        );
        assert!(lines.contains(&"version  VersionNotServed".to_owned()));
        assert!(
            lines.iter().all(|it| !it.ends_with(UNREADABLE)),
            "{lines:?}"
        );
    }

    #[test]
    fn services_of_knative_are_judged_by_its_admission() {
        let service = |name: &str, containers: Value| {
            json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"template": {"spec": {"containers": containers}}}})
        };
        let (lines, report) = told(vec![
            service(
                "good",
                json!([{"image": "ghcr.io/knative/helloworld-go:latest"}]),
            ),
            service("bad", json!([{"image": "a"}, {"image": "b"}])),
        ]);
        assert!(
            !lines.is_empty() && lines.iter().all(|it| it.starts_with("bad")),
            "{lines:?}"
        );
        assert_eq!((report.judged, report.others.len()), (2, 0));
    }

    #[test]
    fn an_object_without_metadata_is_refused_and_nothing_breaks() {
        let (_, report) = told(vec![
            json!({"apiVersion": "projectcontour.io/v1", "kind": "HTTPProxy", "metadata": "x"}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": [1]}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": null}),
        ]);
        assert_eq!(report.findings.len(), 3, "{:?}", report.findings);
    }

    #[test]
    fn a_gateway_behind_a_balancer_is_judged_as_one() {
        let told = |wanted: bool, has_preamble: bool| {
            let configuration = json!({
                "apiVersion": "projectcontour.io/v1alpha1", "kind": "ContourConfiguration",
                "metadata": {"name": "contour", "namespace": "projectcontour"},
                "spec": {"envoy": {"listener": {"useProxyProtocol": wanted}}},
            });
            let kourier = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "config-kourier", "namespace": "knative-serving"},
                "data": {"enable-proxy-protocol": wanted.to_string()},
            });
            let objects = vec![configuration, kourier];
            let report = publisher::lint(objects, ("default", has_preamble), foreign::kinds());
            let about = report.findings.into_iter().map(|it| it.message);
            about
                .filter(|text| text.contains("--proxy-protocol"))
                .count()
        };
        assert_eq!((told(true, true), told(false, false)), (0, 0));
        assert_eq!((told(true, false), told(false, true)), (2, 2));
    }
}
