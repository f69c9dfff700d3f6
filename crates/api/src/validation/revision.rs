//! Revisions and the templates they are made from.

use serde_json::Value;

use super::report::{Report, join};
use super::{Settings, annotations, names, object, pod};
use crate::json;
use crate::names::label;

/// A Revision. Its spec never changes once it is stored.
pub(crate) fn validate(new: &Value, old: Option<&Value>, settings: &Settings, report: &mut Report) {
    object::metadata(new, report);
    let map = json::metadata_map(new, "annotations");
    annotations::autoscaling(&map, &settings.autoscaler, "metadata.annotations", report);
    object::owner_label(new, label::CONFIGURATION, "Configuration", report);
    match old {
        None => spec(&new["spec"], settings, "spec", report),
        Some(old) => {
            let difference = json::difference(&old["spec"], &new["spec"]);
            if !difference.is_empty() {
                report.say_with(
                    "Immutable fields changed (-old +new)",
                    &["spec".to_owned()],
                    difference,
                );
            }
        }
    }
}

/// `spec.template` of a Service or Configuration; `parent` is the whole object.
pub(crate) fn template(parent: &Value, settings: &Settings, report: &mut Report) {
    const BASE: &str = "spec.template";
    let template = &parent["spec"]["template"];
    spec(&template["spec"], settings, "spec.template.spec", report);
    let map = json::metadata_map(template, "annotations");
    let path = "spec.template.metadata.annotations";
    annotations::autoscaling(&map, &settings.autoscaler, path, report);
    annotations::template(&map, path, report);

    let metadata = &template["metadata"];
    let (name, prefix) = (
        json::text(metadata, "name"),
        json::text(metadata, "generateName"),
    );
    if let Some(problem) = (!prefix.is_empty())
        .then(|| names::dns1035_prefix(prefix))
        .flatten()
    {
        let path = join(BASE, "metadata.generateName");
        report.invalid(format!("not a DNS 1035 label prefix: [{problem}]"), path);
    }
    if !name.is_empty() {
        own_name(
            name,
            &parent["metadata"],
            &join(BASE, "metadata.name"),
            report,
        );
    }
}

/// A revision's name given by its author ("bring your own name").
fn own_name(name: &str, parent: &Value, path: &str, report: &mut Report) {
    if let Some(problem) = names::dns1035_label(name) {
        return report.invalid(
            format!("not a DNS 1035 label: [{problem}]"),
            path.to_owned(),
        );
    }
    let parent_name = json::text(parent, "name");
    if parent_name.is_empty() && !json::text(parent, "generateName").is_empty() {
        // The prefix is not known before the parent has its name.
        return report.disallowed(path.to_owned());
    }
    let prefix = format!("{parent_name}-");
    if !name.starts_with(&prefix) {
        report.invalid(
            format!("{name:?} must have prefix {prefix:?}"),
            path.to_owned(),
        );
    }
}

fn spec(spec: &Value, settings: &Settings, base: &str, report: &mut Report) {
    pod::validate(spec, settings, base, report);
    let defaults = &settings.defaults;
    let max = defaults.max_revision_timeout_seconds;
    let timeout = json::int(spec, "timeoutSeconds").unwrap_or(defaults.revision_timeout_seconds);
    if !(0..=max).contains(&timeout) {
        report.bounds(timeout, 0, max, join(base, "timeoutSeconds"));
    }
    for field in ["responseStartTimeoutSeconds", "idleTimeoutSeconds"] {
        if let Some(value) = json::int(spec, field).filter(|value| !(0..=timeout).contains(value)) {
            report.bounds(value, 0, timeout, join(base, field));
        }
    }
    if let Some(concurrency) = json::int(spec, "containerConcurrency") {
        self::concurrency(
            concurrency,
            settings,
            join(base, "containerConcurrency"),
            report,
        );
    }
}

/// The hard limit of requests in flight per pod.
pub(crate) fn concurrency(value: i64, settings: &Settings, path: String, report: &mut Report) {
    let least = i64::from(!settings.defaults.allow_container_concurrency_zero);
    let most = settings.defaults.container_concurrency_max_limit;
    if !(least..=most).contains(&value) {
        report.bounds(value, least, most, path);
    }
}
