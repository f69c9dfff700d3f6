//! `tcp` of a VirtualService: connections of ports that are neither HTTP nor TLS for backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{SortKey, Split, Stream, StreamId};

use super::destination::Finder;
use super::place::{Carries, Place, gateway_name};
use super::{conditions, sni};
use crate::backend::BackendRef;
use crate::fields::Fields;
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::Reader;

/// Translates all rules.
pub(super) fn translate(
    object: &Object,
    spec: &Fields<'_>,
    places: &[Place],
    reader: &Reader<'_>,
    (out, backends): (
        &mut Translation,
        &mut BTreeMap<BackendRef, Arc<BackendSpec>>,
    ),
) {
    let is_fit = |place: &&Place| matches!(place.carries, Some(Carries::Tcp | Carries::Inside(_)));
    let places: Vec<_> = places.iter().filter(is_fit).collect();
    let rules = spec.objects("tcp");
    if !rules.is_empty() && places.is_empty() && spec.has("hosts") {
        let message = "no server for TCP, or for TLS that the gateway ends, has a host of this \
                       object; connections between services are not routed by rules";
        spec.refuse("tcp", "NoTcpServer", message);
    }
    for (at, rule) in rules.iter().enumerate() {
        let port = places.first().and_then(|place| place.port);
        let mut finder = Finder::new(reader, &object.name.namespace, port);
        finder.is_stream = true;
        let split = sni::split(rule, &finder);
        let written = rule.objects("match");
        let mut matches: Vec<_> = written
            .iter()
            .map(|one| Wanted::read(one, object))
            .collect();
        if written.is_empty() {
            matches.push(Wanted::everything());
        }
        let Some(split) = split else { continue };
        backends.extend(finder.backends.take());
        for (number, wanted) in matches.iter().enumerate() {
            for place in places.iter().filter(|place| wanted.is_for(place)) {
                record(object, place, (at, number), &split, out);
            }
        }
    }
}

/// One match.
struct Wanted {
    gateways: Option<Vec<String>>,
    port: Option<u16>,
    is_served: bool,
}

impl Wanted {
    fn everything() -> Self {
        Self {
            gateways: None,
            port: None,
            is_served: true,
        }
    }

    fn read(fields: &Fields<'_>, object: &Object) -> Self {
        let namespace = &object.name.namespace;
        let gateways = fields.has("gateways").then(|| {
            let names = fields.strings("gateways").into_iter();
            names.map(|name| gateway_name(name, namespace)).collect()
        });
        let mut is_served = true;
        for key in [
            "destinationSubnets",
            "sourceSubnet",
            "sourceLabels",
            "sourceNamespace",
        ] {
            is_served &= !fields.has(key);
            fields.unsupported(key, "the match is not served with it; remove it");
        }
        Self {
            gateways,
            port: fields.number("port"),
            is_served,
        }
    }

    fn is_for(&self, place: &Place) -> bool {
        let gateways = self.gateways.as_ref();
        self.is_served
            && gateways.is_none_or(|names| names.contains(&place.gateway))
            && self.port.is_none_or(|port| place.port == Some(port))
    }
}

fn record(
    object: &Object,
    place: &Place,
    (at, number): (usize, usize),
    split: &Split,
    out: &mut Translation,
) {
    let field = format!("spec.tcp[{at}].match[{number}]");
    let id = format!("istio/VirtualService/{}/{}/{field}", object.name, place.id);
    let origin = conditions::origin(object, &field);
    let mut sort_key = conditions::order(object);
    sort_key.extend([at as i64, number as i64]);
    let sort_key = SortKey(sort_key);
    match (&place.carries, place.bind_id()) {
        (Some(Carries::Tcp), Some(bind)) => {
            let stream = Stream {
                origin,
                bind,
                sort_key,
                split: Some(split.clone()),
            };
            out.streams.push((StreamId(id.into()), Arc::new(stream)));
        }
        (Some(Carries::Inside(Some(termination))), bind) => {
            let host = TlsHost {
                origin,
                bind,
                visibility: place.visibility,
                names: place.hosts.clone(),
                sort_key,
                action: TlsAction::Relay(termination.clone(), split.clone()),
            };
            out.tls.push((TlsId(id.into()), Arc::new(host)));
        }
        _ => {}
    }
}
