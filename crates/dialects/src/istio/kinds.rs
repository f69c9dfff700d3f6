//! The kinds of Istio, and under which keys their objects are found.

use std::sync::Arc;

use crate::foreign::{Kind, Object, Role, no_keys};

use super::{gateway, names, parts, virtual_service};

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";
const ALL: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// What most kinds have in common.
const PART: Kind = Kind {
    dialect: "istio",
    group: NETWORKING,
    versions: ALL,
    kind: "",
    plural: "",
    short: &[],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Part(parts::refused),
    keys: no_keys,
};

pub(crate) static GATEWAY: Kind = Kind {
    kind: "Gateway",
    plural: "gateways",
    short: &["gw"],
    role: Role::Root(gateway::translate),
    ..PART
};

pub(crate) static VIRTUAL_SERVICE: Kind = Kind {
    kind: "VirtualService",
    plural: "virtualservices",
    short: &["vs"],
    role: Role::Root(virtual_service::translate),
    ..PART
};

pub(crate) static DESTINATION_RULE: Kind = Kind {
    kind: "DestinationRule",
    plural: "destinationrules",
    short: &["dr"],
    role: Role::Part(parts::destination_rule),
    keys: rule_keys,
    ..PART
};

pub(crate) static SERVICE_ENTRY: Kind = Kind {
    kind: "ServiceEntry",
    plural: "serviceentries",
    short: &["se"],
    role: Role::Part(parts::service_entry),
    keys: entry_keys,
    ..PART
};

pub(crate) static WORKLOAD_ENTRY: Kind = Kind {
    kind: "WorkloadEntry",
    plural: "workloadentries",
    short: &["we"],
    role: Role::Part(parts::workload_entry),
    keys: workload_keys,
    ..PART
};

static WORKLOAD_GROUP: Kind = Kind {
    kind: "WorkloadGroup",
    plural: "workloadgroups",
    short: &["wg"],
    ..PART
};

static SIDECAR: Kind = Kind {
    kind: "Sidecar",
    plural: "sidecars",
    role: Role::Part(parts::sidecar),
    ..PART
};

static ENVOY_FILTER: Kind = Kind {
    kind: "EnvoyFilter",
    plural: "envoyfilters",
    versions: &["v1alpha3"],
    ..PART
};

static PROXY_CONFIG: Kind = Kind {
    kind: "ProxyConfig",
    plural: "proxyconfigs",
    versions: &["v1beta1"],
    ..PART
};

static PEER_AUTHENTICATION: Kind = Kind {
    group: SECURITY,
    versions: &["v1", "v1beta1"],
    kind: "PeerAuthentication",
    plural: "peerauthentications",
    short: &["pa"],
    role: Role::Part(parts::peer_authentication),
    ..PART
};

pub(crate) static REQUEST_AUTHENTICATION: Kind = Kind {
    group: SECURITY,
    versions: &["v1", "v1beta1"],
    kind: "RequestAuthentication",
    plural: "requestauthentications",
    short: &["ra"],
    role: Role::Part(parts::request_authentication),
    keys: namespace_key,
    ..PART
};

pub(crate) static AUTHORIZATION_POLICY: Kind = Kind {
    group: SECURITY,
    versions: &["v1", "v1beta1"],
    kind: "AuthorizationPolicy",
    plural: "authorizationpolicies",
    short: &["ap"],
    role: Role::Part(parts::authorization_policy),
    keys: namespace_key,
    ..PART
};

pub(crate) static TELEMETRY: Kind = Kind {
    group: "telemetry.istio.io",
    versions: &["v1", "v1alpha1"],
    kind: "Telemetry",
    plural: "telemetries",
    short: &["telemetry"],
    role: Role::Part(parts::telemetry),
    keys: namespace_key,
    ..PART
};

static WASM_PLUGIN: Kind = Kind {
    group: EXTENSIONS,
    versions: &["v1alpha1"],
    kind: "WasmPlugin",
    plural: "wasmplugins",
    ..PART
};

static TRAFFIC_EXTENSION: Kind = Kind {
    group: EXTENSIONS,
    versions: &["v1alpha1"],
    kind: "TrafficExtension",
    plural: "trafficextensions",
    ..PART
};

/// Every kind of the dialect.
pub static KINDS: &[&Kind] = &[
    &GATEWAY,
    &VIRTUAL_SERVICE,
    &DESTINATION_RULE,
    &SERVICE_ENTRY,
    &WORKLOAD_ENTRY,
    &WORKLOAD_GROUP,
    &SIDECAR,
    &ENVOY_FILTER,
    &PROXY_CONFIG,
    &PEER_AUTHENTICATION,
    &REQUEST_AUTHENTICATION,
    &AUTHORIZATION_POLICY,
    &TELEMETRY,
    &WASM_PLUGIN,
    &TRAFFIC_EXTENSION,
];

/// Under which all objects for hosts with a wildcard are found.
pub(super) const WILDCARD: &str = "*";

fn host_key(host: &str, namespace: &str) -> Arc<str> {
    if host.contains('*') {
        WILDCARD.into()
    } else {
        names::fqdn(host, namespace).into()
    }
}

fn rule_keys(object: &Object) -> Vec<Arc<str>> {
    let host = object.spec()["host"].as_str();
    let host = host.filter(|host| !host.is_empty());
    let key = host.map(|host| host_key(host, &object.name.namespace));
    key.into_iter().collect()
}

fn entry_keys(object: &Object) -> Vec<Arc<str>> {
    let hosts = object.spec()["hosts"].as_array();
    let hosts = hosts.into_iter().flatten().filter_map(|host| host.as_str());
    hosts
        .map(|host| host_key(host, &object.name.namespace))
        .collect()
}

fn workload_keys(object: &Object) -> Vec<Arc<str>> {
    let labels = object.spec()["labels"].as_object();
    let labels = labels.into_iter().flatten();
    let text = labels.filter_map(|(key, value)| Some((key, value.as_str()?)));
    text.map(|(key, value)| workload_key(&object.name.namespace, key, value))
        .collect()
}

/// The key of workloads of a namespace that have a label.
pub(super) fn workload_key(namespace: &str, key: &str, value: &str) -> Arc<str> {
    format!("{namespace}/{key}={value}").into()
}

fn namespace_key(object: &Object) -> Vec<Arc<str>> {
    vec![Arc::clone(&object.name.namespace)]
}
