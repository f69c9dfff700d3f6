//! TCPMappings: what connects to a port goes to a Service as it is.
//!
//! TCPMappings of one port, or of one host at a port, share their connections by weight. The first
//! of them by name writes the record for all. Hosts are told apart by the server name of TLS, which
//! ends here: with the certificate of a Host or of a TLSContext for that name.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::tls::{Termination, TlsAction, TlsHost, TlsId};
use routing::model::{
    Arm, BackendId, BackendPolicy, HostPattern, Protocol, SortKey, Split, Stream, StreamId,
    Transport, Visibility,
};

use super::glob::Glob;
use super::service::{self, Written};
use super::{TCP_MAPPING, door, instance, module, policy, tls};
use crate::backend::BackendRef;
use crate::fields::{self, Fields, Findings};
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::{Objects, Reader};
use crate::overlay;
use crate::ports::GatewayPorts;
use crate::shared::upstream::{self, Place};

type Backends = BTreeMap<BackendRef, Arc<BackendSpec>>;

/// A TCPMapping is found by its port, and by its host if it has one.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let spec = object.spec();
    let port = spec["port"].as_u64();
    let Some(port) = port.filter(|_| instance::is_ours(object)) else {
        return Vec::new();
    };
    let host = spec["host"].as_str().filter(|host| !host.is_empty());
    match host.map(Glob::parse) {
        None => vec![port.to_string().into()],
        Some(Ok(host)) => vec![key(port, Some(&host)).into()],
        Some(Err(_)) => Vec::new(),
    }
}

/// Those with one key share connections.
fn key(port: u64, host: Option<&Glob>) -> String {
    match host {
        None => port.to_string(),
        Some(host) => format!("{port} {}", host.key()),
    }
}

/// Translates one TCPMapping.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, out| {
        let Some(own) = Member::read(spec, object, reader, &mut out.backends) else {
            out.backends.clear();
            return;
        };
        let mut group: Vec<_> = reader
            .foreign_by_key(&TCP_MAPPING, &key(own.port.into(), own.host.as_ref()))
            .collect();
        group.sort_by(|one, other| one.name.cmp(&other.name));
        if group.first().is_some_and(|first| first.name != object.name) {
            out.backends.clear();
            return;
        }
        let (port, host) = (own.port, own.host.clone());
        let way = host.map(|host| secure(spec, &host, port, reader));
        if matches!(way, Some(None)) {
            out.backends.clear();
            return;
        }
        let mut members = vec![own];
        for other in group.into_iter().filter(|other| other.name != object.name) {
            // What is wrong with it is told there.
            let quiet = Findings::default();
            let spec = Fields::new(other.spec(), "spec".to_owned(), &quiet);
            spec.ignore("ambassador_id");
            members.extend(Member::read(&spec, other, reader, &mut out.backends));
        }
        let split = Split::new(arms(members));
        match way.flatten() {
            Some(way) => way.write(object, port, split, reader, out),
            None => plain(object, port, split, reader, out),
        }
    })
}

/// Everything that connects to a port.
fn plain(
    object: &Object,
    port: u16,
    split: Option<Split>,
    reader: &Reader<'_>,
    out: &mut Translation,
) {
    let bind = reader.gateway_ports().stream_bind(port, Transport::Tcp);
    let bind = GatewayPorts::behind(bind, door::preamble_at(port, reader));
    let bind = Arc::new(bind);
    let stream = Stream {
        origin: object.origin("spec"),
        bind: bind.id.clone(),
        sort_key: SortKey(vec![object.created]),
        split,
        but_for: Default::default(),
    };
    let id = StreamId(format!("emissary/TCPMapping/{port}").into());
    out.binds.push((bind.id.clone(), bind));
    out.streams.push((id, Arc::new(stream)));
}

/// How connections for a host are told apart and ended.
struct Secure {
    name: HostPattern,
    termination: Termination,
    /// When the object with the certificate was made.
    created: i64,
}

