//! The downward API: facts about a pod for its own containers.

use std::net::IpAddr;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::runtime::Failure;
use crate::sys;

/// What a container may ask about its pod.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) pod_ip: IpAddr,
    pub(crate) node_name: &'a str,
    pub(crate) host_ip: IpAddr,
}

/// The value of a `fieldRef`.
pub(crate) fn field(facts: &Facts<'_>, path: &str) -> Result<String, Failure> {
    let metadata = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let value = match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "metadata.labels" => listed(metadata.labels.iter().flatten()),
        "metadata.annotations" => listed(metadata.annotations.iter().flatten()),
        "spec.nodeName" => facts.node_name.to_owned(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_else(|| "default".to_owned()),
        "status.podIP" | "status.podIPs" => facts.pod_ip.to_string(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_string(),
        _ => {
            let map = match subscript(path) {
                Some(("metadata.labels", key)) => metadata.labels.as_ref().map(|map| (map, key)),
                Some(("metadata.annotations", key)) => {
                    metadata.annotations.as_ref().map(|map| (map, key))
                }
                _ => {
                    return Err(Failure::config(format!(
                        "fieldRef {path:?} is not supported"
                    )));
                }
            };
            map.and_then(|(map, key)| map.get(key))
                .cloned()
                .unwrap_or_default()
        }
    };
    Ok(value)
}

/// `a['b']` → `a`, `b`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, as Kubernetes writes maps into files.
fn listed<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    entries
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The value of a `resourceFieldRef`, rounded up to a multiple of its divisor. A limit that is
/// not set is what the machine has, a request that is not set is 0.
pub(crate) fn resource(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
) -> Result<String, Failure> {
    let unsupported = || {
        Failure::config(format!(
            "resourceFieldRef {:?} is not supported",
            selector.resource
        ))
    };
    let container = match selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        None => container,
        Some(name) => pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find(|container| container.name == name)
            .ok_or_else(|| {
                Failure::config(format!(
                    "resourceFieldRef names container {name:?}, which the pod has not"
                ))
            })?,
    };
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let set = match kind {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    let parse = |text: &str| {
        Quantity::parse(text).ok_or_else(|| Failure::config(format!("{text:?} is not a quantity")))
    };
    let millis = match set.and_then(|set| set.get(resource)) {
        Some(quantity) => i128::from(parse(&quantity.0)?.millis()),
        None if kind == "requests" => 0,
        None => machine_millis(resource).ok_or_else(unsupported)?,
    };
    let divisor = match selector
        .divisor
        .as_ref()
        .filter(|divisor| !matches!(divisor.0.as_str(), "" | "0"))
    {
        Some(divisor) => i128::from(parse(&divisor.0)?.millis()).max(1),
        None => 1000,
    };
    Ok(((millis + divisor - 1) / divisor).to_string())
}

fn machine_millis(resource: &str) -> Option<i128> {
    match resource {
        "cpu" => Some(std::thread::available_parallelism().map_or(1, usize::from) as i128 * 1000),
        "memory" => Some(i128::from(sys::memory_bytes()?) * 1000),
        _ => None,
    }
}
