//! PodAutoscalers, which controllers write.

use serde_json::Value;

use super::report::{Report, join};
use super::{Settings, annotations, names, object, revision};
use crate::json;

pub(crate) fn validate(object: &Value, settings: &Settings, report: &mut Report) {
    object::metadata(object, report);
    let map = json::metadata_map(object, "annotations");
    annotations::autoscaling(&map, &settings.autoscaler, "metadata.annotations", report);
    let spec = &object["spec"];
    if !json::says_something(spec) {
        return report.missing("spec".to_owned());
    }
    let target = &spec["scaleTargetRef"];
    for field in ["apiVersion", "kind", "name"] {
        if json::text(target, field).is_empty() {
            report.missing(join("spec.scaleTargetRef", field));
        }
    }
    let name = json::text(target, "name");
    if let Some(problem) = (!name.is_empty())
        .then(|| names::dns1123_label(name))
        .flatten()
    {
        report.invalid(problem, "spec.scaleTargetRef.name".to_owned());
    }
    let concurrency = json::int(spec, "containerConcurrency").unwrap_or(0);
    revision::concurrency(
        concurrency,
        settings,
        "spec.containerConcurrency".to_owned(),
        report,
    );
    match json::text(spec, "protocolType") {
        "http1" | "h2c" => {}
        "" => report.missing("spec.protocolType".to_owned()),
        other => report.invalid(other, "spec.protocolType".to_owned()),
    }
}
