//! Demands of the kinds that make pods from a template.

use serde_json::{Value, json};

use super::{Object, not_negative, text};
use crate::schema::Path;
use crate::selector::Labels;
use crate::status::{Fault, FieldError};

pub(super) fn deployment(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    replicated(spec, path, "deployment", errors);
    for field in [
        "revisionHistoryLimit",
        "minReadySeconds",
        "progressDeadlineSeconds",
    ] {
        not_negative(spec, field, path, errors);
    }
}

pub(super) fn replica_set(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    replicated(spec, path, "replicaset", errors);
}

pub(super) fn stateful_set(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    replicated(spec, path, "statefulset", errors);
}

pub(super) fn daemon_set(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    replicated(spec, path, "daemonset", errors);
}

/// The selector must find the pods that the template makes, and those must be restarted.
fn replicated(spec: &Object, path: &Path<'_>, kind: &str, errors: &mut Vec<FieldError>) {
    not_negative(spec, "replicas", path, errors);
    let Some(selector) = spec.get("selector") else {
        return;
    };
    let here = path.field("selector");
    match Labels::from_selector(selector) {
        Err(why) => errors.push(FieldError::invalid(here.to_string(), selector, why)),
        Ok(labels) if labels.is_everything() => {
            errors.push(FieldError::invalid(
                here.to_string(),
                selector,
                format!("empty selector is invalid for {kind}"),
            ));
        }
        Ok(labels) => {
            let template = spec
                .get("template")
                .and_then(|template| template.pointer("/metadata/labels"));
            if !labels.matches_map(template.and_then(Value::as_object)) {
                let found = template.cloned().unwrap_or_else(|| json!({}));
                let field = path
                    .field("template")
                    .field("metadata")
                    .field("labels")
                    .to_string();
                errors.push(FieldError::invalid(
                    field,
                    &found,
                    "`selector` does not match template `labels`",
                ));
            }
        }
    }
    if let Some(policy) = restart_policy(spec).filter(|policy| *policy != "Always") {
        let field = path
            .field("template")
            .field("spec")
            .field("restartPolicy")
            .to_string();
        let detail = "supported values: \"Always\"";
        errors.push(FieldError::with_value(
            Fault::NotSupported,
            field,
            format!("\"{policy}\""),
            detail,
        ));
    }
}

pub(super) fn job(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        not_negative(spec, field, path, errors);
    }
    if restart_policy(spec) == Some("Always") {
        let field = path
            .field("template")
            .field("spec")
            .field("restartPolicy")
            .to_string();
        errors.push(FieldError::required(
            field,
            "valid values: \"OnFailure\", \"Never\"",
        ));
    }
}

fn restart_policy(spec: &Object) -> Option<&str> {
    spec.get("template")?
        .pointer("/spec/restartPolicy")?
        .as_str()
}

pub(super) fn autoscaler(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let number = |field: &str| spec.get(field).and_then(Value::as_i64);
    let most = number("maxReplicas").unwrap_or_default();
    if most < 1 {
        errors.push(FieldError::invalid(
            path.field("maxReplicas").to_string(),
            &most.into(),
            "must be greater than 0",
        ));
    }
    if number("minReplicas").is_some_and(|least| least > most) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(
            path.field("maxReplicas").to_string(),
            &most.into(),
            detail,
        ));
    }
    let target = spec.get("scaleTargetRef").and_then(Value::as_object);
    for field in ["kind", "name"] {
        if target.is_some_and(|target| text(target, field).is_empty()) {
            errors.push(FieldError::required(
                path.field("scaleTargetRef").field(field).to_string(),
                "",
            ));
        }
    }
}
