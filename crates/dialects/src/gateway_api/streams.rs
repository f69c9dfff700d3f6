//! What all kinds of routes have in common that pass bytes on as they are.
//!
//! One record per listener and address. Of several routes at one listener the oldest has
//! everything, then the first by `namespace/name`; all of them are accepted and counted, and the
//! next takes over when it goes away. A backend that cannot be used takes its share of the
//! connections and closes them.

use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::StreamRule;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::BindId;
use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{Action, Arm, Origin, SortKey, Split, Stream, StreamId, Visibility};

use super::attach::{self, Applicant, Hosts};
use super::backends::{Resolver, Wanted};
use super::plan::{Finding, TlsMode};
use super::{ParentOutcome, RouteTranslation, rules};
use crate::objects::{Objects, Reader};
use crate::shared::stream;

/// A route of any of these kinds.
pub(super) struct Route<'r> {
    pub(super) applicant: Applicant<'r>,
    pub(super) metadata: &'r ObjectMeta,
    pub(super) rules: &'r [StreamRule],
}

/// What a listener has for a route at one bind.
pub(super) struct Spot {
    /// Never empty.
    pub(super) hosts: Hosts,
    /// `None` where there is no TLS.
    pub(super) tls: Option<TlsMode>,
}

/// Translates a route against the Gateways that it names.
pub(super) fn translate(route: &Route<'_>, objects: &Objects) -> RouteTranslation {
    let reader = Reader::new(objects);
    let places = attach::attach(&route.applicant, &reader);
    let mut out = RouteTranslation::default();
    if !places.parents.is_empty() {
        let mut resolver = Resolver::new(&reader, &route.applicant, false);
        let mut notes = Vec::new();
        let split = split(route, &mut resolver, &mut notes);
        for ((bind, listener), spot) in &places.spots {
            record(route, (bind, listener), spot, split.as_ref(), &mut out);
        }
        let unresolved = resolver.finding();
        let partial = partial(route, &notes);
        let outcome = |attached: &attach::Attached| ParentOutcome {
            parent: attached.parent.clone(),
            controller: Arc::clone(&attached.controller),
            refused: attached.refused.clone(),
            unresolved: unresolved.clone(),
            partial: partial.clone().filter(|_| attached.refused.is_none()),
        };
        out.parents = places.parents.iter().map(outcome).collect();
        let governed = resolver.governed().iter();
        out.governed = governed
            .flat_map(|service| {
                let gateways = places.gateways.iter();
                gateways.map(move |gateway| (service.clone(), gateway.clone()))
            })
            .collect();
        out.backends = resolver.into_backends();
        out.attached = places.listeners;
        out.attached_sets = places.sets;
    }
    out.reads = reader.into_read();
    out
}

/// Where everything goes; `None` if it goes nowhere.
fn split(
    route: &Route<'_>,
    resolver: &mut Resolver<'_, '_>,
    notes: &mut Vec<String>,
) -> Option<Split> {
    let rule = route.rules.first()?;
    let wanted = rule.backend_refs.iter().map(|backend| Wanted {
        group: &backend.group,
        kind: &backend.kind,
        namespace: backend.namespace.as_deref(),
        name: &backend.name,
        port: backend.port,
        weight: backend.weight,
        filters: &[],
    });
    let wanted: Vec<_> = wanted.collect();
    match resolver.split(&wanted, None, "spec.rules[0]") {
        Ok(Action::Forward(split)) => guarded(split, notes),
        Ok(_) | Err(_) => None,
    }
}

/// Policies for requests cannot be asked here. A backend behind rules about who may call it is
/// closed: this must not be a way around them.
fn guarded(split: Split, notes: &mut Vec<String>) -> Option<Split> {
    let arms = split.arms().iter().map(|arm| {
        let mut arm: Arm = arm.clone();
        let Some(guards) = arm.filters.guards.take() else {
            return arm;
        };
        if stream::protects(&guards) {
            notes.push(format!(
                "connections to {} are closed: policies say who may call it, and are for HTTP only",
                arm.backend
            ));
            stream::close(&mut arm);
        } else {
            notes.push(format!(
                "policies for {} are for HTTP only and are not in force here",
                arm.backend
            ));
        }
        arm
    });
    Split::new(arms.collect())
}

fn record(
    route: &Route<'_>,
    (bind, listener): (&BindId, &Arc<str>),
    spot: &Spot,
    split: Option<&Split>,
    out: &mut RouteTranslation,
) {
    let applicant = &route.applicant;
    let id: Arc<str> = format!(
        "{} {} {bind} {listener}",
        applicant.kind.name(),
        applicant.name
    )
    .into();
    let created = route.metadata.creation_timestamp.as_ref();
    let created = created.map_or(i64::MAX, |time| time.0.as_second());
    let origin = Origin {
        dialect: "gateway-api",
        kind: applicant.kind.name().into(),
        namespace: Arc::clone(&applicant.name.namespace),
        name: Arc::clone(&applicant.name.name),
        uid: route.metadata.uid.as_deref().unwrap_or_default().into(),
        generation: route.metadata.generation.unwrap_or_default(),
        field: "spec.rules[0]".into(),
    };
    let Some(tls) = &spot.tls else {
        let stream = Stream {
            origin,
            bind: bind.clone(),
            sort_key: SortKey(vec![created]),
            split: split.cloned(),
            but_for: Default::default(),
        };
        out.streams.push((StreamId(id), Arc::new(stream)));
        return;
    };
    let action = match (tls, split) {
        (_, None) => TlsAction::Refuse,
        (TlsMode::Passthrough, Some(split)) => TlsAction::Passthrough(split.clone()),
        (TlsMode::Terminate(termination), Some(split)) => {
            TlsAction::Relay(termination.clone(), split.clone())
        }
    };
    for (wider, names) in rules::by_nearness(&spot.hosts) {
        let host = TlsHost {
            origin: origin.clone(),
            bind: Some(bind.clone()),
            visibility: Visibility::External,
            names: names.into_iter().collect(),
            // Of the routes of one name the one with the narrowest hostname has it.
            sort_key: SortKey(vec![wider, created]),
            action: action.clone(),
        };
        let id = match wider {
            0 => TlsId(Arc::clone(&id)),
            wider => TlsId(format!("{id} +{wider}").into()),
        };
        out.tls.push((id, Arc::new(host)));
    }
}

/// What is served otherwise than written.
fn partial(route: &Route<'_>, notes: &[String]) -> Option<Finding> {
    if route.rules.len() > 1 {
        let text = "Dropped Rule: spec.rules[1] and what follows it: the first rule has everything";
        return Some(Finding::new(reason::UNSUPPORTED_VALUE, text));
    }
    let note = notes.first()?;
    Some(Finding::new(
        reason::UNSUPPORTED_VALUE,
        format!("Fall Back: {note}"),
    ))
}
