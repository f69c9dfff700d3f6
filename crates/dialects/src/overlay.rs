//! Policies that users attach to hosts and Services, whatever dialect the routes are of.
//!
//! A DestinationRule, an AuthorizationPolicy or an ASM policy names a host, a Service or the
//! gateway, never a route. So every dialect's translator asks here: about the hosts of a route,
//! and about the Service behind each of its arms. Where there is no such object at all, that is
//! one look and one remembered dependency.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names::label;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{
    Action, Arm, ExternalAuthorization, Filters, Guards, HostPattern, Route, Split,
};

use crate::asm;
use crate::backend::BackendRef;
use crate::foreign::{BackendSpec, Kind, Translation};
use crate::gateway_api;
use crate::istio::custom::{self, Custom};
use crate::istio::security::{self, Target};
use crate::istio::{self, destination_rule, telemetry};
use crate::objects::{Name, Objects, Reader};
use crate::traffic_policy;

/// Kinds whose objects say something about routes of other dialects.
const KINDS: [&Kind; 15] = [
    &istio::DESTINATION_RULE,
    &istio::AUTHORIZATION_POLICY,
    &istio::REQUEST_AUTHENTICATION,
    &istio::TELEMETRY,
    &asm::LOCAL_RATE_LIMITER,
    &asm::GLOBAL_RATE_LIMITER,
    &asm::CIRCUIT_BREAKER,
    &asm::QUOTA_SCHEDULING,
    &asm::CONCURRENCY_LIMITING,
    &asm::CONCURRENCY_SCHEDULING,
    &asm::AVERAGE_LATENCY,
    &asm::RATE_LIMITING,
    &asm::ADAPTIVE_CONCURRENCY,
    &asm::LOAD_RAMPING,
    &traffic_policy::TRAFFIC_POLICY,
];

/// Whether objects of this kind say something about routes of other dialects.
pub(crate) fn is_overlay(kind: &Kind) -> bool {
    KINDS.contains(&kind)
}

/// All of those kinds.
pub(crate) fn kinds() -> &'static [&'static Kind] {
    &KINDS
}

/// What is asked of every request for some hosts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    guards: Guards,
    telemetry: telemetry::AtGateway,
}

/// What is asked of requests for these hosts that come in at the gateway: by the policies for the
/// hosts, for the gateway, and for those of `gateways` that serve them.
pub(crate) fn of_hosts<'h>(
    reader: &Reader<'_>,
    hosts: impl IntoIterator<Item = &'h HostPattern>,
    gateways: &[Name],
) -> Policies {
    let target = Target::Gateway {
        gateways,
        port: None,
    };
    of_target(reader, hosts, &target, &mut |_| None)
}

/// Puts the backend of who is asked for authorization to those of a translation; `None` if nobody
/// can be asked.
pub(crate) type Ask<'a> = &'a mut dyn FnMut(&Custom) -> Option<ExternalAuthorization>;

/// What one provider decides is asked of it; what others would is denied, as in Istio.
fn asked(guards: &mut Guards, found: security::Asked, ask: Ask<'_>) {
    let security::Asked {
        mut authorization,
        tokens,
        custom: all,
    } = found;
    for one in &all {
        if guards.external.is_none()
            && let Some(external) = ask(one)
        {
            guards.external = Some(Arc::new(external));
            continue;
        }
        let denial = custom::denial(one);
        authorization = Some(match authorization {
            Some(own) => security::both(own, &denial),
            None => denial,
        });
    }
    guards.authorization = authorization.map(Arc::new);
    guards.tokens = tokens.map(Arc::new);
}

/// The same for one target.
pub(crate) fn of_target<'h>(
    reader: &Reader<'_>,
    hosts: impl IntoIterator<Item = &'h HostPattern>,
    target: &Target<'_>,
    ask: Ask<'_>,
) -> Policies {
    if !reader.has_overlays() {
        return Policies::default();
    }
    let hosts: Vec<_> = hosts.into_iter().map(ToString::to_string).collect();
    let mut guards = asm::guards(reader, &hosts, None);
    asked(&mut guards, security::find(reader, target), ask);
    Policies {
        guards,
        telemetry: telemetry::at(reader, target),
    }
}

impl Policies {
    /// Puts them on a route. What all of its arms ask alike is asked by the route: before one of
    /// them is drawn. What one arm asks alone stays with it, in force for its share.
    pub(crate) fn apply(&self, route: &mut Route, reader: &Reader<'_>) {
        hoist(route);
        self.telemetry
            .apply(route, reader, |service| labels(reader, service));
        if !self.guards.is_empty() {
            merge(guards_of(&mut route.filters), &self.guards);
        }
    }
}

/// The guards of a route or of an arm, to be changed.
pub(crate) fn guards_of(filters: &mut Filters) -> &mut Guards {
    Arc::make_mut(filters.guards.get_or_insert_default())
}

