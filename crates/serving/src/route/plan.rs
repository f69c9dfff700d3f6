//! What one Route needs, decided without I/O.
//!
//! Traffic moves in this order: mark the revisions, write the split, wait until the gateway
//! serves it, and only then take the marks from the revisions before. So the old revision keeps
//! its pods until no request reaches it any more.

use std::time::Duration;

use api::condition::{READY, Truth, find};
use api::names::{CLUSTER_DOMAIN, annotation};
use api::networking::v1alpha1::{Certificate, Ingress};
use api::serving::v1::{Route, RouteStatus};
use k8s_openapi::api::core::v1::Service as KubernetesService;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::host::{self, Name};
use super::labeling::{self, Marks};
use super::rollout::{self, Rollout};
use super::status::{Draft, Urls};
use super::traffic::{self, Target};
use super::{Observed, resources};
use crate::certificate::{self, Kind, Ports, Secured, Wanted};
use crate::object::{
    self, Ownership, Write, covers, is_serving_key, merged_metadata, not_owned_message, ownership,
    same_metadata,
};
use crate::settings::Config;

/// Writes and status of one Route, in the order in which they are done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) marks: Marks,
    pub(super) placeholders: Vec<Write<KubernetesService>>,
    pub(super) certificates: Vec<Write<Certificate>>,
    pub(super) ingress: Option<Write<Ingress>>,
    /// Names of placeholders of tags that are gone.
    pub(super) stale: Vec<String>,
    /// Names of certificates of hosts that are gone.
    pub(super) stale_certificates: Vec<String>,
    pub(super) status: RouteStatus,
    /// When time alone moves traffic.
    pub(super) again: Option<Duration>,
}

/// What a plan is made with besides the objects.
pub(super) struct Given<'a> {
    pub(super) config: &'a Config,
    pub(super) ports: Ports,
    pub(super) now: &'a Time,
}

/// Decides.
pub(super) fn plan(route: &Route, observed: &Observed, given: &Given<'_>) -> Plan {
    let mut draft = Draft::new(route, given.now.clone());
    let mut plan = Plan {
        marks: Marks::default(),
        placeholders: Vec::new(),
        certificates: Vec::new(),
        ingress: None,
        stale: Vec::new(),
        stale_certificates: Vec::new(),
        status: RouteStatus::default(),
        again: None,
    };
    decide(route, observed, given, &mut draft, &mut plan);
    plan.status = draft.finish(route);
    plan
}

fn decide(
    route: &Route,
    observed: &Observed,
    given: &Given<'_>,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let config = given.config;
    let tags: Vec<&str> = route
        .spec
        .traffic
        .iter()
        .filter_map(|target| target.tag.as_deref().filter(|tag| !tag.is_empty()))
        .collect();
    let names = match host::names(route, &tags, observed, config) {
        Ok(names) => names,
        Err(why) => return draft.bad_configuration(&why),
    };
    let secured = secure(route, &names, observed, given, plan);
    let urls = Urls {
        secured: &secured,
        config,
        ports: given.ports,
    };
    if let Some(own) = names.first() {
        draft.located(own, &urls);
    }
    secured.mark(&mut draft.conditions);
    // Placeholders need no traffic: they are made while the first revision starts.
    let has_places = placeholders(route, &names, observed, given, draft, plan);
    let mut targets = match traffic::resolve(route, observed) {
        Ok(targets) => targets,
        Err(problem) => return draft.unassigned(&problem),
    };
    let rollout = roll_out(route, &targets, observed, given, plan);
    traffic::divide(&mut targets, &rollout, observed);
    draft.assigned(&targets, &names, &urls);
    if !has_places {
        return;
    }
    plan.stale = stale(route, &names, observed);
    plan.marks = labeling::before(route, &targets, observed, given.now);
    let served = Served {
        names: &names,
        targets: &targets,
        rollout: &rollout,
        secured: &secured,
    };
    ingress(route, &served, observed, given, draft, plan);
}

/// What the KIngress is made from.
struct Served<'a> {
    names: &'a [Name],
    targets: &'a [Target],
    rollout: &'a Rollout,
    secured: &'a Secured,
}

