//! Rules for `metadata` and for changes, shared by all kinds.

use std::str::FromStr;

use serde_json::Value;

use super::report::{Report, join};
use super::{annotations, names};
use crate::names::{annotation, label};
use crate::{autoscaling, json};

/// Name and generated name: both become names of Kubernetes Services.
pub(crate) fn metadata(object: &Value, report: &mut Report) {
    let metadata = &object["metadata"];
    let (name, prefix) = (
        json::text(metadata, "name"),
        json::text(metadata, "generateName"),
    );
    if let Some(problem) = (!prefix.is_empty())
        .then(|| names::dns1035_prefix(prefix))
        .flatten()
    {
        report.say(
            format!("not a DNS 1035 label prefix: [{problem}]"),
            &["metadata.generateName".to_owned()],
        );
    } else if let Some(problem) = (!name.is_empty())
        .then(|| names::dns1035_label(name))
        .flatten()
    {
        report.say(
            format!("not a DNS 1035 label: [{problem}]"),
            &["metadata.name".to_owned()],
        );
    } else if name.is_empty() && prefix.is_empty() {
        report.say(
            "name or generateName is required",
            &["metadata.name".to_owned()],
        );
    }
}

/// Autoscaling annotations act on revisions; on the object above they would silently do nothing.
pub(crate) fn no_autoscaling_annotations(object: &Value, report: &mut Report) {
    for key in json::metadata_map(object, "annotations").keys() {
        if key.starts_with(autoscaling::annotation::GROUP) {
            let hint = "autoscaling annotations must be put under \"spec.template.metadata.annotations\" to work";
            report.key_name(key, "metadata.annotations".to_owned(), hint);
        }
    }
}

/// Our own autoscaling annotation, which only a Service has.
pub(crate) fn service_min_scale(object: &Value, is_service: bool, report: &mut Report) {
    let map = json::metadata_map(object, "annotations");
    for (key, value) in map {
        let is_it = key == autoscaling::annotation::SERVICE_MIN_SCALE;
        if !key.starts_with(autoscaling::annotation::OWN_GROUP) {
            continue;
        } else if !is_it {
            let hint = "it belongs under \"spec.template.metadata.annotations\"";
            report.key_name(&key, "metadata.annotations".to_owned(), hint);
        } else if !is_service {
            report.warn(format!("annotation {key} has an effect only on a Service"));
        } else if i32::from_str(&value).ok().is_none_or(|scale| scale < 0) {
            report.invalid(value, join("metadata.annotations", &key));
        }
    }
}

/// Values of the networking annotations that Routes and DomainMappings act on. Knative's controllers
/// fail at them without a condition.
pub(crate) fn network_annotations(object: &Value, report: &mut Report) {
    const PROTOCOLS: [&str; 2] = ["enabled", "redirected"];
    for (key, value) in json::metadata_map(object, "annotations") {
        let Some(("networking.knative.dev", name)) = key.split_once('/') else {
            continue;
        };
        let is_protocol = PROTOCOLS.contains(&value.to_ascii_lowercase().as_str());
        let hint = match name {
            "http-protocol" | "httpOption" if !is_protocol => "use Enabled or Redirected",
            "disable-external-domain-tls" | "disable-auto-tls" | "disableAutoTLS"
                if annotation::parse_bool(&value).is_none() =>
            {
                "use true or false"
            }
            _ => continue,
        };
        if !value.is_empty() {
            report.invalid_because(&value, join("metadata.annotations", &key), hint);
        }
    }
}

/// `serving.knative.dev/rollout-duration`: seconds, not negative.
pub(crate) fn rollout_duration(object: &Value, report: &mut Report) {
    let map = json::metadata_map(object, "annotations");
    for key in annotation::ROLLOUT_DURATIONS {
        if let Some(value) = map.get(key).filter(|value| !value.is_empty()) {
            annotations::whole_seconds(
                "rollout-duration",
                key,
                value,
                "metadata.annotations",
                report,
            );
        }
    }
}

/// A label that names a parent must agree with the owner references: it decides what the
/// parent's controller counts as its own.
pub(crate) fn owner_label(object: &Value, key: &str, kind: &str, report: &mut Report) {
    let labels = json::metadata_map(object, "labels");
    let Some(parent) = labels.get(key) else {
        return;
    };
    let owners = json::list(&object["metadata"], "ownerReferences");
    if !owners
        .iter()
        .any(|owner| json::text(owner, "kind") == kind && json::text(owner, "name") == parent)
    {
        report.missing(join("metadata.labels", key));
    }
}

/// The label that ties an object to its Service.
pub(crate) fn service_label(object: &Value, report: &mut Report) {
    owner_label(object, label::SERVICE, "Service", report);
}

/// Who created and who last changed an object is not for users to write.
pub(crate) fn creator_and_modifier(old: &Value, new: &Value, report: &mut Report) {
    let [before, after] = [old, new].map(|object| json::metadata_map(object, "annotations"));
    let path = |key: &str| join("metadata.annotations", key);
    if before.get(annotation::CREATOR) != after.get(annotation::CREATOR) {
        report.say(
            "annotation value is immutable",
            &[path(annotation::CREATOR)],
        );
    }
    let modifier = after.get(annotation::LAST_MODIFIER);
    if before.get(annotation::LAST_MODIFIER) != modifier
        && json::difference(&old["spec"], &new["spec"]).is_empty()
    {
        report.invalid(
            modifier.map(String::as_str).unwrap_or_default(),
            path(annotation::LAST_MODIFIER),
        );
    }
}

/// A revision's name given by its author stands for one template: another template needs
/// another name.
pub(crate) fn template_name_change(old: &Value, new: &Value, report: &mut Report) {
    let template = |object: &Value| object["spec"]["template"].clone();
    let (old, new) = (template(old), template(new));
    let name = json::text(&new["metadata"], "name");
    if name.is_empty() || name != json::text(&old["metadata"], "name") {
        return;
    }
    let difference = json::difference(&old, &new);
    if !difference.is_empty() {
        let message = "Saw the following changes without a name change (-old +new)";
        report.say_with(
            message,
            &["spec.template.metadata.name".to_owned()],
            difference,
        );
    }
}
