//! What one object uses, by the names that quotas limit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::counted;
use crate::quantity::Quantity;

pub(super) type Usage = BTreeMap<String, Quantity>;

const PODS: &str = "pods";
const SERVICES: &str = "services";
const CLAIMS: &str = "persistentvolumeclaims";
const CLASS: &str = ".storageclass.storage.k8s.io/";
/// Kinds that are counted under their own name as well.
const NAMED: [&str; 7] = [
    "configmaps",
    CLAIMS,
    PODS,
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    SERVICES,
];
/// Requests of these have a short name too, and their limits are counted.
const COMPUTE: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];

/// The resource whose objects a name is about.
pub(super) fn resource(name: &str) -> String {
    if let Some(resource) = counted(name) {
        return resource;
    }
    if NAMED.contains(&name) {
        return name.to_owned();
    }
    if name.starts_with("services.") {
        SERVICES.to_owned()
    } else if name == "requests.storage" || name.contains(CLASS) {
        CLAIMS.to_owned()
    } else {
        PODS.to_owned()
    }
}

/// What an object of a resource uses.
pub(super) fn of(resource: &str, object: &Value) -> Usage {
    let mut usage = Usage::new();
    let one = Quantity::whole(1);
    usage.insert(format!("count/{resource}"), one);
    if NAMED.contains(&resource) && !ended(resource, object) {
        usage.insert(resource.to_owned(), one);
    }
    match resource {
        PODS if !ended(resource, object) => pod(&object["spec"], &mut usage),
        SERVICES => service(&object["spec"], &mut usage),
        CLAIMS => claim(&object["spec"], &mut usage),
        _ => {}
    }
    usage
}

