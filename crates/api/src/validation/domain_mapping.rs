//! DomainMappings: the name is a domain, the target is in the same namespace.

use serde_json::Value;

use super::names::{LABEL_MAX, dns1123_subdomain};
use super::report::{Report, join};
use crate::json;
use crate::names::CLUSTER_DOMAIN;

pub(crate) fn validate(object: &Value, namespace: &str, report: &mut Report) {
    let metadata = &object["metadata"];
    if !json::text(metadata, "generateName").is_empty() {
        report.disallowed("metadata.generateName".to_owned());
    }
    name(json::text(metadata, "name"), report);
    reference(&object["spec"]["ref"], namespace, report);
    let tls = &object["spec"]["tls"];
    if tls.is_object() && json::text(tls, "secretName").is_empty() {
        report.missing("spec.tls.secretName".to_owned());
    }
}

fn name(name: &str, report: &mut Report) {
    let path = ["metadata.name".to_owned()];
    if let Some(problem) = not_a_domain(name) {
        let message = format!("invalid name {name:?}: name: Invalid value: {name:?}: {problem}");
        report.say(message, &path);
    }
    if name.ends_with(&format!(".{CLUSTER_DOMAIN}")) {
        let message = format!(
            "invalid name {name:?}: must not be a subdomain of cluster local domain {CLUSTER_DOMAIN:?}"
        );
        report.say(message, &path);
    }
}

/// Kubernetes' rule for fully qualified domain names.
fn not_a_domain(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Some(problem) = dns1123_subdomain(name) {
        return Some(problem);
    }
    if !name.contains('.') {
        return Some("should be a domain with at least two segments separated by dots".to_owned());
    }
    let is_long = name.split('.').any(|label| label.len() > LABEL_MAX);
    is_long.then(|| format!("must be no more than {LABEL_MAX} characters"))
}

fn reference(reference: &Value, namespace: &str, report: &mut Report) {
    let base = "spec.ref";
    if !json::says_something(reference) {
        return report.missing(base.to_owned());
    }
    for field in ["name", "kind"] {
        if json::text(reference, field).is_empty() {
            report.missing(join(base, field));
        }
    }
    let (version, group) = (
        json::text(reference, "apiVersion"),
        json::text(reference, "group"),
    );
    if version.is_empty() && group.is_empty() {
        report.missing(join(base, "apiVersion"));
    }
    let target = json::text(reference, "namespace");
    if !target.is_empty() && !namespace.is_empty() && target != namespace {
        let details = format!("parent namespace: {namespace:?} does not match ref: {target:?}");
        report.say_with("mismatched namespaces", &[join(base, "namespace")], details);
    }
}
