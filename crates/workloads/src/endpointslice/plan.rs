//! The slices that a Service should have; pure.
//!
//! Pods of the `process` runtime share the host's address, each with ports of its own, so a slice
//! holds pods with equal ports. A slice's name comes from its ports: a pod that becomes ready
//! finds the name of its slice without looking at the others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::names::annotation::HOST_PORTS;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use reconcile::write::owner_reference;
use reconcile::{Informer, Key};
use serde_json::{Value, json};

use super::{SERVICE_NAME, matching};
use crate::{name, pod};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.suimon.dev";
/// Most endpoints of one slice (Kubernetes' limit).
const SLICE_MAX: usize = 1000;
/// How long a pod may start up before slices show it as not ready: on the way from zero the
/// write would stand in the way of the one that says ready.
const STARTING: Duration = Duration::from_secs(1);

/// What to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    pub(super) requeue: Option<Duration>,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(String),
}

/// The Service that one of our slices belongs to.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.labels();
    let ours = labels
        .get(MANAGED_BY)
        .is_some_and(|manager| manager == MANAGER);
    let service = labels.get(SERVICE_NAME).filter(|_| ours)?;
    Some(Key::new(slice.namespace().unwrap_or_default(), service))
}

/// The pods that a Service selects, by name.
pub(crate) fn members(service: &Service, pods: &Informer<Pod>) -> Vec<Arc<Pod>> {
    let Some(selector) = matching::selector(service) else {
        return Vec::new();
    };
    let namespace = service.namespace().unwrap_or_default();
    pods.in_namespace(&namespace, |pod| {
        selector
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
    })
}

/// One pod as an endpoint, with the ports it is reached at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) address: String,
    /// Ports of the Service with the number to connect to.
    pub(crate) ports: Vec<(&'a ServicePort, i32)>,
    /// May get new requests.
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
}

/// Decides which slices to write. All pods are in one zone, the node's.
pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: &[Arc<EndpointSlice>],
    now: &Time,
    zone: Option<&str>,
) -> Plan {
    let mut plan = Plan::default();
    if matching::selector(service).is_none() {
        // Someone else writes the endpoints of a Service without selector; ours are outdated.
        plan.writes = existing
            .iter()
            .map(|slice| Write::Delete(slice.name_any()))
            .collect();
        return plan;
    }
    if service.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let mut groups: BTreeMap<String, Vec<Member<'_>>> = BTreeMap::new();
    for member in pods.iter().filter_map(|pod| member(service, pod)) {
        if !member.ready && !member.terminating && !shown(existing, member.pod) {
            let age = member
                .pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|then| pod::elapsed(then, now));
            let left = STARTING.saturating_sub(age.unwrap_or(STARTING));
            if !left.is_zero() {
                plan.requeue = Some(plan.requeue.map_or(left, |other| other.min(left)));
                continue;
            }
        }
        groups.entry(group(&member)).or_default().push(member);
    }
    let mut wanted = BTreeMap::new();
    for (group, members) in groups {
        for (index, chunk) in members.chunks(SLICE_MAX).enumerate() {
            let mut slice = slice(service, &group, index, chunk);
            for endpoint in slice.endpoints.iter_mut().flatten() {
                endpoint.zone = zone.map(str::to_owned);
            }
            wanted.insert(slice.name_any(), slice);
        }
    }
    for slice in existing {
        match wanted.remove(&slice.name_any()) {
            None => plan.writes.push(Write::Delete(slice.name_any())),
            Some(next) if contents(&next) != contents(slice) => {
                plan.writes.push(Write::Update(Box::new(next)))
            }
            Some(_) => {}
        }
    }
    // What can take requests is written before what can not any more is removed.
    let created = wanted
        .into_values()
        .map(|slice| Write::Create(Box::new(slice)));
    plan.writes = created.chain(plan.writes).collect();
    plan
}

/// What we own of a slice, as a merge patch.
pub(super) fn contents(slice: &EndpointSlice) -> Value {
    json!({
        "endpoints": slice.endpoints.clone().unwrap_or_default(),
        "ports": slice.ports.clone().unwrap_or_default(),
    })
}