/// A pod that has run to its end needs nothing but its place in the store.
fn ended(resource: &str, object: &Value) -> bool {
    resource == PODS
        && matches!(
            object["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        )
}

/// What the containers of a pod must name because a quota limits it; an error lists what is missing.
pub(super) fn required<'a>(
    resource: &str,
    object: &Value,
    limits: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    if resource != PODS {
        return Ok(());
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in limits {
        let (list, what) = match name.split_once('.') {
            Some((list @ ("requests" | "limits"), what)) => (list, what),
            _ => ("requests", name),
        };
        if !COMPUTE.contains(&what) {
            continue;
        }
        for field in ["containers", "initContainers"] {
            for container in object["spec"][field].as_array().into_iter().flatten() {
                if amount(&container["resources"], list, what).is_none() {
                    let container = container["name"].as_str().unwrap_or_default();
                    missing.entry(name).or_default().insert(container);
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    Err(texts.join("; "))
}

/// What a container asks for; a limit without a request is one.
fn amount(resources: &Value, list: &str, name: &str) -> Option<Quantity> {
    let own = Quantity::of(&resources[list][name]);
    if list == "requests" {
        own.or_else(|| Quantity::of(&resources["limits"][name]))
    } else {
        own
    }
}

fn pod(spec: &Value, usage: &mut Usage) {
    for list in ["requests", "limits"] {
        for (name, total) in total(spec, list) {
            let compute = COMPUTE.contains(&name.as_str());
            if list == "limits" {
                if compute {
                    usage.insert(format!("limits.{name}"), total);
                }
                continue;
            }
            usage.insert(format!("requests.{name}"), total);
            if compute || name.starts_with("hugepages-") {
                usage.insert(name, total);
            }
        }
    }
}

/// What a pod needs at most at one time: init containers run one after the other, those that
/// restart always stay beside the others.
fn total(spec: &Value, list: &str) -> Usage {
    let mut staying = Usage::new();
    let mut most = Usage::new();
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let own = container_total(container, list);
        if container["restartPolicy"] == "Always" {
            add(&mut staying, &own);
            raise(&mut most, &staying);
        } else {
            let mut now = staying.clone();
            add(&mut now, &own);
            raise(&mut most, &now);
        }
    }
    let mut running = staying;
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut running, &container_total(container, list));
    }
    raise(&mut most, &running);
    let overhead = spec["overhead"].as_object();
    for (name, value) in overhead.into_iter().flatten() {
        if let (Some(sum), Some(more)) = (most.get_mut(name), Quantity::of(value)) {
            *sum = *sum + more;
        }
    }
    most
}

fn container_total(container: &Value, list: &str) -> Usage {
    let resources = &container["resources"];
    let names: BTreeSet<&String> = [list, if list == "requests" { "limits" } else { list }]
        .iter()
        .filter_map(|list| resources[*list].as_object())
        .flat_map(serde_json::Map::keys)
        .collect();
    names
        .into_iter()
        .filter_map(|name| Some((name.clone(), amount(resources, list, name)?)))
        .collect()
}

fn add(sum: &mut Usage, more: &Usage) {
    for (name, amount) in more {
        let so_far = sum.entry(name.clone()).or_default();
        *so_far = *so_far + *amount;
    }
}

fn raise(most: &mut Usage, now: &Usage) {
    for (name, amount) in now {
        let so_far = most.entry(name.clone()).or_default();
        *so_far = (*so_far).max(*amount);
    }
}

fn service(spec: &Value, usage: &mut Usage) {
    let ports = spec["ports"].as_array().map_or(0, Vec::len);
    let ports = Quantity::whole(i128::try_from(ports).unwrap_or_default());
    match spec["type"].as_str() {
        Some("LoadBalancer") => {
            usage.insert("services.loadbalancers".into(), Quantity::whole(1));
            if spec["allocateLoadBalancerNodePorts"] != false {
                usage.insert("services.nodeports".into(), ports);
            }
        }
        Some("NodePort") => {
            usage.insert("services.nodeports".into(), ports);
        }
        _ => {}
    }
}

fn claim(spec: &Value, usage: &mut Usage) {
    let storage = Quantity::of(&spec["resources"]["requests"]["storage"]);
    let class = spec["storageClassName"].as_str().unwrap_or_default();
    if !class.is_empty() {
        usage.insert(format!("{class}{CLASS}{CLAIMS}"), Quantity::whole(1));
    }
    if let Some(storage) = storage {
        usage.insert("requests.storage".into(), storage);
        if !class.is_empty() {
            usage.insert(format!("{class}{CLASS}requests.storage"), storage);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_uses_what_runs_at_one_time() {
        let container = |cpu: &str| json!({ "name": "c", "resources": { "requests": { "cpu": cpu }, "limits": { "memory": "1Gi" } } });
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({
            "spec": {
                "initContainers": [sidecar, container("5")],
                "containers": [container("2"), container("500m")],
                "overhead": { "cpu": "100m" },
            },
        });
        let usage = of("pods", &pod);
        let shown = |name: &str| usage.get(name).map(ToString::to_string);
        // The sidecar and the large init container.
        assert_eq!(shown("cpu").as_deref(), Some("6100m"));
        assert_eq!(shown("requests.cpu"), shown("cpu"));
        assert_eq!(shown("requests.memory").as_deref(), Some("3Gi"));
        assert_eq!(shown("limits.memory").as_deref(), Some("3Gi"));
        assert_eq!(shown("limits.cpu"), None);
        assert_eq!(shown("pods").as_deref(), Some("1"));
        let mut ended = pod.clone();
        ended["status"] = json!({ "phase": "Succeeded" });
        let names: Vec<String> = of("pods", &ended).into_keys().collect();
        assert_eq!(names, ["count/pods"]);
    }

    #[test]
    fn services_and_claims_are_counted_by_what_they_are() {
        let service = json!({ "spec": { "type": "NodePort", "ports": [{}, {}] } });
        assert_eq!(
            of("services", &service)["services.nodeports"],
            Quantity::whole(2)
        );
        let claim = json!({ "spec": { "storageClassName": "fast", "resources": { "requests": { "storage": "1Gi" } } } });
        let usage = of("persistentvolumeclaims", &claim);
        assert_eq!(
            usage["fast.storageclass.storage.k8s.io/requests.storage"].to_string(),
            "1Gi"
        );
        for name in usage.keys() {
            assert_eq!(resource(name), "persistentvolumeclaims", "{name}");
        }
    }
}