/// The certificates of the public hosts and of those of the cluster.
fn secure(
    route: &Route,
    names: &[Name],
    observed: &Observed,
    given: &Given<'_>,
    plan: &mut Plan,
) -> Secured {
    let domain = given.config.domain.of(route.labels());
    let wanted = |kind: Kind, name: &Name, hosts: Vec<String>, domain: &str| Wanted {
        kind,
        name: certificate_name(route, name.tag.as_deref(), kind),
        hosts,
        domain: Some(domain.to_owned()),
    };
    let public = names.iter().filter_map(|name| {
        let host = name.public.clone()?;
        Some(wanted(Kind::External, name, vec![host], domain))
    });
    let cluster = format!("svc.{CLUSTER_DOMAIN}");
    let local = names
        .iter()
        .map(|name| wanted(Kind::ClusterLocal, name, name.local_hosts(), &cluster));
    let wanted: Vec<Wanted> = public.chain(local).collect();
    let existing = |name: &str| observed.certificates.get(name).cloned();
    let mut secured = certificate::secure(route, &wanted, existing, given.config);
    let owned = observed.certificates.values();
    let owned: Vec<_> = owned
        .filter(|it| ownership(it.as_ref(), route) == Ownership::Ours)
        .cloned()
        .collect();
    plan.stale_certificates = certificate::stale(route, &owned, &wanted, given.config);
    plan.certificates = std::mem::take(&mut secured.writes);
    secured
}

/// Names that certificates of this Route have.
pub(super) fn certificate_names(route: &Route) -> impl Iterator<Item = String> {
    let targets = route.spec.traffic.iter();
    let tags = targets.filter_map(|target| target.tag.as_deref().filter(|tag| !tag.is_empty()));
    std::iter::once(None)
        .chain(tags.map(Some))
        .flat_map(|tag| [(tag, Kind::External), (tag, Kind::ClusterLocal)])
        .map(|(tag, kind)| certificate_name(route, tag, kind))
}

fn certificate_name(route: &Route, tag: Option<&str>, kind: Kind) -> String {
    let uid = route.uid().unwrap_or_default();
    let local = match kind {
        Kind::External => "",
        Kind::ClusterLocal => "-local",
    };
    match tag {
        None => format!("route-{uid}{local}"),
        Some(tag) => format!("route-{uid}-{}{local}", certificate::adler32(tag)),
    }
}

/// Where the rollout stands now; without a duration all traffic moves at once.
fn roll_out(
    route: &Route,
    targets: &[Target],
    observed: &Observed,
    given: &Given<'_>,
    plan: &mut Plan,
) -> Rollout {
    let goal = traffic::goal(targets);
    let duration = rollout_duration(route, given.config);
    if duration.is_zero() {
        return goal;
    }
    let ingress = observed.ingress.as_deref();
    let stored = ingress.and_then(|ingress| object::annotation(ingress, rollout::ANNOTATION));
    let mut previous = Rollout::read(stored);
    let now = i64::try_from(given.now.0.as_nanosecond()).unwrap_or(i64::MAX);
    if let Some(previous) = &mut previous
        && ingress.is_some_and(is_served)
    {
        previous.observe_ready(now, duration);
    }
    let (rollout, next) = rollout::step(goal, previous, now);
    let wait =
        next.map(|next| Duration::from_nanos(next.saturating_sub(now).max(0).unsigned_abs()));
    plan.again = wait.map(|wait| wait.max(Duration::from_millis(1)));
    rollout
}

/// How long a gradual rollout takes: the Route's annotation, else the cluster's setting.
pub(crate) fn rollout_duration(route: &Route, config: &Config) -> Duration {
    let asked = annotation::ROLLOUT_DURATIONS
        .iter()
        .find_map(|key| object::annotation(route, key));
    let asked = asked.and_then(|asked| api::duration::parse(asked).ok());
    asked.unwrap_or(config.network.rollout_duration)
}

/// Whether the gateway serves the newest generation.
fn is_served(ingress: &Ingress) -> bool {
    let Some(status) = &ingress.status else {
        return false;
    };
    let ready = find(&status.conditions, READY);
    ingress.metadata.generation == status.observed_generation
        && ready.is_some_and(|ready| ready.is(Truth::True))
}

