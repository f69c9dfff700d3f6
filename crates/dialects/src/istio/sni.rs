//! `tls` of a VirtualService: connections passed on as they are, by the name that clients ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{Arm, HostPattern, SortKey, Split};

use super::destination::Finder;
use super::place::Place;
use super::reach::Reach;
use super::{conditions, names, place};
use crate::backend::BackendRef;
use crate::fields::Fields;
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::Reader;
use crate::shared::stream;

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
    let places: Vec<_> = places
        .iter()
        .filter(|place| place.is_passthrough())
        .collect();
    let rules = spec.objects("tls");
    if !rules.is_empty() && places.is_empty() && spec.has("hosts") {
        let message = "no server with tls.mode PASSTHROUGH has a host of this object; connections \
                       between services are not routed by name";
        spec.refuse("tls", "NoPassthrough", message);
    }
    for (at, rule) in rules.iter().enumerate() {
        let listeners = place::listeners(places.iter().copied());
        let mut finder = Finder::new(reader, &object.name.namespace, listeners);
        finder.is_passthrough = true;
        let split = split(rule, &finder);
        let matches: Vec<_> = rule
            .objects("match")
            .iter()
            .map(|one| names_of(one, object))
            .collect();
        if matches.is_empty() {
            rule.refuse("match", "MatchMissing", "write match with sniHosts");
        }
        let Some(split) = split else { continue };
        backends.extend(finder.backends.take());
        for (number, wanted) in matches.iter().enumerate() {
            for place in places.iter().filter(|place| wanted.reach.has(place)) {
                let key = (at, number);
                out.tls.extend(record(object, place, wanted, key, &split));
            }
        }
    }
}

/// One match.
struct Wanted {
    names: Vec<HostPattern>,
    reach: Reach,
}

fn names_of(fields: &Fields<'_>, object: &Object) -> Wanted {
    let hosts = fields.strings("sniHosts").into_iter();
    let names: Vec<_> = hosts
        .filter_map(|host| names::pattern(&host.to_ascii_lowercase()))
        .collect();
    if names.is_empty() {
        fields.refuse(
            "sniHosts",
            "HostsMissing",
            "write the names that clients ask for",
        );
    }
    let reach = Reach::read(fields, object);
    Wanted { names, reach }
}

/// Where a rule's connections go.
pub(super) fn split(rule: &Fields<'_>, finder: &Finder<'_, '_>) -> Option<Split> {
    let routes = rule.objects("route");
    let alone = routes.len() == 1;
    let mut arms = Vec::new();
    for route in &routes {
        let weight = route.number::<u32>("weight").unwrap_or(0);
        let Some(destination) = route.object("destination") else {
            route.refuse(
                "destination",
                "DestinationMissing",
                "write a destination with a host",
            );
            continue;
        };
        if let Ok(found) = finder.find(&destination) {
            let mut arm = Arm::new(if alone { 1 } else { weight }, found.id());
            if found.guards.as_deref().is_some_and(stream::protects) {
                let message = "policies say who may call this destination, and are for HTTP only: \
                               its connections are closed";
                route.refuse("destination", "PolicyForHttp", message);
                stream::close(&mut arm);
            }
            arms.push(arm);
        }
    }
    if routes.is_empty() {
        rule.refuse("route", "RouteMissing", "write route with a destination");
    }
    Split::new(arms)
}

fn record(
    object: &Object,
    place: &Place,
    wanted: &Wanted,
    (at, number): (usize, usize),
    split: &Split,
) -> Option<(TlsId, Arc<TlsHost>)> {
    let shared: BTreeSet<_> = wanted
        .names
        .iter()
        .flat_map(|name| {
            place
                .hosts
                .iter()
                .filter_map(|host| names::intersection(name, host))
        })
        .collect();
    if shared.is_empty() {
        return None;
    }
    let field = format!("spec.tls[{at}].match[{number}]");
    let mut sort_key = conditions::order(object);
    sort_key.extend([at as i64, number as i64]);
    let host = TlsHost {
        origin: object.origin(&field),
        bind: place.bind_id(),
        visibility: place.visibility,
        names: shared.into_iter().collect(),
        sort_key: SortKey(sort_key),
        action: TlsAction::Passthrough(split.clone()),
    };
    let id = format!("istio/VirtualService/{}/{}/{field}", object.name, place.id);
    Some((TlsId(id.into()), Arc::new(host)))
}
