//! Defaults of built-in kinds that depend on other fields of the same object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{default, empty, text};

type Object = Map<String, Value>;

/// A container that limits a resource without requesting it requests the limit.
pub(super) fn pod(pod: &mut Object) {
    default(pod, "status", empty());
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    default(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let Some(resources) = container
                .get_mut("resources")
                .and_then(Value::as_object_mut)
            else {
                continue;
            };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else {
                continue;
            };
            default(resources, "requests", empty());
            let Some(requests) = resources.get_mut("requests").and_then(Value::as_object_mut)
            else {
                continue;
            };
            for (name, quantity) in limits {
                requests.entry(name).or_insert(quantity);
            }
        }
    }
}

/// With the host's network the host ports are the container ports.
pub(super) fn pod_spec(spec: &mut Object) {
    // The older name of the same field; clients read either.
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        default(spec, "serviceAccount", account);
    } else if let Some(account) = spec.get("serviceAccount").cloned() {
        default(spec, "serviceAccountName", account);
    }
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for container in spec
        .get_mut("containers")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for port in container
            .get_mut("ports")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let Some(port) = port.as_object_mut() else {
                continue;
            };
            if let Some(number) = port.get("containerPort").cloned() {
                default(port, "hostPort", number);
            }
        }
    }
}

/// An image without tag, or with `latest`, may change: it is pulled each time.
pub(super) fn container(container: &mut Object) {
    let image = text(container, "image");
    let last = image.rsplit('/').next().unwrap_or(image);
    let moving = match last.split_once('@') {
        Some(_) => false,
        None => last.split_once(':').is_none_or(|(_, tag)| tag == "latest"),
    };
    default(
        container,
        "imagePullPolicy",
        if moving { "Always" } else { "IfNotPresent" },
    );
}

/// A volume that names no source is an empty directory.
pub(super) fn volume(volume: &mut Object) {
    if volume.len() == 1 && volume.contains_key("name") {
        volume.insert("emptyDir".into(), empty());
    }
}

pub(super) fn service_spec(spec: &mut Object) {
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
            || port.get("targetPort") == Some(&json!(0))
            || port.get("targetPort") == Some(&json!(""));
        if unset && let Some(number) = port.get("port").cloned() {
            port.insert("targetPort".into(), number);
        }
    }
    if text(spec, "sessionAffinity") == "ClientIP" {
        default(
            spec,
            "sessionAffinityConfig",
            json!({"clientIP": {"timeoutSeconds": 10800}}),
        );
    }
    let kind = text(spec, "type").to_owned();
    if kind == "NodePort" || kind == "LoadBalancer" {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
}

/// `stringData` is write-only: it is folded into `data`, and wins.
pub(super) fn secret(secret: &mut Object) {
    let Some(Value::Object(plain)) = secret.remove("stringData") else {
        return;
    };
    default(secret, "data", empty());
    let Some(data) = secret.get_mut("data").and_then(Value::as_object_mut) else {
        return;
    };
    for (key, value) in plain {
        if let Value::String(value) = value {
            data.insert(key, STANDARD.encode(value).into());
        }
    }
}

/// Kinds whose status clients read before a controller wrote one.
pub(super) fn workload(object: &mut Object) {
    default(object, "status", empty());
}

/// The same where the published schema demands a count.
pub(super) fn replica_set(object: &mut Object) {
    default(object, "status", json!({ "replicas": 0 }));
}

/// Deployments, stateful sets and daemon sets roll unless they say otherwise.
pub(super) fn rolling_update(strategy: &mut Object) {
    default(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        default(strategy, "rollingUpdate", empty());
    }
}

/// Without counts a job runs one pod to completion.
pub(super) fn job_spec(spec: &mut Object) {
    let completions = spec.contains_key("completions");
    let parallelism = spec.contains_key("parallelism");
    if !completions && !parallelism {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    // A limit for each index alone leaves none for the whole.
    let limit = match spec.contains_key("backoffLimitPerIndex") {
        true => i32::MAX,
        false => 6,
    };
    default(spec, "backoffLimit", limit);
    let replacement = match spec.contains_key("podFailurePolicy") {
        true => "Failed",
        false => "TerminatingOrFailed",
    };
    default(spec, "podReplacementPolicy", replacement);
}

/// Users and groups live in the RBAC group, service accounts in core.
pub(super) fn subject(subject: &mut Object) {
    if matches!(text(subject, "kind"), "User" | "Group") {
        default(subject, "apiGroup", "rbac.authorization.k8s.io");
    }
}

pub(super) fn crd_names(names: &mut Object) {
    let kind = text(names, "kind").to_owned();
    if kind.is_empty() {
        return;
    }
    default(names, "singular", kind.to_ascii_lowercase());
    default(names, "listKind", format!("{kind}List"));
}

/// A limit is the default limit, that is the default request, and without it the minimum is.
pub(super) fn limit_range_item(item: &mut Object) {
    if text(item, "type") != "Container" {
        return;
    }
    for (to, from) in [
        ("default", "max"),
        ("defaultRequest", "default"),
        ("defaultRequest", "min"),
    ] {
        let Some(source) = item.get(from).and_then(Value::as_object).cloned() else {
            continue;
        };
        default(item, to, empty());
        if let Some(own) = item.get_mut(to).and_then(Value::as_object_mut) {
            for (name, quantity) in source {
                own.entry(name).or_insert(quantity);
            }
        }
    }
}
