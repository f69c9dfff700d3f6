//! Where clients connect: listeners, and the object that holds each.
//!
//! A Gateway has 64 listeners at most; what is beyond that is in ListenerSets of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::tls::{CaBundle, Termination};
use routing::model::{BindId, HostPattern, Origin, Transport, Visibility};
use serde_json::{Value, json};

use super::{Input, Verdict, Writer, limited};
use crate::gateway_api::covers;

/// Where the Gateways are.
pub(super) const NAMESPACE: &str = "default";
/// Name of the Gateway that the routes attach to.
const GATEWAY: &str = "gateway";
/// The one that stands for the listeners inside of the cluster.
const LOCAL_GATEWAY: &str = "gateway-local";
/// Of one Gateway or ListenerSet (schema).
pub(super) const MOST_LISTENERS: usize = 64;
/// Of one route (schema).
const MOST_PARENTS: usize = 32;

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spoken {
    Http,
    Tls,
    Tcp,
    Udp,
}

/// A port of a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Door {
    /// Of the one that stands for the listeners inside of the cluster.
    pub(super) is_local: bool,
    pub(super) spoken: Spoken,
    pub(super) port: u16,
}

impl Door {
    /// The usual port of the shared listeners.
    pub(super) fn shared(visibility: Visibility, spoken: Spoken) -> Self {
        Self {
            is_local: visibility == Visibility::ClusterLocal,
            spoken,
            port: if spoken == Spoken::Tls { 443 } else { 80 },
        }
    }

    /// Of a bind, whose id begins with its address.
    pub(super) fn of(id: &BindId, input: &Input) -> Option<Self> {
        let (port, is_tls, stream) = match input.binds.get(id) {
            Some(bind) => (bind.address.port(), bind.is_tls, bind.stream),
            None => {
                let address = id.0.split('/').next()?;
                let port = address.rsplit(':').next()?.parse().ok()?;
                (port, id.0.contains("/tls"), None)
            }
        };
        let spoken = match stream {
            Some(Transport::Tcp) => Spoken::Tcp,
            Some(Transport::Udp) => Spoken::Udp,
            None if is_tls => Spoken::Tls,
            None => Spoken::Http,
        };
        Some(Self {
            is_local: false,
            spoken,
            port,
        })
    }
}

/// What a listener does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Http,
    Https(Termination),
    /// TLS is ended, and what is inside goes to a backend as it is.
    Ended(Termination),
    Passthrough,
    /// Nobody is there under this name, whoever has a wider one.
    Closed,
    Stream,
}

/// A listener: its hosts are at most one pattern.
pub(super) type Place = (Door, HostPattern);

/// What there is to listen to.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) kinds: BTreeMap<Place, Kind>,
    /// What clients of a port must show.
    pub(super) clients: BTreeMap<Door, Arc<CaBundle>>,
    /// The object that each is in: 0 is the Gateway, the others are ListenerSets.
    holders: BTreeMap<Place, usize>,
}

impl Listeners {
    pub(super) fn add(&mut self, place: Place, kind: Kind) {
        self.kinds.insert(place, kind);
    }

    /// The listeners of a port.
    fn at(&self, door: Door) -> impl Iterator<Item = (&Place, &Kind)> {
        self.kinds
            .iter()
            .filter(move |((other, _), _)| *other == door)
    }

    /// Whether some HTTPS listener of the port has one of the hosts.
    pub(super) fn has_https(&self, door: Door, hosts: &[HostPattern]) -> bool {
        let mut listeners = self.at(door);
        listeners.any(|((_, host), kind)| {
            matches!(kind, Kind::Https(_)) && self.takes(door, host, hosts)
        })
    }

    /// Whether a listener has one of the hosts that is not wholly a narrower one's.
    fn takes(&self, door: Door, listener: &HostPattern, hosts: &[HostPattern]) -> bool {
        let every = [HostPattern::Any];
        let hosts = if hosts.is_empty() { &every } else { hosts };
        hosts.iter().map(wide).any(|host| {
            let common = if covers(listener, &host) {
                &host
            } else if covers(&host, listener) {
                listener
            } else {
                return false;
            };
            let mut others = self.at(door).map(|((_, other), _)| other);
            !others
                .any(|other| other != listener && covers(listener, other) && covers(other, common))
        })
    }