/// Whether every name has, or is about to have, its placeholder.
fn placeholders(
    route: &Route,
    names: &[Name],
    observed: &Observed,
    given: &Given<'_>,
    draft: &mut Draft,
    plan: &mut Plan,
) -> bool {
    let class = resources::ingress_class(route, given.config);
    let gateway = match resources::gateway(observed.ingress.as_deref(), &class) {
        Ok(gateway) => gateway,
        Err(why) => {
            draft.ingress_failed("UnsupportedLoadBalancer", &why);
            return false;
        }
    };
    for name in names {
        let wanted = resources::placeholder(route, name, gateway.as_deref());
        let existing = observed.services.get(&name.name);
        match existing.map(|existing| ownership(existing.as_ref(), route)) {
            None => plan.placeholders.push(Write::Create(wanted)),
            Some(Ownership::Ours) => {
                let existing = existing.map(AsRef::as_ref);
                plan.placeholders
                    .extend(existing.and_then(|it| placeholder_write(it, wanted)));
            }
            Some(Ownership::Former) => {
                draft.ingress_out_of_date();
                return false;
            }
            Some(Ownership::Foreign) => {
                let message = not_owned_message("placeholder Service", &name.name);
                draft.ingress_failed("NotOwned", &message);
                return false;
            }
        }
    }
    true
}

/// Placeholders of tags that are gone.
fn stale(route: &Route, names: &[Name], observed: &Observed) -> Vec<String> {
    let is_stale = |name: &String, service: &KubernetesService| {
        !names.iter().any(|wanted| &wanted.name == name)
            && ownership(service, route) == Ownership::Ours
    };
    let services = observed.services.iter();
    let stale = services.filter(|(name, service)| is_stale(name, service));
    stale.map(|(name, _)| name.clone()).collect()
}

/// Keys that the Route does not have stay: the visibility label on a placeholder belongs to the
/// user.
fn placeholder_write(
    existing: &KubernetesService,
    wanted: KubernetesService,
) -> Option<Write<KubernetesService>> {
    let encode = |service: &KubernetesService| serde_json::to_value(&service.spec).ok();
    let metadata = merged_metadata(&existing.metadata, &wanted.metadata, |_| true);
    if covers(&encode(existing)?, &encode(&wanted)?) && metadata == existing.metadata {
        return None;
    }
    Some(Write::Replace(KubernetesService {
        metadata,
        spec: wanted.spec,
        ..existing.clone()
    }))
}

fn ingress(
    route: &Route,
    served: &Served<'_>,
    observed: &Observed,
    given: &Given<'_>,
    draft: &mut Draft,
    plan: &mut Plan,
) {
    let existing = observed.ingress.as_deref();
    match existing.map(|child| ownership(child, route)) {
        Some(Ownership::Foreign) => {
            let message = not_owned_message("Ingress", &route.name_any());
            return draft.ingress_failed("NotOwned", &message);
        }
        Some(Ownership::Former) => return draft.ingress_out_of_date(),
        Some(Ownership::Ours) | None => {}
    }
    let mut wanted = resources::ingress(
        route,
        served.names,
        served.targets,
        served.rollout,
        given.config,
    );
    wanted.spec.tls.clone_from(&served.secured.tls);
    plan.ingress = ingress_write(existing, wanted);
    let Some(existing) = existing else {
        return draft.ingress_out_of_date();
    };
    let keeps_spec = match &plan.ingress {
        Some(write) => write.object().spec == existing.spec,
        None => true,
    };
    let observed_generation = existing
        .status
        .as_ref()
        .and_then(|it| it.observed_generation);
    if !keeps_spec || existing.metadata.generation != observed_generation {
        return draft.ingress_out_of_date();
    }
    if !draft.follow_ingress(existing) {
        return;
    }
    if !served.rollout.is_done() {
        draft.rolling_out();
    }
    if plan.ingress.is_none() {
        let after = labeling::after(route, served.targets, observed, given.now);
        plan.marks.configurations.extend(after.configurations);
        plan.marks.revisions.extend(after.revisions);
    }
}

fn ingress_write(existing: Option<&Ingress>, wanted: Ingress) -> Option<Write<Ingress>> {
    let Some(existing) = existing else {
        return Some(Write::Create(wanted));
    };
    let metadata = merged_metadata(&existing.metadata, &wanted.metadata, is_serving_key);
    if existing.spec == wanted.spec && same_metadata(&metadata, &existing.metadata) {
        return None;
    }
    Some(Write::Replace(Ingress {
        metadata,
        spec: wanted.spec,
        status: existing.status.clone(),
    }))
}
