//! Cells of Services, endpoints and Ingresses.

use jiff::Timestamp;
use serde_json::Value;

use super::{join_or_none, list, plain, selector_text, text};

/// Items shown before "+ n more...".
const SHOWN: usize = 3;

fn or_none(text: &str) -> Value {
    if text.is_empty() {
        "<none>".into()
    } else {
        text.into()
    }
}

pub(super) fn cluster_ip(service: &Value, _: Timestamp) -> Value {
    or_none(text(service, "/spec/clusterIP"))
}

pub(super) fn external_ip(service: &Value, _: Timestamp) -> Value {
    let given = || list(service, "/spec/externalIPs").iter().map(plain);
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").into(),
        "LoadBalancer" => {
            let found: Vec<_> = load_balancer(service).into_iter().chain(given()).collect();
            if found.is_empty() {
                "<pending>".into()
            } else {
                found.join(",").into()
            }
        }
        _ => join_or_none(given()).into(),
    }
}

fn load_balancer(object: &Value) -> Vec<String> {
    let ingress = list(object, "/status/loadBalancer/ingress").iter();
    let address = |one: &Value| match text(one, "/ip") {
        "" => text(one, "/hostname").to_owned(),
        ip => ip.to_owned(),
    };
    ingress
        .map(address)
        .filter(|address| !address.is_empty())
        .collect()
}

pub(super) fn service_ports(service: &Value, _: Timestamp) -> Value {
    let port = |port: &Value| {
        let protocol = match text(port, "/protocol") {
            "" => "TCP",
            given => given,
        };
        match port["nodePort"].as_i64().unwrap_or_default() {
            0 => format!("{}/{protocol}", port["port"]),
            node => format!("{}:{node}/{protocol}", port["port"]),
        }
    };
    join_or_none(list(service, "/spec/ports").iter().map(port)).into()
}

pub(super) fn service_selector(service: &Value, _: Timestamp) -> Value {
    let labels = service
        .pointer("/spec/selector")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    join_or_none(labels.map(|(key, value)| format!("{key}={}", plain(value)))).into()
}

/// What has an IPAddress: `services/NAMESPACE/NAME`.
pub(super) fn parent(address: &Value, _: Timestamp) -> Value {
    let parts = ["group", "resource", "namespace", "name"];
    let parts = parts.map(|part| text(&address["spec"]["parentRef"], &format!("/{part}")));
    let given: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    given.join("/").into()
}

pub(super) fn cidrs(range: &Value, _: Timestamp) -> Value {
    let all: Vec<_> = list(range, "/spec/cidrs").iter().map(plain).collect();
    all.join(",").into()
}

pub(super) fn pod_selector(policy: &Value, _: Timestamp) -> Value {
    selector_text(policy.pointer("/spec/podSelector")).into()
}

pub(super) fn endpoints(endpoints: &Value, _: Timestamp) -> Value {
    let mut found = Vec::new();
    for subset in list(endpoints, "/subsets") {
        for address in list(subset, "/addresses") {
            let ports = list(subset, "/ports");
            if ports.is_empty() {
                found.push(text(address, "/ip").to_owned());
            }
            for port in ports {
                found.push(format!("{}:{}", host(text(address, "/ip")), port["port"]));
            }
        }
    }
    shorten(found).into()
}

fn host(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}

fn shorten(mut found: Vec<String>) -> String {
    if found.is_empty() {
        return "<none>".into();
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let shown = found.join(",");
    if more > 0 {
        format!("{shown} + {more} more...")
    } else {
        shown
    }
}

pub(super) fn slice_ports(slice: &Value, _: Timestamp) -> Value {
    let Some(ports) = slice.get("ports").and_then(Value::as_array) else {
        return "<unset>".into();
    };
    let port = |port: &Value| {
        port.get("port")
            .filter(|port| !port.is_null())
            .map_or_else(|| "*".into(), plain)
    };
    let found: Vec<_> = ports.iter().map(port).collect();
    if found.is_empty() {
        "<unset>".into()
    } else {
        shorten(found).into()
    }
}

pub(super) fn slice_endpoints(slice: &Value, _: Timestamp) -> Value {
    let addresses = list(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"));
    let found: Vec<_> = addresses.map(plain).collect();
    if found.is_empty() {
        "<unset>".into()
    } else {
        shorten(found).into()
    }
}

pub(super) fn ingress_class(ingress: &Value, _: Timestamp) -> Value {
    let annotation = || {
        ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"]
            .as_str()
            .unwrap_or_default()
    };
    match text(ingress, "/spec/ingressClassName") {
        "" => or_none(annotation()),
        class => class.into(),
    }
}

pub(super) fn ingress_hosts(ingress: &Value, _: Timestamp) -> Value {
    let hosts = list(ingress, "/spec/rules")
        .iter()
        .map(|rule| text(rule, "/host").to_owned());
    let hosts: Vec<_> = hosts.filter(|host| !host.is_empty()).collect();
    if hosts.is_empty() {
        "*".into()
    } else {
        shorten(hosts).into()
    }
}

pub(super) fn ingress_address(ingress: &Value, _: Timestamp) -> Value {
    load_balancer(ingress).join(",").into()
}

pub(super) fn ingress_ports(ingress: &Value, _: Timestamp) -> Value {
    if list(ingress, "/spec/tls").is_empty() {
        "80".into()
    } else {
        "80, 443".into()
    }
}

pub(super) fn parameters(class: &Value, _: Timestamp) -> Value {
    let Some(parameters) = class.pointer("/spec/parameters") else {
        return "<none>".into();
    };
    let group = match text(parameters, "/apiGroup") {
        "" => String::new(),
        group => format!(".{group}"),
    };
    format!(
        "{}{group}/{}",
        text(parameters, "/kind"),
        text(parameters, "/name")
    )
    .into()
}
