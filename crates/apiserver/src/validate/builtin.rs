//! What built-in kinds demand beyond their schema, hung on definitions like the defaults are.
//!
//! Only demands are here whose breach would break a controller, a pod or a client; Kubernetes
//! checks more. Texts are those of Kubernetes.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::name;
use crate::schema::{Demand, Path, Schema};
use crate::status::{Fault, FieldError};

mod data;
mod pod;
mod service;
mod volume;
mod workload;

type Object = Map<String, Value>;

const CORE: &str = "io.k8s.api.core.v1.";
const APPS: &str = "io.k8s.api.apps.v1.";

const DEMANDS: &[(&str, &str, Demand)] = &[
    (CORE, "Pod", pod::pod),
    (CORE, "PodSpec", pod::spec),
    (CORE, "PodTemplateSpec", pod::template),
    (CORE, "EphemeralContainer", pod::container),
    (CORE, "Container", pod::container),
    (CORE, "ContainerPort", pod::port),
    (CORE, "EnvVar", pod::env),
    (CORE, "Probe", pod::probe),
    (CORE, "ServiceSpec", service::spec),
    (CORE, "ServicePort", service::port),
    (CORE, "ConfigMap", data::config_map),
    (CORE, "Secret", data::secret),
    (CORE, "PersistentVolume", volume::volume),
    (CORE, "PersistentVolumeClaim", volume::claim),
    ("io.k8s.api.storage.v1.", "StorageClass", volume::class),
    (APPS, "DeploymentSpec", workload::deployment),
    (APPS, "ReplicaSetSpec", workload::replica_set),
    (APPS, "StatefulSetSpec", workload::stateful_set),
    (APPS, "DaemonSetSpec", workload::daemon_set),
    ("io.k8s.api.batch.v1.", "JobSpec", workload::job),
    (
        "io.k8s.api.autoscaling.v2.",
        "HorizontalPodAutoscalerSpec",
        workload::autoscaler,
    ),
    (
        "io.k8s.api.discovery.v1.",
        "EndpointSlice",
        service::endpoint_slice,
    ),
    ("io.k8s.api.networking.v1.", "IngressSpec", service::ingress),
];

/// Definition and field that may not change once set.
const IMMUTABLE: &[(&str, &str, &str)] = &[
    (APPS, "Deployment", "/spec/selector"),
    (APPS, "ReplicaSet", "/spec/selector"),
    (APPS, "DaemonSet", "/spec/selector"),
    (APPS, "StatefulSet", "/spec/selector"),
    (APPS, "StatefulSet", "/spec/serviceName"),
    (APPS, "StatefulSet", "/spec/podManagementPolicy"),
    ("io.k8s.api.batch.v1.", "Job", "/spec/selector"),
    ("io.k8s.api.batch.v1.", "Job", "/spec/template"),
    ("io.k8s.api.batch.v1.", "Job", "/spec/completionMode"),
    (CORE, "Secret", "/type"),
    (CORE, "PersistentVolume", "/spec/volumeMode"),
    ("io.k8s.api.storage.v1.", "StorageClass", "/provisioner"),
    ("io.k8s.api.storage.v1.", "StorageClass", "/parameters"),
    ("io.k8s.api.storage.v1.", "StorageClass", "/reclaimPolicy"),
    (
        "io.k8s.api.storage.v1.",
        "StorageClass",
        "/volumeBindingMode",
    ),
    ("io.k8s.api.discovery.v1.", "EndpointSlice", "/addressType"),
    ("io.k8s.api.rbac.v1.", "RoleBinding", "/roleRef"),
    ("io.k8s.api.rbac.v1.", "ClusterRoleBinding", "/roleRef"),
    ("io.k8s.api.node.v1.", "RuntimeClass", "/handler"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
        "CustomResourceDefinition",
        "/spec/scope",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
        "CustomResourceDefinition",
        "/spec/group",
    ),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
        "CustomResourceDefinition",
        "/spec/names/plural",
    ),
];

/// Amounts such as `500m` and `64Mi`, which the schema knows as a string or a number.
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// Hangs the demands of `definition` on its schema.
pub(crate) fn attach(definition: &str, schema: &mut Schema) {
    if definition == QUANTITY
        && let Some(limits) = schema.limits.as_mut().and_then(Arc::get_mut)
    {
        limits.format = Some("quantity".into());
    }
    for (package, name, demand) in DEMANDS {
        if definition.strip_prefix(package) == Some(name) {
            schema.demand = Some(*demand);
        }
    }
}

/// Findings in a change of an object of a built-in `definition`.
pub fn update(definition: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (package, name, pointer) in IMMUTABLE {
        if definition.strip_prefix(package) != Some(name) {
            continue;
        }
        let before = old.pointer(pointer);
        if before.is_some() && before != new.pointer(pointer) {
            let value = new.pointer(pointer).cloned().unwrap_or_default();
            let field = pointer[1..].replace('/', ".");
            errors.push(FieldError::invalid(field, &value, "field is immutable"));
        }
    }
    match definition.strip_prefix(CORE) {
        Some("Pod") => pod::update(new, old, &mut errors),
        Some("Service") => service::update(new, old, &mut errors),
        Some("ConfigMap" | "Secret") => data::update(new, old, &mut errors),
        Some("PersistentVolumeClaim") => volume::claim_update(new, old, &mut errors),
        Some("PersistentVolume") => volume::volume_update(new, old, &mut errors),
        _ => {}
    }
    errors
}

fn text<'a>(map: &'a Object, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(map: &'a Object, field: &str) -> &'a [Value] {
    map.get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Reports a value outside of `allowed`; a missing one is the schema's business.
fn one_of(
    map: &Object,
    field: &str,
    allowed: &[&str],
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let Some(value) = map.get(field).and_then(Value::as_str) else {
        return;
    };
    if !allowed.contains(&value) {
        let supported: Vec<_> = allowed.iter().map(|one| format!("\"{one}\"")).collect();
        errors.push(FieldError::with_value(
            Fault::NotSupported,
            path.field(field).to_string(),
            format!("\"{value}\""),
            format!("supported values: {}", supported.join(", ")),
        ));
    }
}

/// Reports a number below zero.
fn not_negative(map: &Object, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(value) = map
        .get(field)
        .filter(|value| value.as_i64().is_some_and(|number| number < 0))
    {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(
            path.field(field).to_string(),
            value,
            detail,
        ));
    }
}

/// Reports a port number that is none; `path` is the field itself.
fn port_number(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(number) = value.as_i64()
        && !(1..=65535).contains(&number)
    {
        errors.push(FieldError::invalid(
            path.to_string(),
            value,
            "must be between 1 and 65535, inclusive",
        ));
    }
}

/// Reports a port that is neither a number in range nor a port's name.
fn port_reference(value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value.as_str() {
        Some(text) => {
            if let Err(why) = name::port_name(text) {
                errors.push(FieldError::invalid(path.to_string(), value, why));
            }
        }
        None => port_number(value, path, errors),
    }
}

/// Reports a value that appears a second time.
fn duplicate(path: String, value: &str) -> FieldError {
    FieldError::with_value(Fault::Duplicate, path, format!("\"{value}\""), "")
}
