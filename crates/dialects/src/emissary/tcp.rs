//! TCPMappings: what connects to a port goes to a Service as it is.
//!
//! TCPMappings of one port share its connections by weight. The first of them by name writes the
//! record for all.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{Arm, BackendId, Protocol, SortKey, Split, Stream, StreamId, Transport};

use super::service::{self, Written};
use super::{TCP_MAPPING, instance, tls};
use crate::backend::BackendRef;
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::{Objects, Reader};
use crate::overlay;
use crate::shared::upstream::{self, Place};

type Backends = BTreeMap<BackendRef, Arc<BackendSpec>>;

/// A TCPMapping is found by its port.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let port = object.spec()["port"].as_u64();
    let port = port.filter(|_| instance::is_ours(object) && object.spec()["host"].is_null());
    port.map(|port| port.to_string().into())
        .into_iter()
        .collect()
}

/// Translates one TCPMapping.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, out| {
        let Some(own) = Member::read(spec, object, reader, &mut out.backends) else {
            out.backends.clear();
            return;
        };
        let mut group: Vec<_> = reader
            .foreign_by_key(&TCP_MAPPING, &own.port.to_string())
            .collect();
        group.sort_by(|one, other| one.name.cmp(&other.name));
        if group.first().is_some_and(|first| first.name != object.name) {
            out.backends.clear();
            return;
        }
        let port = own.port;
        let mut members = vec![own];
        for other in group.into_iter().filter(|other| other.name != object.name) {
            // What is wrong with it is told there.
            let quiet = Findings::default();
            let spec = Fields::new(other.spec(), "spec".to_owned(), &quiet);
            spec.ignore("ambassador_id");
            members.extend(Member::read(&spec, other, reader, &mut out.backends));
        }
        let bind = Arc::new(reader.gateway_ports().stream_bind(port, Transport::Tcp));
        let stream = Stream {
            origin: instance::origin(object, "spec"),
            bind: bind.id.clone(),
            sort_key: SortKey(vec![object.created]),
            split: Split::new(arms(members)),
            but_for: Default::default(),
        };
        let id = StreamId(format!("emissary/TCPMapping/{port}").into());
        out.binds.push((bind.id.clone(), bind));
        out.streams.push((id, Arc::new(stream)));
    })
}

/// One TCPMapping of a port.
struct Member {
    port: u16,
    /// In percent; those without share what is left.
    weight: Option<u32>,
    backend: BackendId,
}

impl Member {
    fn read(
        spec: &Fields<'_>,
        object: &Object,
        reader: &Reader<'_>,
        backends: &mut Backends,
    ) -> Option<Self> {
        for key in ["cluster_tag", "stats_name", "v3StatsName"] {
            spec.ignore(key);
        }
        spec.unsupported("address", "the gateway listens on its own address");
        spec.unsupported("circuit_breakers", "connections wait for an endpoint");
        spec.unsupported(
            "idle_timeout_ms",
            "set limits.relay-idle-time of the gateway",
        );
        spec.unsupported("resolver", "endpoints are those of the Service");
        for (key, as_served) in [("enable_ipv4", true), ("enable_ipv6", false)] {
            if spec.bool(key).is_some_and(|value| value != as_served) {
                spec.unsupported(key, "every address that a name has is used");
            }
        }
        let has_host = spec.text("host").is_some();
        if has_host {
            let message = "connections are not told apart by the host of their TLS: write a \
                           TLSRoute; nothing is served";
            spec.refuse("host", "HostNotSupported", message);
        }
        let port = spec.number::<u16>("port").filter(|port| *port > 0);
        if port.is_none() {
            spec.refuse("port", "PortInvalid", "write a port of 1 to 65535");
        }
        let weight = spec.number("weight");
        let backend = backend(spec, object, reader, backends);
        let (false, Some(port), Some(backend)) = (has_host, port, backend) else {
            return None;
        };
        Some(Self {
            port,
            weight,
            backend,
        })
    }
}

fn backend(
    spec: &Fields<'_>,
    object: &Object,
    reader: &Reader<'_>,
    backends: &mut Backends,
) -> Option<BackendId> {
    let namespace = &object.name.namespace;
    let Some(text) = spec.text("service") else {
        spec.refuse("service", "ServiceMissing", "write the Service");
        return None;
    };
    let written = match Written::parse(text) {
        Ok(written) => written,
        Err(error) => {
            spec.refuse("service", "ServiceInvalid", error);
            return None;
        }
    };
    let tls = tls::upstream(spec, namespace, &written, reader).ok()?;
    let port = written.port(tls.is_some());
    let place = match service::find(reader, namespace, &written.host, port) {
        Ok(place) => place,
        Err((effect, reason, text)) => {
            let findings = spec.findings();
            findings.say(effect, reason, &spec.at("service"), text);
            return None;
        }
    };
    let mut wanted = match &place {
        Place::Service { name, port } => {
            overlay::endpoints(reader, name, *port, BackendSpec::default())
        }
        Place::Host { .. } => BackendSpec::default(),
    };
    wanted.tls = tls.or(wanted.tls);
    wanted.protocol = Some(Protocol::Http1);
    let (mut reference, wanted) = upstream::reference("emissary", namespace, place, false, wanted);
    reference.stream = Some(Transport::Tcp);
    let id = reference.id();
    backends.insert(reference, wanted);
    Some(id)
}

fn arms(members: Vec<Member>) -> Vec<Arm> {
    let given: u64 = members
        .iter()
        .filter_map(|it| it.weight.map(u64::from))
        .sum();
    let without = members.iter().filter(|it| it.weight.is_none()).count();
    let rest = u32::try_from(100_u64.saturating_sub(given)).unwrap_or_default();
    let share = match (given, u32::try_from(without)) {
        (0, _) | (_, Err(_) | Ok(0)) => 1,
        (_, Ok(without)) => rest / without,
    };
    let arms = members.into_iter();
    arms.map(|it| Arm::new(it.weight.unwrap_or(share), it.backend))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weights of TCPMappings of one port.
    fn shares(weights: &[Option<u32>]) -> Vec<u32> {
        let member = |weight: &Option<u32>| Member {
            port: 1,
            weight: *weight,
            backend: BackendId("b".into()),
        };
        let arms = arms(weights.iter().map(member).collect());
        arms.iter().map(|arm| arm.weight).collect()
    }

    #[test]
    fn who_has_no_weight_shares_what_is_left_of_a_hundred() {
        assert_eq!(shares(&[None, None]), [1, 1]);
        assert_eq!(shares(&[Some(60), None, None]), [60, 20, 20]);
        assert_eq!(
            shares(&[Some(u32::MAX), Some(u32::MAX), None]),
            [u32::MAX, u32::MAX, 0]
        );
    }
}