    /// Whether some listener of the port has all of a host and more.
    pub(super) fn is_covered(&self, door: Door, host: &HostPattern) -> bool {
        let mut listeners = self.at(door);
        listeners.any(|((_, other), _)| other != host && covers(other, host))
    }

    /// Gives every listener its object, now that all are known.
    pub(super) fn settle(&mut self) {
        for is_local in [false, true] {
            let places = self.kinds.keys().filter(|(it, _)| it.is_local == is_local);
            let places = places.cloned().enumerate();
            let places = places.map(|(at, place)| (place, at / MOST_LISTENERS));
            self.holders.extend(places);
        }
    }

    fn holder(&self, place: &Place) -> usize {
        self.holders.get(place).copied().unwrap_or_default()
    }

    /// A listener as a route's parent.
    pub(super) fn section(&self, place: &Place) -> Value {
        let mut reference = holder(place.0.is_local, self.holder(place));
        reference["sectionName"] = name(place, self.kinds.get(place)).into();
        reference
    }

    /// The parents of a route for HTTP. All of one Gateway are named in the same way (schema).
    pub(super) fn parents(&self, doors: &[Door], hosts: &[HostPattern]) -> Vec<Value> {
        let has_tls = doors.iter().any(|door| door.spoken == Spoken::Tls);
        if !has_tls {
            let places = doors.iter().map(|door| (*door, HostPattern::Any));
            return places.map(|place| self.section(&place)).collect();
        }
        let mut parents = BTreeSet::new();
        for door in doors {
            let fits = |kind: &Kind| matches!(kind, Kind::Http | Kind::Https(_));
            let listeners = self.at(*door);
            let fitting =
                listeners.filter(|((_, host), kind)| fits(kind) && self.takes(*door, host, hosts));
            let holders = fitting.map(|(place, _)| self.holder(place));
            parents.extend(holders.map(|number| (door.is_local, door.port, number)));
        }
        let parents = parents.into_iter().map(|(is_local, port, number)| {
            let mut reference = holder(is_local, number);
            reference["port"] = port.into();
            reference
        });
        parents.collect()
    }
}

/// As Gateway API has the host: an asterisk is any number of labels.
pub(super) fn wide(host: &HostPattern) -> HostPattern {
    match host {
        HostPattern::Label(suffix) => HostPattern::Suffix(Arc::clone(suffix)),
        other => other.clone(),
    }
}

pub(super) fn gateway_name(is_local: bool) -> &'static str {
    if is_local { LOCAL_GATEWAY } else { GATEWAY }
}

pub(super) fn set_name(is_local: bool, number: usize) -> String {
    format!("{}-{number:02}", gateway_name(is_local))
}

fn holder(is_local: bool, number: usize) -> Value {
    match number {
        0 => json!({"name": gateway_name(is_local), "namespace": NAMESPACE}),
        number => json!({
            "kind": "ListenerSet", "name": set_name(is_local, number), "namespace": NAMESPACE,
        }),
    }
}

/// A listener's name.
pub(super) fn name((door, host): &Place, kind: Option<&Kind>) -> String {
    let port = door.port;
    let prefix = match (door.spoken, kind) {
        (Spoken::Http, _) if port == 80 => return "http".to_owned(),
        (Spoken::Http, _) => "http",
        (Spoken::Tls, Some(Kind::Https(_))) => "https",
        (Spoken::Tls, _) => "tls",
        (Spoken::Tcp, _) => "tcp",
        (Spoken::Udp, _) => "udp",
    };
    limited(&match host {
        HostPattern::Any => format!("{prefix}-{port}"),
        HostPattern::Exact(host) => format!("{prefix}-{port}.{host}"),
        HostPattern::Suffix(host) | HostPattern::Label(host) => {
            format!("{prefix}-{port}-any.{host}")
        }
    })
}

impl Writer<'_> {
    /// The parents of a route; those that it has no room for are told.
    pub(super) fn parents(
        &mut self,
        origin: &Origin,
        doors: &[Door],
        hosts: &[HostPattern],
    ) -> Vec<Value> {
        let mut parents = self.listeners.parents(doors, hosts);
        if parents.len() > MOST_PARENTS {
            let text = format!(
                "a route attaches to {MOST_PARENTS} objects, and the hosts of this one are in {}: write a second one",
                parents.len()
            );
            self.note(origin, Verdict::Lost, "tls", &text);
            parents.truncate(MOST_PARENTS);
        }
        parents
    }
}