fn hoist(route: &mut Route) {
    let (Action::Forward(split) | Action::ForwardSecure(split)) = &mut route.action else {
        return;
    };
    let mut drawn = split.arms().iter().filter(|arm| arm.weight > 0);
    let Some(guards) = drawn.next().and_then(|arm| arm.filters.guards.clone()) else {
        return;
    };
    // Two services cannot be asked one after the other.
    if guards.external.is_some() || !drawn.all(|arm| arm.filters.guards.as_ref() == Some(&guards)) {
        return;
    }
    let arms = split.arms().iter().map(|arm| {
        let mut arm: Arm = arm.clone();
        arm.filters.guards = None;
        arm
    });
    if let Some(without) = Split::new(arms.collect()) {
        *split = without;
        merge(guards_of(&mut route.filters), &guards);
    }
}

/// Adds what `other` asks; both must let a request pass.
pub(crate) fn merge(into: &mut Guards, other: &Guards) {
    if into.external.is_none() {
        into.external.clone_from(&other.external);
    }
    if into.fault.is_none() {
        into.fault.clone_from(&other.fault);
    }
    into.authorization = match (into.authorization.take(), &other.authorization) {
        (None, other) => other.clone(),
        (own, None) => own,
        (Some(own), Some(other)) => Some(Arc::new(security::both((*own).clone(), other))),
    };
    if let Some(tokens) = &other.tokens {
        let own = Arc::make_mut(into.tokens.get_or_insert_with(|| Arc::clone(tokens)));
        for provider in &tokens.providers {
            if !own.providers.contains(provider) {
                own.providers.push(provider.clone());
            }
        }
        own.required |= tokens.required;
    }
    for ramp in &other.ramps {
        if into.ramps.iter().all(|own| own.id != ramp.id) {
            into.ramps.push(Arc::clone(ramp));
        }
    }
    for limit in &other.rate_limits {
        if into.rate_limits.iter().all(|own| own.id != limit.id) {
            into.rate_limits.push(Arc::clone(limit));
        }
    }
    for service in &other.limit_services {
        if !into.limit_services.contains(service) {
            into.limit_services.push(Arc::clone(service));
        }
    }
    for breaker in &other.breakers {
        if into.breakers.iter().all(|own| own.id != breaker.id) {
            into.breakers.push(Arc::clone(breaker));
        }
    }
    if into.concurrency.is_none() {
        into.concurrency.clone_from(&other.concurrency);
    }
    into.max_body = match (into.max_body, other.max_body) {
        (Some(own), Some(other)) => Some(own.min(other)),
        (own, other) => own.or(other),
    };
    into.no_upgrade |= other.no_upgrade;
    for limit in &other.flights {
        if into.flights.iter().all(|own| own.id != limit.id) {
            into.flights.push(Arc::clone(limit));
        }
    }
    for quota in &other.quotas {
        if into.quotas.iter().all(|own| own.id != quota.id) {
            into.quotas.push(Arc::clone(quota));
        }
    }
}

/// The hosts that a Service is known by. One of a revision is also its private Service.
pub(crate) fn names(reader: &Reader<'_>, service: &Name) -> Vec<String> {
    let mut names = vec![istio::of_service(service)];
    if let Some(service_object) = reader.service(service)
        && revision(service_object).is_some()
    {
        let private = Name::new(&service.namespace, &format!("{}-private", service.name));
        names.push(istio::of_service(&private));
    }
    names
}

fn revision(service: &k8s_openapi::api::core::v1::Service) -> Option<&String> {
    service.metadata.labels.as_ref()?.get(label::REVISION)
}

/// What is asked of requests for a Service's port, whatever route they come by.
pub(crate) fn by_service(
    reader: &Reader<'_>,
    name: &Name,
    port: u16,
    ask: Ask<'_>,
) -> Option<Arc<Guards>> {
    if !reader.has_overlays() {
        return None;
    }
    let ports = ports(reader, name, port);
    let mut guards = asm::guards(reader, &names(reader, name), Some(&ports));
    let labels = labels(reader, name);
    let target = Target::Workload {
        service: name,
        labels: &labels,
        ports: &ports,
    };
    asked(&mut guards, security::find(reader, &target), ask);
    guards.concurrency = asm::concurrency::of_service(reader, name, |key, value| {
        labels.get(key).is_some_and(|own| own == value)
    });
    if let Some(own) = traffic_policy::guards_of_service(reader, name) {
        merge(&mut guards, &own);
    }
    (!guards.is_empty()).then(|| Arc::new(guards))
}

/// Puts on the routes of a translation what is said of their hosts and of the Services that they send
/// to, for dialects whose translators do not ask.
pub(crate) fn join(out: &mut Translation, objects: &Objects) {
    let reader = Reader::new(objects);
    if reader.has_overlays() {
        let backends = out.backends.iter();
        let services = backends.filter(|(_, spec)| spec.hosts.is_empty());
        let services: BTreeMap<_, _> = services.map(|(it, _)| (it.id(), it.clone())).collect();
        for (_, route) in &mut out.routes {
            let route = Arc::make_mut(route);
            if let Action::Forward(split) | Action::ForwardSecure(split) = &mut route.action {
                let arms = split.arms().iter().cloned().map(|mut arm| {
                    let service = services.get(&arm.backend);
                    let asked = service
                        .and_then(|it| by_service(&reader, &it.service, it.port, &mut |_| None));
                    if let Some(asked) = asked {
                        merge(guards_of(&mut arm.filters), &asked);
                    }
                    arm
                });
                if let Some(joined) = Split::new(arms.collect()) {
                    *split = joined;
                }
            }
            of_hosts(&reader, &route.hosts, &[]).apply(route, &reader);
        }
    }
    out.reads.extend(reader.into_read());
}

