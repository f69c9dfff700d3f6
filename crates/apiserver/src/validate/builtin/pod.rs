//! Demands of pods, wherever a pod template appears.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Object, duplicate, list, name, one_of, port_number, port_reference, text};
use crate::schema::Path;
use crate::status::{Fault, FieldError};

mod ephemeral;

/// Exactly one of them makes a probe.
const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];

pub(super) fn pod(pod: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if !pod.contains_key("spec") {
        errors.push(FieldError::required(
            path.field("spec").field("containers").to_string(),
            "",
        ));
    }
}

pub(super) fn template(template: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let spec = template.get("spec").and_then(Value::as_object);
    if spec.is_some_and(|spec| !list(spec, "ephemeralContainers").is_empty()) {
        let field = path.field("spec").field("ephemeralContainers").to_string();
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(field, detail));
    }
}

pub(super) fn spec(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if spec
        .get("containers")
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty)
    {
        errors.push(FieldError::required(
            path.field("containers").to_string(),
            "",
        ));
    }
    one_of(
        spec,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        path,
        errors,
    );
    one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path,
        errors,
    );
    let mut names = HashSet::new();
    for field in ["containers", "initContainers"] {
        let here = path.field(field);
        for (index, container) in list(spec, field).iter().enumerate() {
            let given = container
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !given.is_empty() && !names.insert(given) {
                errors.push(duplicate(
                    here.index(index).field("name").to_string(),
                    given,
                ));
            }
        }
    }
    volumes(spec, path, errors);
    ephemeral::validate(spec, path, errors);
}

fn volumes(spec: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut volumes = HashSet::new();
    let here = path.field("volumes");
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let given = volume
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let here = here.index(index);
        if let Err(why) = name::dns_label(given) {
            errors.push(FieldError::invalid(
                here.field("name").to_string(),
                &given.into(),
                why,
            ));
        }
        if !volumes.insert(given) {
            errors.push(duplicate(here.field("name").to_string(), given));
        }
    }
    for field in ["containers", "initContainers", "ephemeralContainers"] {
        let here = path.field(field);
        for (index, container) in list(spec, field).iter().enumerate() {
            let here = here.index(index);
            let here = here.field("volumeMounts");
            let mounts = container
                .get("volumeMounts")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            for (index, mount) in mounts.enumerate() {
                let given = mount
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if !volumes.contains(given) {
                    let field = here.index(index).field("name").to_string();
                    errors.push(FieldError::with_value(
                        Fault::NotFound,
                        field,
                        format!("\"{given}\""),
                        "",
                    ));
                }
            }
        }
    }
}

pub(super) fn container(container: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given = text(container, "name");
    if given.is_empty() {
        // A missing name is reported by the schema.
        if container.contains_key("name") {
            errors.push(FieldError::required(path.field("name").to_string(), ""));
        }
    } else if let Err(why) = name::dns_label(given) {
        errors.push(FieldError::invalid(
            path.field("name").to_string(),
            &given.into(),
            why,
        ));
    }
    if text(container, "image").trim().is_empty() {
        errors.push(FieldError::required(path.field("image").to_string(), ""));
    }
    one_of(
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        path,
        errors,
    );
    one_of(
        container,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
        path,
        errors,
    );
    let mut names = HashSet::new();
    let ports = path.field("ports");
    for (index, port) in list(container, "ports").iter().enumerate() {
        let given = port.get("name").and_then(Value::as_str).unwrap_or_default();
        if !given.is_empty() && !names.insert(given) {
            errors.push(duplicate(
                ports.index(index).field("name").to_string(),
                given,
            ));
        }
    }
}

pub(super) fn port(port: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for field in ["containerPort", "hostPort"] {
        // Zero means "not set" for the host's port.
        if let Some(value) = port
            .get(field)
            .filter(|value| field == "containerPort" || **value != json!(0))
        {
            port_number(value, &path.field(field), errors);
        }
    }
    let given = text(port, "name");
    if !given.is_empty()
        && let Err(why) = name::port_name(given)
    {
        errors.push(FieldError::invalid(
            path.field("name").to_string(),
            &given.into(),
            why,
        ));
    }
    one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
}

pub(super) fn env(env: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given = text(env, "name");
    if given.is_empty() {
        if env.contains_key("name") {
            errors.push(FieldError::required(path.field("name").to_string(), ""));
        }
    } else if let Err(why) = name::env_name(given) {
        errors.push(FieldError::invalid(
            path.field("name").to_string(),
            &given.into(),
            why,
        ));
    }
    if !text(env, "value").is_empty() && env.get("valueFrom").is_some_and(|from| !from.is_null()) {
        let detail = "may not be specified when `value` is not empty";
        errors.push(FieldError::invalid(
            path.field("valueFrom").to_string(),
            &"".into(),
            detail,
        ));
    }
}

pub(super) fn probe(probe: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given: Vec<_> = HANDLERS
        .iter()
        .filter(|handler| probe.contains_key(**handler))
        .collect();
    match given.as_slice() {
        [] => errors.push(FieldError::required(
            path.to_string(),
            "must specify a handler type",
        )),
        [_] => {}
        [_, more @ ..] => {
            for handler in more {
                let detail = "may not specify more than 1 handler type";
                errors.push(FieldError::forbidden(
                    path.field(handler).to_string(),
                    detail,
                ));
            }
        }
    }
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(port) = probe.get(handler).and_then(|handler| handler.get("port")) {
            port_reference(port, &path.field(handler).field("port"), errors);
        }
    }
}

/// A running pod keeps its spec, but for what can be changed in place and the node it is bound to.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (Some(new), Some(old)) = (new.get("spec"), old.get("spec")) else {
        return;
    };
    if fixed(new, old) != fixed(old, old) {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

/// The part of a spec that may not change from `old`.
fn fixed(spec: &Value, old: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(map) = spec.as_object_mut() else {
        return spec;
    };
    let mut mutable = vec![
        "activeDeadlineSeconds",
        "tolerations",
        "terminationGracePeriodSeconds",
        "schedulingGates",
        "ephemeralContainers",
    ];
    if old
        .get("nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
    {
        mutable.push("nodeName");
    }
    for field in mutable {
        map.remove(field);
    }
    for list in ["containers", "initContainers"] {
        for container in map
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(container) = container.as_object_mut() {
                container.remove("image");
                // Judged apart: they change by the subresource `resize`.
                container.remove("resources");
                container.remove("resizePolicy");
            }
        }
    }
    spec
}
