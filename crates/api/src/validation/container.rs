//! One container of a revision's pod.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::pod::{self, ServingPort};
use super::report::{Report, indexed, join};
use super::{Settings, image, probe};
use crate::config::Feature;
use crate::json;

/// What a container is for.
#[derive(Clone, Copy)]
pub(super) enum Role<'a> {
    /// Serves the requests.
    User(&'a ServingPort),
    /// Runs beside it.
    Sidecar,
    /// Runs before it.
    Init,
}

const ALLOWED: [&str; 17] = [
    "name",
    "args",
    "command",
    "env",
    "envFrom",
    "workingDir",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "ports",
    "resources",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];

/// Ports that Knative's own sidecar listens on: kept free, so that a manifest works on both.
const RESERVED_PORTS: [i64; 6] = [8012, 8013, 8022, 9090, 9091, 8008];
const RESERVED_ENV: [&str; 3] = ["K_SERVICE", "K_CONFIGURATION", "K_REVISION"];
const RESERVED_PATHS: [&str; 3] = ["/", "/dev", "/dev/log"];

/// Volumes of the pod by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

pub(super) fn validate(
    container: &Value,
    role: Role<'_>,
    settings: &Settings,
    volumes: &Volumes<'_>,
    base: &str,
    report: &mut Report,
) {
    if !json::says_something(container) {
        return report.missing(base.to_owned());
    }
    probe::validate_all(container, role, settings, base, report);
    for (field, value) in json::entries(container) {
        // A probe of an init container has its own message.
        if !ALLOWED.contains(&field.as_str()) && json::says_something(value) {
            report.disallowed(join(base, field));
        }
    }
    let name = json::text(container, "name");
    if name == "queue-proxy" {
        report.say(
            format!("{name:?} is a reserved container name"),
            &[join(base, "name")],
        );
    }
    environment(container, role, settings, base, report);
    image(container, base, report);
    ports(container, role, base, report);
    for (field, value) in container
        .get("resources")
        .into_iter()
        .flat_map(json::entries)
    {
        if !matches!(field.as_str(), "limits" | "requests") && json::says_something(value) {
            report.disallowed(join(&join(base, "resources"), field));
        }
    }
    quantities(container, base, report);
    security_context(container, settings, base, report);
    let policy = json::text(container, "terminationMessagePolicy");
    if !matches!(policy, "" | "File" | "FallbackToLogsOnError") {
        report.invalid(policy, join(base, "terminationMessagePolicy"));
    }
    mounts(container, settings, volumes, base, report);
}

fn image(container: &Value, base: &str, report: &mut Report) {
    let reference = json::text(container, "image");
    let path = join(base, "image");
    if reference.is_empty() {
        report.missing(path);
    } else if let Some(problem) = image::problem(reference) {
        let details = format!("image: {reference:?}, error: could not parse reference: {problem}");
        report.say_with("Failed to parse image reference", &[path], details);
    }
}

fn quantities(container: &Value, base: &str, report: &mut Report) {
    for field in ["limits", "requests"] {
        let amounts = container
            .get("resources")
            .and_then(|resources| resources.get(field));
        for (name, value) in amounts.into_iter().flat_map(json::entries) {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let amount = crate::quantity::Quantity::parse(&text);
            if amount.is_none_or(crate::quantity::Quantity::is_negative) {
                report.invalid(
                    text,
                    join(&join(base, "resources"), &format!("{field}.{name}")),
                );
            }
        }
    }
}

fn environment(
    container: &Value,
    role: Role<'_>,
    settings: &Settings,
    base: &str,
    report: &mut Report,
) {
    for (index, variable) in json::list(container, "env").iter().enumerate() {
        let path = indexed(base, "env", index);
        let name = json::text(variable, "name");
        // Only the container that serves gets its port from us.
        let reserved =
            RESERVED_ENV.contains(&name) || (name == "PORT" && matches!(role, Role::User(_)));
        if name.is_empty() {
            report.missing(join(&path, "name"));
        } else if reserved {
            report.say(
                format!("{name:?} is a reserved environment variable"),
                &[join(&path, "name")],
            );
        }
        for (source, value) in variable
            .get("valueFrom")
            .into_iter()
            .flat_map(json::entries)
        {
            let (at, gate) = (join(&join(&path, "valueFrom"), source), Feature::FieldRef);
            match source.as_str() {
                "configMapKeyRef" | "secretKeyRef" => {}
                _ if !json::says_something(value) => {}
                "fieldRef" | "resourceFieldRef" if settings.features.allowed(gate) => {}
                "fieldRef" | "resourceFieldRef" => report.off(at, gate),
                _ => report.disallowed(at),
            }
        }
    }
    for (index, source) in json::list(container, "envFrom").iter().enumerate() {
        let path = indexed(base, "envFrom", index);
        let given =
            ["configMapRef", "secretRef"].map(|field| json::present(source, field).is_some());
        match given {
            [true, true] => report.both(&path, &["configMapRef", "secretRef"]),
            [false, false] => report.neither(&path, &["configMapRef", "secretRef"]),
            _ => {}
        }
    }
}