/// The pod as an endpoint of the Service; `None` if it cannot be one (yet).
pub(crate) fn member<'a>(service: &'a Service, pod: &'a Pod) -> Option<Member<'a>> {
    if pod::is_finished(pod) {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let address = pod
        .status
        .as_ref()?
        .pod_ip
        .clone()
        .filter(|address| !address.is_empty())?;
    let host_ports = host_ports(pod);
    let ports: Vec<(&ServicePort, i32)> = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let number = target_port(port, pod)?;
            Some((
                port,
                host_ports
                    .get(&number.to_string())
                    .copied()
                    .unwrap_or(number),
            ))
        })
        .collect();
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if ports.is_empty() && !(headless && spec.ports.as_ref().is_none_or(Vec::is_empty)) {
        return None;
    }
    let terminating = pod::is_terminating(pod);
    let serving = pod::is_ready(pod);
    let ready = spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    Some(Member {
        pod,
        address,
        ports,
        ready,
        serving,
        terminating,
    })
}

/// The container port that a Service's port means in this pod.
fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    match &port.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => Some(*number),
        Some(IntOrString::String(name)) if !name.is_empty() => {
            let spec = pod.spec.as_ref()?;
            // A sidecar is an init container that keeps running; it may serve as well.
            let containers = spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten());
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|candidate| {
                candidate.name.as_ref() == Some(name)
                    && protocol(&candidate.protocol) == protocol(&port.protocol)
            })?;
            Some(found.container_port)
        }
        _ => Some(port.port),
    }
}

/// Container port → host port, written by the node for pods that share the host's address.
/// Malformed text counts as absent: the node writes it again with its next status.
fn host_ports(pod: &Pod) -> BTreeMap<String, i32> {
    pod.annotations()
        .get(HOST_PORTS)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn shown(slices: &[Arc<EndpointSlice>], pod: &Pod) -> bool {
    let uid = pod.metadata.uid.as_ref();
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten());
    let mut uids = endpoints.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.as_ref());
    uids.any(|shown| Some(shown) == uid)
}

/// What the members of one slice have in common.
fn group(member: &Member<'_>) -> String {
    let ports: Vec<String> = member
        .ports
        .iter()
        .map(|(port, number)| {
            format!(
                "{}/{}/{number}",
                port.name.as_deref().unwrap_or_default(),
                port.protocol.as_deref().unwrap_or("TCP")
            )
        })
        .collect();
    format!("{} {}", address_type(&member.address), ports.join(" "))
}

fn address_type(address: &str) -> &'static str {
    match address.parse() {
        Ok(IpAddr::V6(_)) => "IPv6",
        _ => "IPv4",
    }
}

fn slice(service: &Service, group: &str, index: usize, members: &[Member<'_>]) -> EndpointSlice {
    let hash = name::hash(format!("{group} {index}").as_bytes());
    let first = members.first();
    let ports = first
        .into_iter()
        .flat_map(|member| &member.ports)
        .map(|(port, number)| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(*number),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        });
    let labels = [
        (SERVICE_NAME, service.name_any()),
        (MANAGED_BY, MANAGER.to_owned()),
    ];
    EndpointSlice {
        address_type: first
            .map_or("IPv4", |member| address_type(&member.address))
            .to_owned(),
        endpoints: Some(members.iter().map(endpoint).collect()),
        ports: Some(ports.collect()),
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", service.name_any())),
            namespace: service.namespace(),
            labels: Some(
                labels
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            ),
            owner_references: Some(vec![owner_reference(service)]),
            ..ObjectMeta::default()
        },
    }
}

fn endpoint(member: &Member<'_>) -> Endpoint {
    let pod = member.pod;
    Endpoint {
        addresses: vec![member.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(member.ready),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        hostname: pod
            .spec
            .as_ref()
            .filter(|spec| spec.subdomain.is_some())
            .and_then(|spec| spec.hostname.clone()),
        target_ref: Some(target_ref(pod)),
        ..Endpoint::default()
    }
}

/// The reference to a pod in endpoints.
pub(crate) fn target_ref(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.namespace(),
        name: Some(pod.name_any()),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
