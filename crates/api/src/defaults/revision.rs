//! Defaults of a revision's spec.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::config::template::Values;
use crate::config::{Feature, Flag};
use crate::validation::Settings;
use crate::{json, names};

/// Fills a revision's spec (in a template or in a Revision). `parent` names the Service or
/// Configuration, for names of containers; `create` is false for stored revisions.
pub fn spec(spec: &mut Value, settings: &Settings, parent: &Values<'_>, create: bool) {
    let defaults = &settings.defaults;
    // Zero means "the default" for the timeout only.
    if json::int(spec, "timeoutSeconds") == Some(0) {
        spec["timeoutSeconds"] = Value::Null;
    }
    json::set_absent(spec, "timeoutSeconds", defaults.revision_timeout_seconds);
    let timeout = json::int(spec, "timeoutSeconds").unwrap_or(defaults.revision_timeout_seconds);
    for (field, value) in [
        ("idleTimeoutSeconds", defaults.revision_idle_timeout_seconds),
        (
            "responseStartTimeoutSeconds",
            defaults.revision_response_start_timeout_seconds,
        ),
    ] {
        if value != 0 && value < timeout {
            json::set_absent(spec, field, value);
        }
    }
    json::set_absent(spec, "containerConcurrency", defaults.container_concurrency);
    if let Some(links) = defaults.enable_service_links.filter(|_| create) {
        json::set_absent(spec, "enableServiceLinks", links);
    }
    container_names(spec, settings, parent);
    let writable = writable_volumes(spec);
    let pod_context = spec.get("securityContext").cloned().unwrap_or(Value::Null);
    let alone = json::list(spec, "containers").len() == 1;
    for container in json::list_mut(spec, "containers") {
        self::container(container, alone, &writable, settings);
        security_context(container, &pod_context, settings);
    }
    for container in json::list_mut(spec, "initContainers") {
        normalize_quantities(container);
        security_context(container, &pod_context, settings);
    }
    for volume in json::list_mut(spec, "volumes") {
        if let Some(size) = volume
            .get_mut("emptyDir")
            .and_then(|dir| dir.get_mut("sizeLimit"))
        {
            quantity_text(size);
        }
    }
}

/// Unnamed containers get the configured name, with a number where that would clash.
fn container_names(spec: &mut Value, settings: &Settings, parent: &Values<'_>) {
    let fields = ["containers", "initContainers"];
    let all = fields.into_iter().flat_map(|field| json::list(spec, field));
    let mut taken: BTreeSet<String> = all
        .map(|item| json::text(item, "name").to_owned())
        .collect();
    let wanted = [
        settings.defaults.container_name(parent),
        settings.defaults.init_container_name(parent),
    ];
    for (field, name) in fields.into_iter().zip(wanted) {
        let containers = json::list_mut(spec, field);
        let several = containers.len() > 1;
        let mut number = 0;
        for container in containers {
            if !json::text(container, "name").is_empty() {
                continue;
            }
            let mut free = name.clone();
            while free.is_empty() || taken.contains(&free) || (several && free == name) {
                free = names::child_name(&name, &format!("-{number}"));
                number += 1;
            }
            if let Some(container) = container.as_object_mut() {
                container.insert("name".to_owned(), free.clone().into());
            }
            taken.insert(free);
        }
    }
}

