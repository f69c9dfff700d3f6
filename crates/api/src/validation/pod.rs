//! The pod of a revision: which fields may be set at all, and what must hold across containers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::container::{self, Role};
use super::report::{Report, indexed, join};
use super::{Settings, names, volume};
use crate::config::Feature;
use crate::json;

/// Fields that need a feature.
const GATED: [(&str, Feature); 17] = [
    ("affinity", Feature::Affinity),
    (
        "topologySpreadConstraints",
        Feature::TopologySpreadConstraints,
    ),
    ("hostAliases", Feature::HostAliases),
    ("nodeSelector", Feature::NodeSelector),
    ("runtimeClassName", Feature::RuntimeClassName),
    ("tolerations", Feature::Tolerations),
    ("shareProcessNamespace", Feature::ShareProcessNamespace),
    ("priorityClassName", Feature::PriorityClassName),
    ("schedulerName", Feature::SchedulerName),
    ("initContainers", Feature::InitContainers),
    ("dnsPolicy", Feature::DnsPolicy),
    ("dnsConfig", Feature::DnsConfig),
    ("hostIPC", Feature::HostIpc),
    ("hostPID", Feature::HostPid),
    ("hostNetwork", Feature::HostNetwork),
    ("securityContext", Feature::SecurityContext),
    ("securityContext", Feature::SecurePodDefaults),
];

/// Fields that are always allowed, with those that a revision adds to a pod.
const FREE: [&str; 9] = [
    "serviceAccountName",
    "containers",
    "volumes",
    "imagePullSecrets",
    "enableServiceLinks",
    "containerConcurrency",
    "timeoutSeconds",
    "responseStartTimeoutSeconds",
    "idleTimeoutSeconds",
];

/// The largest user and group id.
const MAX_ID: i64 = i32::MAX as i64;

/// The port that serves requests, as probes see it.
pub(super) struct ServingPort {
    pub(super) name: String,
}

/// Validates the pod part of a revision's spec; `base` is its path.
pub(crate) fn validate(pod: &Value, settings: &Settings, base: &str, report: &mut Report) {
    fields(pod, settings, base, report);
    security_context(pod, settings, base, report);
    let containers = json::list(pod, "containers");
    let inits = json::list(pod, "initContainers");
    let volumes = volume::validate(pod, settings, base, report);
    let port = serving_port(containers, base, report);
    match containers {
        [] => report.missing(join(base, "containers")),
        [_, _, ..] if !settings.features.allowed(Feature::MultiContainer) => {
            report.say(
                format!(
                    "multi-container is off, but found {} containers",
                    containers.len()
                ),
                &[base.to_owned()],
            );
        }
        _ => {
            unique_names(containers, base, report);
            for (index, item) in containers.iter().enumerate() {
                let alone = containers.len() == 1;
                let role = if alone || !json::list(item, "ports").is_empty() {
                    Role::User(&port)
                } else {
                    Role::Sidecar
                };
                container::validate(
                    item,
                    role,
                    settings,
                    &volumes,
                    &indexed(base, "containers", index),
                    report,
                );
            }
        }
    }
    for (index, item) in inits.iter().enumerate() {
        let path = indexed(base, "initContainers", index);
        let name = json::text(item, "name");
        if containers
            .iter()
            .any(|other| json::text(other, "name") == name)
        {
            report.say(
                format!("duplicate container name {name:?}"),
                &[join(&path, "name")],
            );
        }
        container::validate(item, Role::Init, settings, &volumes, &path, report);
    }
    let account = json::text(pod, "serviceAccountName");
    if let Some(problem) = (!account.is_empty())
        .then(|| names::dns1123_subdomain(account))
        .flatten()
    {
        report.invalid_because(account, join(base, "serviceAccountName"), &problem);
    }
}

fn fields(pod: &Value, settings: &Settings, base: &str, report: &mut Report) {
    for (field, value) in json::entries(pod) {
        let is_free = match field.as_str() {
            // Knative knows no use for the token, and lets only its absence be asked for.
            "automountServiceAccountToken" => value == &Value::Bool(false),
            name => FREE.contains(&name),
        };
        if is_free || !json::says_something(value) {
            continue;
        }
        let gates = GATED.iter().filter(|(name, _)| name == field);
        let gates: Vec<Feature> = gates.map(|(_, gate)| *gate).collect();
        let is_open = gates.iter().any(|gate| settings.features.allowed(*gate));
        match gates.first() {
            None => report.disallowed(join(base, field)),
            Some(gate) if !is_open => report.off(join(base, field), *gate),
            Some(_) => {}
        }
    }
}

fn security_context(pod: &Value, settings: &Settings, base: &str, report: &mut Report) {
    let Some(context) = json::present(pod, "securityContext") else {
        return;
    };
    let base = join(base, "securityContext");
    let open = settings.features.allowed(Feature::SecurityContext);
    if !open && !settings.features.allowed(Feature::SecurePodDefaults) {
        return; // refused as a whole already
    }
    for (field, value) in json::entries(context) {
        let allowed = match field.as_str() {
            "runAsUser" | "runAsGroup" | "runAsNonRoot" | "fsGroup" | "supplementalGroups" => open,
            "seccompProfile" => {
                open || matches!(json::text(value, "type"), "RuntimeDefault" | "Unconfined")
            }
            _ => false,
        };
        if !allowed && json::says_something(value) {
            report.disallowed(join(&base, field));
        }
    }
    ids(
        context,
        &["runAsUser", "runAsGroup", "fsGroup"],
        &base,
        report,
    );
    for (index, group) in json::list(context, "supplementalGroups").iter().enumerate() {
        if let Some(id) = group.as_i64().filter(|id| !(0..=MAX_ID).contains(id)) {
            report.bounds(id, 0, MAX_ID, indexed(&base, "supplementalGroups", index));
        }
    }
}

/// Checks the range of user and group ids.
pub(super) fn ids(context: &Value, fields: &[&str], base: &str, report: &mut Report) {
    for field in fields {
        if let Some(id) = json::int(context, field).filter(|id| !(0..=MAX_ID).contains(id)) {
            report.bounds(id, 0, MAX_ID, join(base, field));
        }
    }
}

fn unique_names(containers: &[Value], base: &str, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for (index, item) in containers.iter().enumerate() {
        let name = json::text(item, "name");
        if seen.insert(name, index).is_some() {
            let path = join(&indexed(base, "containers", index), "name");
            report.say(format!("duplicate container name {name:?}"), &[path]);
        }
    }
}

/// Requests go to one port of one container.
fn serving_port(containers: &[Value], base: &str, report: &mut Report) -> ServingPort {
    let all: Vec<&Value> = containers
        .iter()
        .flat_map(|item| json::list(item, "ports"))
        .collect();
    let path = join(base, "containers[*].ports");
    if all.is_empty() && containers.len() > 1 {
        report.missing(path);
    } else if all.len() > 1 {
        let hint = "Only a single port is allowed across all containers";
        report.say_with("more than one container port is set", &[path], hint);
    }
    let name = all
        .last()
        .map(|port| json::text(port, "name"))
        .filter(|name| !name.is_empty());
    ServingPort {
        name: name.unwrap_or("http").to_owned(),
    }
}
