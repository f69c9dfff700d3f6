//! What Knative fills in when a user does not say.
//!
//! Works on JSON: only absent fields are set, everything else stays as sent.

mod revision;

pub use revision::spec as revision_spec;

use serde_json::{Value, json};

use crate::config::template::Values;
use crate::json;
use crate::validation::Settings;

/// Fills `spec.template.spec` of a Service or Configuration.
pub(crate) fn template(object: &mut Value, settings: &Settings) {
    let (labels, annotations) = (
        json::metadata_map(object, "labels"),
        json::metadata_map(object, "annotations"),
    );
    let metadata = object["metadata"].clone();
    let parent = Values {
        name: json::text(&metadata, "name"),
        namespace: json::text(&metadata, "namespace"),
        labels: Some(&labels),
        annotations: Some(&annotations),
        ..Values::default()
    };
    let template =
        json::object_mut(object, "spec").and_then(|spec| json::object_mut(spec, "template"));
    let Some(template) = template else { return };
    // Go clients send `creationTimestamp: null`, which says nothing.
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| !value.is_null());
    }
    if let Some(spec) = json::object_mut(template, "spec") {
        revision::spec(spec, settings, &parent, true);
    }
}

/// Fills `spec.traffic`. Without targets, all traffic of a Service goes to its latest revision.
pub(crate) fn traffic(object: &mut Value, of_service: bool) {
    let Some(spec) = json::object_mut(object, "spec") else {
        return;
    };
    if of_service
        && json::list(spec, "traffic").is_empty()
        && spec
            .get("traffic")
            .is_none_or(|t| t.is_null() || t.is_array())
    {
        spec["traffic"] = json!([{"latestRevision": true, "percent": 100}]);
    }
    for target in json::list_mut(spec, "traffic") {
        let latest = json::text(target, "revisionName").is_empty();
        json::set_absent(target, "latestRevision", latest);
        json::set_absent(target, "percent", 0);
    }
}

/// Fills what a Knative Ingress leaves out.
pub(crate) fn ingress(object: &mut Value) {
    let Some(spec) = json::object_mut(object, "spec") else {
        return;
    };
    json::set_absent(spec, "httpOption", "Enabled");
    for rule in json::list_mut(spec, "rules") {
        if json::text(rule, "visibility").is_empty()
            && let Some(rule) = rule.as_object_mut()
        {
            rule.insert("visibility".to_owned(), "ExternalIP".into());
        }
        let Some(http) = rule.get_mut("http") else {
            continue;
        };
        for path in json::list_mut(http, "paths") {
            if let [split] = json::list_mut(path, "splits")
                && json::int(split, "percent").unwrap_or(0) == 0
                && let Some(split) = split.as_object_mut()
            {
                split.insert("percent".to_owned(), 100.into());
            }
        }
    }
}

/// A DomainMapping's target is in its own namespace unless it says so.
pub(crate) fn domain_mapping(object: &mut Value) {
    let namespace = json::text(&object["metadata"], "namespace").to_owned();
    let spec = json::object_mut(object, "spec");
    if let Some(reference) = spec.and_then(|spec| json::object_mut(spec, "ref"))
        && json::text(reference, "namespace").is_empty()
        && !namespace.is_empty()
    {
        reference["namespace"] = namespace.into();
    }
}

/// Fills what a PodAutoscaler leaves out.
pub(crate) fn podautoscaler(object: &mut Value) {
    if let Some(spec) = json::object_mut(object, "spec") {
        json::set_absent(spec, "containerConcurrency", 0);
    }
}
