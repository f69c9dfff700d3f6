//! Gateways, their ListenerSets, and what those need: authorities, leave to use Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::tls::{CaBundle, Termination, TlsVersion};
use routing::model::{HostPattern, Visibility};
use serde_json::{Value, json};

use super::door::{
    Door, Kind, MOST_LISTENERS, NAMESPACE, Place, Spoken, gateway_name, name, set_name,
};
use super::{Grant, VERSION, Writer, limited, secure};
use crate::gateway_api;
use crate::objects::Name;
use crate::shared::{authorities, crypto};

impl Writer<'_> {
    /// Lets routes of a namespace send to a Service, if that is in another one.
    pub(super) fn let_send(&mut self, from: &Arc<str>, from_kind: &'static str, service: &Name) {
        if service.namespace != *from {
            self.grants.insert(Grant {
                from: Arc::clone(from),
                from_kind,
                to_kind: "Service",
                to: service.clone(),
            });
        }
    }

    /// Gateways, their ListenerSets, and the authorities of clients.
    pub(super) fn gateways(&mut self, class: &str) -> Vec<Value> {
        let mut objects = Vec::new();
        for is_local in [false, true] {
            let places = self.listeners.kinds.iter();
            let own = places.filter(|((it, _), _)| it.is_local == is_local);
            let mut written = Vec::new();
            let mut secrets = BTreeSet::new();
            for (at, (place, kind)) in own.enumerate() {
                let holder = at / MOST_LISTENERS;
                written.push(listener(place, kind));
                secrets.extend(secure::secrets(kind).into_iter().map(|it| (it, holder > 0)));
            }
            if written.is_empty() && is_local {
                continue;
            }
            if written.is_empty() {
                // The API wants one.
                let door = Door::shared(Visibility::External, Spoken::Http);
                written.push(listener(&(door, HostPattern::Any), &Kind::Http));
            }
            self.grants.extend(secrets.into_iter().filter_map(leave));
            objects.extend(self.gateway(is_local, class, &written));
        }
        objects
    }

    /// One with these listeners.
    fn gateway(&self, is_local: bool, class: &str, listeners: &[Value]) -> Vec<Value> {
        let clients = self.listeners.clients.iter();
        let clients = clients.filter(|(door, _)| door.is_local == is_local);
        let mut objects: Vec<_> = clients
            .clone()
            .map(|(door, bundle)| client_authorities(*door, bundle))
            .collect();
        let ports: Vec<_> = clients.map(|(door, _)| validation(*door)).collect();
        let mut chunks = listeners.chunks(MOST_LISTENERS);
        let first = chunks.next().unwrap_or_default();
        let mut gateway = gateway(is_local, class, first);
        if !ports.is_empty() {
            gateway["spec"]["tls"] = json!({"frontend": {"default": {}, "perPort": ports}});
        }
        if listeners.len() > MOST_LISTENERS {
            gateway["spec"]["allowedListeners"] = json!({"namespaces": {"from": "Same"}});
        }
        objects.push(gateway);
        let sets = (1..).zip(chunks);
        objects.extend(sets.map(|(number, chunk)| set(is_local, number, chunk)));
        objects
    }
}

/// For a listener of a Gateway, or of a set of one, to show a certificate of another namespace.
fn leave((secret, is_set): (Name, bool)) -> Option<Grant> {
    let from_kind = if is_set { "ListenerSet" } else { "Gateway" };
    let grant = Grant {
        from: NAMESPACE.into(),
        from_kind,
        to_kind: "Secret",
        to: secret,
    };
    (&*grant.to.namespace != NAMESPACE).then_some(grant)
}

fn listener(place: &Place, kind: &Kind) -> Value {
    let (door, host) = place;
    let protocol = match (door.spoken, kind) {
        (Spoken::Http, _) => "HTTP",
        (Spoken::Tls, Kind::Https(_)) => "HTTPS",
        (Spoken::Tls, _) => "TLS",
        (Spoken::Tcp, _) => "TCP",
        (Spoken::Udp, _) => "UDP",
    };
    let mut written = json!({
        "name": name(place, Some(kind)), "protocol": protocol, "port": door.port,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    });
    if *host != HostPattern::Any {
        written["hostname"] = host.to_string().into();
    }
    match kind {
        Kind::Http | Kind::Stream => {}
        Kind::Https(termination) | Kind::Ended(termination) => {
            written["tls"] = ended(termination);
        }
        Kind::Passthrough => written["tls"] = json!({"mode": "Passthrough"}),
        Kind::Closed => {
            written["tls"] = json!({"mode": "Passthrough"});
            written["allowedRoutes"] = json!({"namespaces": {"from": "Same"}});
        }
    }
    written
}