/// The same for a host outside of the cluster.
pub(crate) fn by_host_of_backend(reader: &Reader<'_>, host: &str) -> Option<Arc<Guards>> {
    if !reader.has_overlays() {
        return None;
    }
    let guards = asm::guards(reader, &[host.to_owned()], None);
    (!guards.is_empty()).then(|| Arc::new(guards))
}

/// For the translators of other dialects: what is asked of requests for a backend. A reference
/// about which a DestinationRule says something becomes a variant of its own.
pub(crate) fn at_backend(reader: &Reader<'_>, reference: &mut BackendRef) -> Option<Arc<Guards>> {
    if !reader.has_overlays() {
        return None;
    }
    if let Some((variant, _)) = rule(reader, reference) {
        reference.variant = Some(variant);
    }
    by_service(reader, &reference.service, reference.port, &mut |_| None)
}

/// How a backend of another dialect differs from what its Service says.
pub(crate) fn spec(reader: &Reader<'_>, reference: &BackendRef) -> Option<BackendSpec> {
    reference.variant.as_ref()?;
    if gateway_api::is_xbackend(reference) {
        return gateway_api::spec(reader, reference, None);
    }
    let own = rule(reader, reference).map(|(_, spec)| spec);
    gateway_api::spec(reader, reference, own)
}

/// What DestinationRules and TrafficPolicies say about the endpoints of a Service's port, over what
/// a dialect takes for a backend about which nobody says anything. Its objects' own words come over
/// that: a dialect reads them into what this returns.
pub(crate) fn endpoints(
    reader: &Reader<'_>,
    service: &Name,
    port: u16,
    usual: BackendSpec,
) -> BackendSpec {
    if !reader.has_overlays() {
        return usual;
    }
    match said_over(reader, (service, port), &usual) {
        Some((_, spec)) => spec,
        None => usual,
    }
}

fn rule(reader: &Reader<'_>, reference: &BackendRef) -> Option<(Arc<str>, BackendSpec)> {
    let port = (&reference.service, reference.port);
    said_over(reader, port, &BackendSpec::default())
}

/// With the names of the objects that say it; `None` if none says anything.
fn said_over(
    reader: &Reader<'_>,
    (service, port): (&Name, u16),
    usual: &BackendSpec,
) -> Option<(Arc<str>, BackendSpec)> {
    let hosts = names(reader, service);
    let own = &service.namespace;
    let rules = destination_rule::find(reader, own, own, &hosts);
    let found = destination_rule::spec(reader, &rules, (&hosts[0], port), None, usual);
    let (rule, mut spec) = found.unwrap_or_else(|_| (None, usual.clone()));
    let name = with_policy(reader, service, usual, (rule, &mut spec))?;
    Some((name, spec))
}

/// Puts what a TrafficPolicy says about a Service's endpoints over what DestinationRules say, whose
/// names come first in what is returned.
pub(crate) fn with_policy(
    reader: &Reader<'_>,
    service: &Name,
    usual: &BackendSpec,
    (rule, spec): (Option<Arc<str>>, &mut BackendSpec),
) -> Option<Arc<str>> {
    let policy = traffic_policy::apply_to_backend(reader, service, usual, spec);
    match (rule, policy) {
        (Some(rule), Some(policy)) => Some(format!("{rule}&{policy}").into()),
        (rule, policy) => rule.or_else(|| policy.map(Into::into)),
    }
}

/// The Service's own port and the one of its pods.
fn ports(reader: &Reader<'_>, name: &Name, port: u16) -> Vec<u16> {
    let mut ports = vec![port];
    let spec = reader
        .service(name)
        .and_then(|service| service.spec.as_ref());
    let all = spec
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let own = all.iter().find(|own| own.port == i32::from(port));
    if let Some(IntOrString::Int(target)) = own.and_then(|own| own.target_port.as_ref()) {
        ports.extend(u16::try_from(*target).ok());
    }
    ports
}

/// The labels that the pods of a Service have: those that it selects, and those of its revision.
fn labels(reader: &Reader<'_>, name: &Name) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(service) = reader.service(name) else {
        return labels;
    };
    let spec = service.spec.as_ref();
    labels.extend(
        spec.and_then(|spec| spec.selector.clone())
            .unwrap_or_default(),
    );
    if let Some(revision) = revision(service) {
        let object = reader.revision(&Name::new(&name.namespace, revision));
        let own = object.map(|object| object.labels.clone());
        labels.extend(own.unwrap_or_default());
        labels.insert("app".to_owned(), revision.clone());
    }
    labels
}