fn container(container: &mut Value, alone: bool, writable: &BTreeSet<String>, settings: &Settings) {
    resources(container, settings);
    normalize_quantities(container);
    if alone || !json::list(container, "ports").is_empty() {
        let probe = json::object_mut(container, "readinessProbe");
        if let Some(probe) = probe {
            let handlers = ["tcpSocket", "httpGet", "exec", "grpc"];
            if handlers
                .iter()
                .all(|handler| json::present(probe, handler).is_none())
            {
                // Port 0: the container's own port, filled in when the pod is made.
                json::set_absent(probe, "tcpSocket", json!({"port": 0}));
            }
        }
    }
    if let Some(probe) = container
        .get_mut("readinessProbe")
        .filter(|probe| probe.is_object())
    {
        let unset = |probe: &Value, field: &str| json::int(probe, field).unwrap_or(0) == 0;
        if unset(probe, "successThreshold") {
            probe["successThreshold"] = 1.into();
        }
        // Period 0 probes as fast as possible; Kubernetes' defaults are for the others.
        if !unset(probe, "periodSeconds") {
            for (field, value) in [("failureThreshold", 3), ("timeoutSeconds", 1)] {
                if unset(probe, field) {
                    probe[field] = value.into();
                }
            }
        }
    }
    for field in ["readinessProbe", "livenessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(field) else {
            continue;
        };
        if let Some(grpc) = probe.get_mut("grpc") {
            json::set_absent(grpc, "service", "");
        }
        for handler in ["httpGet", "tcpSocket"] {
            if let Some(handler) = probe.get_mut(handler) {
                json::set_absent(handler, "port", 0);
            }
        }
    }
    for mount in json::list_mut(container, "volumeMounts") {
        if !writable.contains(json::text(mount, "name"))
            && let Some(mount) = mount.as_object_mut()
        {
            mount.insert("readOnly".to_owned(), true.into());
        }
    }
}

fn resources(container: &mut Value, settings: &Settings) {
    let defaults = &settings.defaults;
    let Some(resources) = json::object_mut(container, "resources") else {
        return;
    };
    for (field, name, amount) in [
        ("requests", "cpu", &defaults.revision_cpu_request),
        ("requests", "memory", &defaults.revision_memory_request),
        (
            "requests",
            "ephemeral-storage",
            &defaults.revision_ephemeral_storage_request,
        ),
        ("limits", "cpu", &defaults.revision_cpu_limit),
        ("limits", "memory", &defaults.revision_memory_limit),
        (
            "limits",
            "ephemeral-storage",
            &defaults.revision_ephemeral_storage_limit,
        ),
    ] {
        if let Some(amount) = amount
            && let Some(amounts) = json::object_mut(resources, field)
        {
            json::set_absent(amounts, name, amount.as_str());
        }
    }
}

/// Quantities may be written as numbers; they are stored as text, as Kubernetes stores them.
fn normalize_quantities(container: &mut Value) {
    for field in ["limits", "requests"] {
        let amounts = container
            .get_mut("resources")
            .and_then(|resources| resources.get_mut(field));
        if let Some(amounts) = amounts.and_then(Value::as_object_mut) {
            amounts.values_mut().for_each(quantity_text);
        }
    }
}

fn quantity_text(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(number.to_string());
    }
}

/// Names of the volumes that may be mounted for writing.
fn writable_volumes(spec: &Value) -> BTreeSet<String> {
    let kinds = ["emptyDir", "persistentVolumeClaim", "ephemeral"];
    let volumes = json::list(spec, "volumes").iter();
    let writable = volumes.filter(|volume| {
        kinds
            .iter()
            .any(|kind| json::present(volume, kind).is_some())
    });
    writable
        .map(|volume| json::text(volume, "name").to_owned())
        .collect()
}

/// `secure-pod-defaults`: the `restricted` profile unless the author says otherwise.
fn security_context(container: &mut Value, pod: &Value, settings: &Settings) {
    let flag = settings.features.flag(Feature::SecurePodDefaults);
    if !matches!(flag, Flag::Enabled | Flag::AllowRootBounded) {
        return;
    }
    let low_port = json::list(container, "ports")
        .iter()
        .any(|port| json::int(port, "containerPort").is_some_and(|port| port < 1024));
    let Some(context) = json::object_mut(container, "securityContext") else {
        return;
    };
    json::set_absent(context, "allowPrivilegeEscalation", false);
    let pod_profile = pod
        .get("seccompProfile")
        .map(|profile| json::text(profile, "type"))
        .unwrap_or_default();
    if pod_profile.is_empty()
        && let Some(profile) = json::object_mut(context, "seccompProfile")
    {
        json::set_absent(profile, "type", "RuntimeDefault");
    }
    if json::present(context, "capabilities").is_none() {
        let mut capabilities = json!({"drop": ["ALL"]});
        if low_port {
            capabilities["add"] = json!(["NET_BIND_SERVICE"]);
        }
        context["capabilities"] = capabilities;
    }
    if flag == Flag::Enabled && json::present(pod, "runAsNonRoot").is_none() {
        json::set_absent(context, "runAsNonRoot", true);
    }
}
