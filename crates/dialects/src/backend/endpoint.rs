//! EndpointSlices of a Service → addresses, each with its state, pod and place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointPort, EndpointSlice};
use routing::model::{Endpoint, EndpointState, Protocol};

use super::target::{Target, TargetKind, spoken};
use crate::objects::Reader;

/// Where requests for a target go, and how.
///
/// A Service that says something else than before of its pods' protocol is ahead of its slices:
/// they name the pods of before, with the protocol of before, until they are written again. So the
/// ones that say what the Service says count, and while none of them has an endpoint, the others
/// with what they say.
pub(super) fn of(reader: &Reader<'_>, target: &Target<'_>) -> (Vec<Endpoint>, Protocol) {
    let TargetKind::Gateway(addresses) = &target.kind else {
        return of_slices(reader, target);
    };
    let ready = |address: &SocketAddr| Endpoint {
        address: *address,
        state: EndpointState::Ready,
        pod: None,
        weight: 1,
        locality: None,
    };
    (addresses.iter().map(ready).collect(), target.protocol)
}

fn of_slices(reader: &Reader<'_>, target: &Target<'_>) -> (Vec<Endpoint>, Protocol) {
    let (name, protocol) = (target.port_name, target.protocol);
    let slices = || reader.slices(&target.reference.service);
    let says = |slice: &EndpointSlice| {
        let copied = port(slice, name)?.app_protocol.as_deref()?;
        spoken(Some(copied), Some(name)).filter(|said| *said != protocol)
    };
    // Whoever asks for a protocol does not ask what the port says.
    let is_said = target.reference.http2 || target.reference.stream.is_some();
    let before = slices().find_map(|slice| says(slice).filter(|_| !is_said));
    let Some(before) = before else {
        return (merge(slices(), name), protocol);
    };
    let current = merge(slices().filter(|slice| says(slice).is_none()), name);
    if current.is_empty() {
        (merge(slices(), name), before)
    } else {
        (current, protocol)
    }
}

/// Ready and draining endpoints, by address, each once. An address that is ready in one slice and
/// draining in another (a slice was just replaced) counts as ready.
pub(super) fn merge<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
) -> Vec<Endpoint> {
    let mut by_address: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for endpoint in slices.flat_map(|slice| slice_endpoints(slice, port_name)) {
        let known = by_address
            .entry(endpoint.address)
            .or_insert_with(|| endpoint.clone());
        if known.state == EndpointState::Draining {
            *known = endpoint;
        }
    }
    by_address.into_values().collect()
}

fn port<'s>(slice: &'s EndpointSlice, name: &str) -> Option<&'s EndpointPort> {
    let mut ports = slice.ports.iter().flatten();
    ports.find(|port| port.name.as_deref().unwrap_or_default() == name)
}

fn slice_endpoints(slice: &EndpointSlice, port_name: &str) -> impl Iterator<Item = Endpoint> {
    let port = port(slice, port_name).and_then(|port| u16::try_from(port.port?).ok());
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    port.into_iter().flat_map(move |port| {
        let with_state = slice
            .endpoints
            .iter()
            .flatten()
            .filter_map(|endpoint| Some((endpoint, state(endpoint)?)));
        with_state.flat_map(move |(endpoint, state)| {
            let pod = pod(endpoint, namespace);
            // Addresses of one endpoint are interchangeable (API doc): the first is enough. An
            // FQDN does not parse and is left out: its slices are never made for pods.
            let address = endpoint
                .addresses
                .first()
                .and_then(|text| text.parse::<IpAddr>().ok());
            address.map(|ip| Endpoint {
                address: SocketAddr::new(ip, port),
                state,
                pod: pod.clone(),
                weight: 1,
                locality: endpoint
                    .zone
                    .as_deref()
                    .map(|zone| format!("/{zone}/").into()),
            })
        })
    })
}

/// `None` for an endpoint that is neither ready nor going away.
fn state(endpoint: &SliceEndpoint) -> Option<EndpointState> {
    let conditions = endpoint.conditions.as_ref();
    let terminating = conditions
        .and_then(|conditions| conditions.terminating)
        .unwrap_or(false);
    // API doc of EndpointConditions: an unset `ready` means ready.
    let ready = conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true);
    match (terminating, ready) {
        (true, _) => Some(EndpointState::Draining),
        (false, true) => Some(EndpointState::Ready),
        (false, false) => None,
    }
}

fn pod(endpoint: &SliceEndpoint, namespace: &str) -> Option<Arc<str>> {
    let target = endpoint
        .target_ref
        .as_ref()
        .filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let namespace = target.namespace.as_deref().unwrap_or(namespace);
    Some(format!("{namespace}/{}", target.name.as_deref()?).into())
}

#[cfg(test)]
mod tests;
