//! Backends about which an object of a dialect has something to say: only some pods, TLS, limits,
//! or hosts outside of the cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{Backend, Endpoint, EndpointState, Protocol, Timeouts};

use super::{BackendRef, backend, resolve, resolve_any, resolve_stream};
use crate::foreign::{BackendSpec, ExternalHost};
use crate::objects::{Name, Reader};

/// Endpoints of one backend that are hosts outside of the cluster.
const MOST_ENDPOINTS: usize = 4096;

/// `None` if something that it needs does not exist.
pub(super) fn translate(
    reader: &Reader<'_>,
    reference: &BackendRef,
    spec: &BackendSpec,
) -> Option<Backend> {
    let mut backend = if spec.hosts.is_empty() {
        of_service(reader, reference, spec)?
    } else {
        of_hosts(reader, reference, spec)
    };
    backend.id = reference.id();
    if let Some(protocol) = spec.protocol {
        backend.protocol = protocol;
    }
    if let Some(timeouts) = spec.timeouts {
        backend.timeouts = timeouts;
    }
    backend.tls.clone_from(&spec.tls);
    backend.policy.clone_from(&spec.policy);
    if !spec.labels.is_empty() {
        let wanted = |endpoint: &Endpoint| has_labels(reader, endpoint, &spec.labels);
        backend.endpoints.retain(wanted);
    }
    Some(backend)
}

fn of_service(reader: &Reader<'_>, reference: &BackendRef, spec: &BackendSpec) -> Option<Backend> {
    let port = IntOrString::Int(i32::from(reference.port));
    let says_how = spec.tls.is_some() || spec.protocol.is_some();
    let target = match (reference.stream, says_how) {
        (Some(transport), _) => resolve_stream(reader, &reference.service, &port, transport),
        (None, true) => resolve_any(reader, &reference.service, &port),
        (None, false) => resolve(reader, &reference.service, &port),
    };
    let target = target.ok()?.over_http2(reference.http2);
    Some(backend(reader, target))
}

fn of_hosts(reader: &Reader<'_>, reference: &BackendRef, spec: &BackendSpec) -> Backend {
    let protocol = if reference.http2 {
        Protocol::H2c
    } else {
        Protocol::Http1
    };
    Backend {
        id: reference.id(),
        protocol,
        endpoints: endpoints(reader, &spec.hosts),
        concurrency: 0,
        activation: None,
        timeouts: Timeouts::default(),
        tls: None,
        policy: None,
    }
}

/// By address, each once: the first that names it says its weight and its place.
fn endpoints(reader: &Reader<'_>, hosts: &[ExternalHost]) -> Vec<Endpoint> {
    let mut by_address = BTreeMap::new();
    for host in hosts {
        for ip in addresses(reader, &host.host) {
            let address = SocketAddr::new(ip, host.port);
            by_address.entry(address).or_insert_with(|| Endpoint {
                address,
                state: EndpointState::Ready,
                pod: None,
                weight: host.weight,
                locality: host.locality.clone(),
            });
        }
    }
    by_address.into_values().take(MOST_ENDPOINTS).collect()
}

/// A literal address is itself; a name is what was found for it so far.
fn addresses(reader: &Reader<'_>, host: &Arc<str>) -> Vec<IpAddr> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = literal.parse() {
        return vec![address];
    }
    reader.dns(host).map_or_else(Vec::new, |all| all.to_vec())
}

/// Whether the endpoint's pod has all of these labels. An endpoint without a pod has none.
fn has_labels(reader: &Reader<'_>, endpoint: &Endpoint, wanted: &BTreeMap<String, String>) -> bool {
    let pod = endpoint.pod.as_deref().and_then(|pod| pod.split_once('/'));
    let Some((namespace, name)) = pod else {
        return false;
    };
    let Some(labels) = reader.pod(&Name::new(namespace, name)) else {
        return false;
    };
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests;