fn ended(termination: &Termination) -> Value {
    let references = secure::names(termination).into_iter();
    let references = references.map(|it| json!({"name": it.name, "namespace": it.namespace}));
    let mut tls = json!({"mode": "Terminate", "certificateRefs": references.collect::<Vec<_>>()});
    let versions = termination.versions;
    let said = [
        (gateway_api::MIN_VERSION, versions.min, TlsVersion::V1_2),
        (gateway_api::MAX_VERSION, versions.max, TlsVersion::V1_3),
    ];
    for (key, version, usual) in said {
        if version != usual {
            tls["options"][key] = gateway_api::version_text(version).into();
        }
    }
    let crypto = &termination.crypto;
    let said = [
        (gateway_api::SUITES, crypto::suites_text(&crypto.suites)),
        (gateway_api::CURVES, crypto::curves_text(&crypto.curves)),
    ];
    for (key, text) in said {
        if !text.is_empty() {
            tls["options"][key] = text.into();
        }
    }
    tls
}

fn authorities_name(door: Door) -> String {
    format!("{}-clients-{}", gateway_name(door.is_local), door.port)
}

/// The authorities that clients of a port are verified by: no secret.
fn client_authorities(door: Door, bundle: &CaBundle) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": authorities_name(door), "namespace": NAMESPACE},
        "data": {"ca.crt": authorities::pem(bundle)},
    })
}

fn validation(door: Door) -> Value {
    let reference = json!({"group": "", "kind": "ConfigMap", "name": authorities_name(door)});
    json!({
        "port": door.port,
        "tls": {"validation": {"mode": "AllowValidOnly", "caCertificateRefs": [reference]}},
    })
}

fn gateway(is_local: bool, class: &str, listeners: &[Value]) -> Value {
    let mut metadata = json!({"name": gateway_name(is_local), "namespace": NAMESPACE});
    if is_local {
        metadata["labels"] = json!({api::names::label::VISIBILITY: "cluster-local"});
    }
    json!({
        "apiVersion": VERSION,
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {"gatewayClassName": class, "listeners": listeners},
    })
}

fn set(is_local: bool, number: usize, listeners: &[Value]) -> Value {
    json!({
        "apiVersion": VERSION,
        "kind": "ListenerSet",
        "metadata": {"name": set_name(is_local, number), "namespace": NAMESPACE},
        "spec": {"parentRef": {"name": gateway_name(is_local)}, "listeners": listeners},
    })
}

pub(super) fn gateway_class(class: &str) -> Value {
    json!({
        "apiVersion": VERSION,
        "kind": "GatewayClass",
        "metadata": {"name": class},
        "spec": {"controllerName": api::gateway::CONTROLLER},
    })
}

/// Lets objects of a namespace name one of another: one for all kinds that do.
pub(super) fn grants(all: &BTreeSet<Grant>) -> Vec<Value> {
    let mut by_name: BTreeMap<_, Vec<&'static str>> = BTreeMap::new();
    for grant in all {
        let key = (&grant.from, grant.to_kind, &grant.to);
        by_name.entry(key).or_default().push(grant.from_kind);
    }
    let grants = by_name.into_iter().map(|((from, kind, to), kinds)| {
        let prefix = if kind == "Service" { "" } else { "secret-" };
        let name = limited(&format!("{prefix}{}-from-{from}", to.name));
        let from = kinds
            .into_iter()
            .map(|kind| json!({"group": api::gateway::GROUP, "kind": kind, "namespace": from}));
        json!({
            "apiVersion": VERSION,
            "kind": "ReferenceGrant",
            "metadata": {"name": name, "namespace": to.namespace},
            "spec": {
                "from": from.collect::<Vec<_>>(),
                "to": [{"group": "", "kind": kind, "name": to.name}],
            },
        })
    });
    grants.collect()
}
