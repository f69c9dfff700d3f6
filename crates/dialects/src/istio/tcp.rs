//! `tcp` of a VirtualService: connections of ports that are neither HTTP nor TLS for backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{SortKey, Split, Stream, StreamId};

use super::destination::Finder;
use super::place::{Carries, Place};
use super::reach::Reach;
use super::{conditions, place, sni};
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
        let listeners = place::listeners(places.iter().copied());
        let mut finder = Finder::new(reader, &object.name.namespace, listeners);
        finder.is_stream = true;
        let split = sni::split(rule, &finder);
        let written = rule.objects("match");
        let mut matches: Vec<_> = written.iter().map(|one| Reach::read(one, object)).collect();
        if written.is_empty() {
            matches.push(Reach::everything());
        }
        let Some(split) = split else { continue };
        backends.extend(finder.backends.take());
        for (number, reach) in matches.iter().enumerate() {
            for place in places.iter().filter(|place| reach.has(place)) {
                record(object, place, (at, number), &split, out);
            }
        }
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
    let origin = object.origin(&field);
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
                but_for: Default::default(),
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