fn ports(container: &Value, role: Role<'_>, base: &str, report: &mut Report) {
    // More than one is refused for the pod as a whole.
    let Some(port) = json::list(container, "ports").first() else {
        return;
    };
    let base = join(base, "ports");
    for (field, value) in json::entries(port) {
        let zero = value.as_i64() == Some(0);
        let allowed = matches!(field.as_str(), "containerPort" | "name" | "protocol") || zero;
        if !allowed && json::says_something(value) {
            report.disallowed(join(&base, field));
        }
    }
    let number = json::int(port, "containerPort").unwrap_or(0);
    let path = join(&base, "containerPort");
    if RESERVED_PORTS.contains(&number) {
        let hint = format!("{number} is a reserved port, please use a different value");
        report.invalid_because(format!("{number} is a reserved port"), path, &hint);
    } else if !(0..=65535).contains(&number) {
        report.bounds(number, 0, 65535, path);
    }
    if matches!(role, Role::Init) {
        return;
    }
    let protocol = json::text(port, "protocol");
    if !matches!(protocol, "" | "TCP") {
        report.invalid(protocol, join(&base, "protocol"));
    }
    let name = json::text(port, "name");
    if !matches!(name, "" | "h2c" | "http1") {
        let hint = "Name must be empty, or one of: 'h2c', 'http1'";
        report.say_with(format!("Port name {name} is not allowed"), &[base], hint);
    }
}

fn security_context(container: &Value, settings: &Settings, base: &str, report: &mut Report) {
    let Some(context) = json::present(container, "securityContext") else {
        return;
    };
    let base = join(base, "securityContext");
    for (field, value) in json::entries(context) {
        let allowed = match field.as_str() {
            "capabilities"
            | "readOnlyRootFilesystem"
            | "runAsUser"
            | "runAsGroup"
            | "runAsNonRoot"
            | "allowPrivilegeEscalation"
            | "seccompProfile" => true,
            "privileged" => value == &Value::Bool(false),
            _ => false,
        };
        if !allowed && json::says_something(value) {
            report.disallowed(join(&base, field));
        }
    }
    pod::ids(context, &["runAsUser", "runAsGroup"], &base, report);
    let Some(capabilities) = json::present(context, "capabilities") else {
        return;
    };
    let added = json::list(capabilities, "add");
    let features = &settings.features;
    let low_port =
        features.allowed(Feature::SecurePodDefaults) && added == [Value::from("NET_BIND_SERVICE")];
    if !added.is_empty() && !features.allowed(Feature::AddCapabilities) && !low_port {
        report.off(join(&base, "capabilities.add"), Feature::AddCapabilities);
    }
    if json::list(capabilities, "drop")
        .first()
        .and_then(Value::as_str)
        == Some("all")
    {
        report.warn(format!(
            "{base}.capabilities.drop: \"all\" drops nothing, it must be spelled \"ALL\""
        ));
    }
}

fn mounts(
    container: &Value,
    settings: &Settings,
    volumes: &Volumes<'_>,
    base: &str,
    report: &mut Report,
) {
    let mut seen = BTreeSet::new();
    for (index, mount) in json::list(container, "volumeMounts").iter().enumerate() {
        let base = indexed(base, "volumeMounts", index);
        for (field, value) in json::entries(mount) {
            let gate = Feature::MountPropagation;
            match field.as_str() {
                "name" | "readOnly" | "mountPath" | "subPath" => {}
                _ if !json::says_something(value) => {}
                "mountPropagation" if settings.features.allowed(gate) => {}
                "mountPropagation" => report.off(join(&base, field), gate),
                _ => report.disallowed(join(&base, field)),
            }
        }
        let propagation = json::text(mount, "mountPropagation");
        if !matches!(propagation, "" | "None" | "HostToContainer") {
            let path = join(&base, "mountPropagation");
            report.say(
                "mount propagation should be set to None or HostToContainer",
                &[path],
            );
        }
        mount_path(json::text(mount, "mountPath"), &mut seen, &base, report);
        let Some(volume) = volumes.get(json::text(mount, "name")) else {
            report.say("volumeMount has no matching volume", &[join(&base, "name")]);
            continue;
        };
        let read_only = mount.get("readOnly") == Some(&Value::Bool(true));
        let claim = json::present(volume, "persistentVolumeClaim");
        let writable = ["emptyDir", "persistentVolumeClaim", "ephemeral"]
            .iter()
            .any(|kind| json::present(volume, kind).is_some());
        if !writable && !read_only {
            report.say(
                "volume mount should be readOnly for this type of volume",
                &[join(&base, "readOnly")],
            );
        } else if claim.is_some_and(|claim| claim.get("readOnly") == Some(&Value::Bool(true)))
            && !read_only
        {
            report.say(
                "volume is readOnly but volume mount is not",
                &[join(&base, "readOnly")],
            );
        }
    }
}

fn mount_path(path: &str, seen: &mut BTreeSet<String>, base: &str, report: &mut Report) {
    let at = join(base, "mountPath");
    let clean = clean(path);
    if path.is_empty() {
        report.missing(at);
    } else if RESERVED_PATHS.contains(&clean.as_str()) {
        report.say(format!("mountPath {clean:?} is a reserved path"), &[at]);
    } else if !path.starts_with('/') {
        report.invalid(path, at);
    } else if !seen.insert(clean) {
        report.invalid(format!("{path:?} must be unique"), at);
    }
}

/// The shortest path that means the same, as Go's `path.Clean` does for absolute ones.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
