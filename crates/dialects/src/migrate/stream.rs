//! What is no HTTP: TLSRoutes by name, TCPRoutes and UDPRoutes by port.

use std::collections::{BTreeMap, BTreeSet};

use routing::BindId;
use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{BackendId, HostPattern, Origin, SortKey, Split, Stream, StreamId, Transport};
use serde_json::{Value, json};

use super::door::{self, Door, Kind, Spoken};
use super::{VERSION, Verdict, Writer, rule};

/// As long as a route has to name hosts, one that has all is of the version before.
const VERSION_WITHOUT_HOSTS: &str = "gateway.networking.k8s.io/v1alpha2";
/// Listeners that one route attaches to, and its backends (schema).
const MOST_PARENTS: usize = 32;
const MOST_BACKENDS: usize = 16;

/// A route whose parents are not known yet.
pub(super) struct Passed {
    origin: Origin,
    kind: &'static str,
    /// Never empty.
    places: Vec<door::Place>,
    references: Vec<Value>,
}

impl Writer<'_> {
    /// Everything that is passed on, with its listeners.
    pub(super) fn passed(&mut self) -> Vec<Passed> {
        let mut all = self.passed_tls();
        all.extend(self.passed_streams());
        self.tell_unserved();
        all
    }

    /// By the record that decides about a name.
    fn passed_tls(&mut self) -> Vec<Passed> {
        let mut passed = Vec::new();
        let input = self.input;
        for (id, record) in &input.tls {
            self.tell_preamble(&record.origin, record.bind.as_ref());
            let (TlsAction::Passthrough(split) | TlsAction::Relay(_, split)) = &record.action
            else {
                continue;
            };
            let places = self.decided(id, record);
            let origin = &record.origin;
            if places.is_empty() {
                continue;
            }
            match self.references(origin, "TLSRoute", split) {
                Ok(references) => passed.push(Passed {
                    origin: origin.clone(),
                    kind: "TLSRoute",
                    places,
                    references,
                }),
                Err(why) => {
                    // Its names stay closed.
                    let kinds = places.into_iter().map(|place| (place, Kind::Closed));
                    self.listeners.kinds.extend(kinds);
                    self.note(origin, Verdict::LeftOut, "tls", &why);
                }
            }
        }
        passed
    }

    /// The listeners of names about which this record decides.
    fn decided(&mut self, id: &TlsId, record: &TlsHost) -> Vec<door::Place> {
        let input = self.input;
        let door = match &record.bind {
            Some(bind) => Door::of(bind, input),
            None => Some(Door::shared(record.visibility, Spoken::Tls)),
        };
        let key = (&record.sort_key, id);
        let mut places = BTreeSet::new();
        for name in record.names.iter().map(door::wide) {
            let place = door.map(|door| (door, name.clone()));
            let Some(place) = place else { continue };
            let is_passed = |kind: &Kind| matches!(kind, Kind::Passthrough | Kind::Ended(_));
            if !self.listeners.kinds.get(&place).is_some_and(is_passed) {
                continue;
            }
            let before = |(other, it): (&TlsId, &std::sync::Arc<TlsHost>)| {
                let is_here = it.bind == record.bind && it.visibility == record.visibility;
                let mut names = it.names.iter().map(door::wide);
                is_here && names.any(|own| own == name) && (&it.sort_key, other) < key
            };
            if !input.tls.iter().any(before) {
                places.insert(place);
            } else {
                let text = format!("{name}: an object that comes first decides, here and there");
                self.note(&record.origin, Verdict::Kept, "tls", &text);
            }
        }
        places.into_iter().collect()
    }

    /// Gateway API has no word for a balancer in front.
    pub(super) fn tell_preamble(&mut self, origin: &Origin, bind: Option<&BindId>) {
        let bind = bind.and_then(|bind| self.input.binds.get(bind));
        if bind.is_some_and(|bind| bind.preamble.is_some()) {
            let text = "connections begin with the PROXY protocol: say so to the other gateway";
            self.note(origin, Verdict::Lost, "bind.preamble", text);
        }
    }

    /// The first of a bind has everything.
    fn passed_streams(&mut self) -> Vec<Passed> {
        let mut binds: BTreeMap<&BindId, BTreeMap<(&SortKey, &StreamId), &Stream>> =
            BTreeMap::new();
        for (id, stream) in &self.input.streams {
            let of_bind = binds.entry(&stream.bind).or_default();
            of_bind.insert((&stream.sort_key, id), stream);
        }
        let mut passed = Vec::new();
        for (bind, streams) in binds {
            let mut streams = streams.into_values();
            let Some(first) = streams.next() else {
                continue;
            };
            for other in streams {
                let of = &first.origin;
                let text = format!(
                    "{} of {} {}/{} has the connections of {bind}, and this one waits for it to go away: it is not written",
                    of.field, of.kind, of.namespace, of.name
                );
                self.note(&other.origin, Verdict::Changed, "stream", &text);
            }
            match self.passed_stream(bind, first) {
                Ok(one) => passed.push(one),
                Err(why) => self.note(&first.origin, Verdict::LeftOut, "stream", &why),
            }
        }
        passed
    }

    fn passed_stream(&mut self, bind: &BindId, stream: &Stream) -> Result<Passed, String> {
        let origin = &stream.origin;
        let door = Door::of(bind, self.input);
        let door = door.filter(|_| stream.but_for.is_empty());
        let (door, kind) = match door {
            Some(door) if door.spoken == Spoken::Tcp => (door, "TCPRoute"),
            Some(door) if door.spoken == Spoken::Udp => (door, "UDPRoute"),
            _ => return Err("connections between Services are passed on by no TCPRoute".to_owned()),
        };
        let others = self.listeners.kinds.keys();
        let mut others = others.filter(|(other, _)| !other.is_local && other.port == door.port);
        let is_taken = others.any(|(other, _)| other.spoken == Spoken::Tls) || self.is_http(door);
        if door.spoken == Spoken::Tcp && is_taken {
            return Err(format!(
                "port {} is for HTTP or TLS in another object",
                door.port
            ));
        }
        let split = stream.split.as_ref();
        let split = split.ok_or("every connection is closed: there is nothing to send to")?;
        let references = self.references(origin, kind, split)?;
        let place = (door, HostPattern::Any);
        self.listeners.add(place.clone(), Kind::Stream);
        self.tell_preamble(origin, Some(bind));
        Ok(Passed {
            origin: origin.clone(),
            kind,
            places: vec![place],
            references,
        })
    }

    fn references(
        &mut self,
        origin: &Origin,
        kind: &'static str,
        split: &Split,
    ) -> Result<Vec<Value>, String> {
        if split.arms().len() > MOST_BACKENDS {
            return Err(format!(
                "Gateway API has {MOST_BACKENDS} backends of a rule at most"
            ));
        }
        let mut references = Vec::new();
        for arm in split.arms() {
            if arm.instead.is_some() {
                return Err("a share of the connections is closed".to_owned());
            }
            let mut reference = self.passed_to(origin, kind, &arm.backend)?;
            reference["weight"] = arm.weight.into();
            references.push(reference);
        }
        let arms = split.arms().iter().map(|arm| &arm.backend);
        arms.for_each(|backend| self.use_backend(backend, origin));
        Ok(references)
    }

    fn passed_to(
        &mut self,
        origin: &Origin,
        kind: &'static str,
        id: &BackendId,
    ) -> Result<Value, String> {
        let reference = rule::reference(self.input, id)?;
        let spec = rule::spec_of_service(self.input, id)?;
        if spec.is_some_and(|spec| spec.tls.is_some()) {
            return Err(format!(
                "connections to {id} are encrypted on the way, and no BackendTLSPolicy does that for a {kind}"
            ));
        }
        let service = &reference.service;
        self.let_send(&origin.namespace, kind, service);
        Ok(json!({
            "name": service.name, "namespace": service.namespace, "port": reference.port,
        }))
    }

    /// Sockets that nothing is at.
    fn tell_unserved(&mut self) {
        let input = self.input;
        for (origin, bind) in &input.unrouted {
            let address = input.binds.get(bind).map(|bind| bind.address.port());
            let port = address.unwrap_or_default();
            let is_udp = bind.0.ends_with("/udp")
                || input
                    .binds
                    .get(bind)
                    .is_some_and(|it| it.stream == Some(Transport::Udp));
            let what = if is_udp { "datagrams" } else { "connections" };
            let text =
                format!("port {port} takes {what} that no rule is for, and is not open there");
            self.note(origin, Verdict::Changed, "bind", &text);
        }
    }

    /// The routes, now that their listeners have their objects. Of each the parents can be named.
    pub(super) fn write_passed(&mut self, all: Vec<Passed>) -> Vec<Value> {
        let mut written = Vec::new();
        for (number, one) in all.into_iter().enumerate() {
            let origin = &one.origin;
            // Hosts that a route does not name are all hosts: those are apart.
            let (any, named): (Vec<_>, Vec<_>) = one
                .places
                .into_iter()
                .partition(|(_, host)| *host == HostPattern::Any);
            let chunks = named.chunks(MOST_PARENTS).chain(any.chunks(MOST_PARENTS));
            for (at, places) in chunks.enumerate() {
                let suffix = format!("-{}-{number:03}-{at:02}", one.kind[..3].to_lowercase());
                let name = super::route_name(&origin.name, &suffix);
                let parents = places.iter().map(|place| self.listeners.section(place));
                let hosts = places.iter().filter(|(_, host)| *host != HostPattern::Any);
                let hosts: Vec<_> = hosts.map(|(_, host)| host.to_string()).collect();
                let mut spec = json!({
                    "parentRefs": parents.collect::<Vec<_>>(),
                    "rules": [{"backendRefs": one.references}],
                });
                let is_all = one.kind == "TLSRoute" && hosts.is_empty();
                if !hosts.is_empty() {
                    spec["hostnames"] = json!(hosts);
                }
                let version = if is_all {
                    VERSION_WITHOUT_HOSTS
                } else {
                    VERSION
                };
                written.push(json!({
                    "apiVersion": version, "kind": one.kind,
                    "metadata": {"name": name, "namespace": origin.namespace},
                    "spec": spec,
                }));
                let what = match places.first() {
                    Some((door, HostPattern::Any)) => format!("port {}", door.port),
                    Some((door, _)) => format!("{} at port {}", hosts.join(", "), door.port),
                    None => String::new(),
                };
                let text = format!("{what}: {} {}/{name}", one.kind, origin.namespace);
                let part = if one.kind == "TLSRoute" {
                    "tls"
                } else {
                    "stream"
                };
                self.note(&origin.clone(), Verdict::Kept, part, &text);
            }
        }
        written
    }
}