/// `None` if nothing can be served, which was told.
fn secure(spec: &Fields<'_>, host: &Glob, port: u16, reader: &Reader<'_>) -> Option<Secure> {
    let refuse = |reason, message: &str| {
        spec.refuse("host", reason, message);
        None
    };
    let Some(name) = host.pattern() else {
        let message = "connections are told apart by names and `*.` names only; nothing is served";
        return refuse("HostNotSupported", message);
    };
    if reader.gateway_ports().is_http(port) {
        let message = "the port is the gateway's for plain HTTP, where clients name no host: \
                       choose another; nothing is served";
        return refuse("PortWithoutTLS", message);
    }
    let all = reader.foreign_by_key(&TCP_MAPPING, &key(port.into(), None));
    if let Some(other) = all.into_iter().next() {
        let message = format!(
            "TCPMapping {} has no host and takes every connection of the port; nothing of this \
             one is served",
            other.name
        );
        return refuse("PortTaken", &message);
    }
    let Some((termination, created)) = tls::of_name(host, reader) else {
        let message = "no Host and no TLSContext has a certificate for this host, and without \
                       TLS clients name no host; nothing is served";
        return refuse("HostWithoutTLS", message);
    };
    Some(Secure {
        name,
        termination,
        created,
    })
}

impl Secure {
    fn write(
        self,
        object: &Object,
        port: u16,
        split: Option<Split>,
        reader: &Reader<'_>,
        out: &mut Translation,
    ) {
        let ports = reader.gateway_ports();
        let bind = (!ports.is_https(port)).then(|| {
            let preamble = door::preamble_at(port, reader);
            Arc::new(GatewayPorts::behind(ports.bind(port, true), preamble))
        });
        let id = format!("emissary/TCPMapping/{port}/{}", self.name);
        let record = TlsHost {
            origin: object.origin("spec.host"),
            bind: bind.as_ref().map(|bind| bind.id.clone()),
            visibility: Visibility::External,
            names: vec![self.name],
            // Before that object's own record, at the port where both are: what is inside is no HTTP.
            sort_key: SortKey(vec![self.created.saturating_sub(1)]),
            // Without a share of anything there is nobody to speak to.
            action: split.map_or(TlsAction::Refuse, |split| {
                TlsAction::Relay(self.termination, split)
            }),
        };
        out.binds.extend(bind.map(|bind| (bind.id.clone(), bind)));
        out.tls.push((TlsId(id.into()), Arc::new(record)));
    }
}

/// One TCPMapping of a port.
struct Member {
    port: u16,
    /// In TLS; `None` takes every connection.
    host: Option<Glob>,
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
        spec.unsupported("resolver", "endpoints are those of the Service");
        for (key, as_served) in [("enable_ipv4", true), ("enable_ipv6", false)] {
            if spec.bool(key).is_some_and(|value| value != as_served) {
                spec.unsupported(key, "every address that a name has is used");
            }
        }
        let host = spec.text("host").map(Glob::parse).transpose();
        if let Err(error) = &host {
            spec.refuse("host", "HostInvalid", format!("{error}; nothing is served"));
        }
        let port = spec.number::<u16>("port").filter(|port| *port > 0);
        if port.is_none() {
            spec.refuse("port", "PortInvalid", "write a port of 1 to 65535");
        }
        let weight = spec.number("weight");
        // Read in any case, for what is wrong with it.
        used(spec, reader, policy::plain_tcp());
        let backend = backend(spec, object, reader, backends);
        let (Ok(host), Some(port), Some(backend)) = (host, port, backend) else {
            return None;
        };
        Some(Self {
            port,
            host,
            weight,
            backend,
        })
    }
}

/// How a backend is used, over what is known of it.
fn used(spec: &Fields<'_>, reader: &Reader<'_>, known: BackendPolicy) -> BackendPolicy {
    let settings = module::settings(reader);
    // What is wrong with the Module is told there.
    fields::quietly(&settings.defaults, |defaults| {
        policy::of_tcp(spec, defaults, known)
    })
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
    let usual = BackendSpec {
        policy: Some(Arc::new(policy::plain_tcp())),
        ..BackendSpec::default()
    };
    let mut wanted = match &place {
        Place::Service { name, port } => overlay::endpoints(reader, name, *port, usual),
        Place::Host { .. } => usual,
    };
    let policy = wanted.policy.as_deref().cloned();
    let policy = policy.unwrap_or_else(policy::plain_tcp);
    wanted.policy = Some(Arc::new(used(spec, reader, policy)));
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
            host: None,
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
