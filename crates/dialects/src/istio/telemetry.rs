//! `Telemetry`: what is told of requests, by the gateway and for the workloads behind it.
//!
//! Istio has two who tell of a request: the gateway, and the proxy of the workload. Here both are
//! one, so a request has the lines that either would write, each once, and one span. For the
//! gateway the objects of the root namespace and those that select it are in force, for a workload
//! those of the root namespace, of its own, and those that select it; of each scope the oldest.

mod logging;
mod metrics;
mod providers;
mod tracing;

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{Action, Arm, Route, Split, Telemetry};
use serde_json::Value;

use super::kinds::TELEMETRY;
use super::security::{self, Target};
use super::{ROOT_NAMESPACE, conditions, is_gateway_label, values};
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::objects::{Name, Reader};

/// Which of the two that tell of a request is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The gateway.
    Client,
    /// The workload.
    Server,
}

/// Whom an object is about, as far as the object itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Mesh,
    Gateway,
    Workloads,
}

impl Scope {
    fn of(object: &Object) -> Self {
        let spec = object.spec();
        let references = references(spec);
        let labels = values::pairs(&spec["selector"]["matchLabels"]);
        if !references.is_empty() {
            let is_gateway = |one: &&Value| one["kind"] == "Gateway";
            if references.iter().any(is_gateway) {
                return Self::Gateway;
            }
            return Self::Workloads;
        }
        let is_root = *object.name.namespace == *ROOT_NAMESPACE;
        match (labels.is_empty(), is_root) {
            (true, true) => Self::Mesh,
            (true, false) => Self::Workloads,
            (false, _) if values::selects(labels, is_gateway_label) => Self::Gateway,
            (false, _) => Self::Workloads,
        }
    }

    fn has(self, side: Side) -> bool {
        !matches!(
            (self, side),
            (Self::Gateway, Side::Server) | (Self::Workloads, Side::Client)
        )
    }
}

/// `match.mode`; `None` is both.
fn mode(fields: &Fields<'_>) -> Option<Side> {
    match fields.text("mode") {
        None | Some("CLIENT_AND_SERVER") => None,
        Some("CLIENT") => Some(Side::Client),
        Some("SERVER") => Some(Side::Server),
        Some(other) => {
            let message = format!("{other:?} is not CLIENT, SERVER or CLIENT_AND_SERVER");
            fields.refuse("mode", "ModeUnknown", message);
            None
        }
    }
}

/// Says that a mode is about nobody who tells of these requests.
fn judge_mode(fields: &Fields<'_>, found: Option<Side>, scope: Scope) {
    let Some(side) = found.filter(|side| !scope.has(*side)) else {
        return;
    };
    let message = match side {
        Side::Client => {
            "CLIENT is about requests that the workloads make, which no proxy of theirs sees: \
             write SERVER, or leave it out"
        }
        Side::Server => "a gateway is a client of its workloads: write CLIENT, or leave it out",
    };
    fields.refuse("mode", "ModeWithoutEffect", message);
}

/// Names of `providers`.
fn names<'v>(fields: &Fields<'v>) -> Vec<&'v str> {
    let all = fields.objects("providers");
    all.iter().filter_map(|one| one.text("name")).collect()
}

fn references(spec: &Value) -> Vec<&Value> {
    let list = spec["targetRefs"].as_array().into_iter().flatten();
    let single = Some(&spec["targetRef"]).filter(|one| one.is_object());
    list.chain(single).collect()
}

/// An object that was read.
struct Level<'o> {
    object: &'o Arc<Object>,
    scope: Scope,
}

/// What the gateway is told at a place, before it is known where a request goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtGateway {
    /// There is some object of the kind.
    is_any: bool,
    target: Vec<Arc<Object>>,
}

/// The objects in force for a target.
pub(crate) fn at(reader: &Reader<'_>, target: &Target<'_>) -> AtGateway {
    if !reader.any_foreign(&TELEMETRY) {
        return AtGateway::default();
    }
    let own = match target {
        Target::Gateway { gateways, .. } => {
            let mut namespaces: Vec<&str> = vec![ROOT_NAMESPACE];
            namespaces.extend(gateways.iter().map(|gateway| &*gateway.namespace));
            namespaces.sort_unstable();
            namespaces.dedup();
            let all = namespaces
                .into_iter()
                .flat_map(|namespace| reader.foreign_by_key(&TELEMETRY, namespace));
            oldest(all, |object| {
                is_specific(object) && security::selects(object, target)
            })
        }
        Target::Mesh | Target::Workload { .. } => None,
    };
    let root = oldest(reader.foreign_by_key(&TELEMETRY, ROOT_NAMESPACE), |one| {
        !is_specific(one)
    });
    AtGateway {
        is_any: true,
        target: root.into_iter().chain(own).cloned().collect(),
    }
}

/// Whether it has a selector or targets.
fn is_specific(object: &Object) -> bool {
    let spec = object.spec();
    !references(spec).is_empty() || !values::pairs(&spec["selector"]["matchLabels"]).is_empty()
}

fn oldest<'o>(
    all: impl Iterator<Item = &'o Arc<Object>>,
    is_meant: impl Fn(&Object) -> bool,
) -> Option<&'o Arc<Object>> {
    let mut found: Vec<_> = all.filter(|object| is_meant(object)).collect();
    conditions::oldest_first(&mut found);
    found.first().copied()
}

impl AtGateway {
    /// Puts it on a route. What all of its arms say alike is said by the route.
    pub(crate) fn apply(
        &self,
        route: &mut Route,
        reader: &Reader<'_>,
        labels: impl Fn(&Name) -> BTreeMap<String, String>,
    ) {
        if !self.is_any {
            return;
        }
        let own = self.told(reader, &[]);
        let (Action::Forward(split) | Action::ForwardSecure(split)) = &mut route.action else {
            route.filters.telemetry = own;
            return;
        };
        let mut known: BTreeMap<Name, Option<Arc<Telemetry>>> = BTreeMap::new();
        let arms = split.arms().iter().map(|arm| {
            let Some(service) = service(arm).filter(|name| reader.service(name).is_some()) else {
                return own.clone();
            };
            let told = known.entry(service).or_insert_with_key(|service| {
                let of_workload = workload(reader, service, &labels(service));
                self.told(reader, &of_workload)
            });
            told.clone()
        });
        let arms: Vec<_> = arms.collect();
        let first = arms.first().cloned().flatten();
        if arms.iter().all(|arm| *arm == first) {
            route.filters.telemetry = first;
            return;
        }
        let changed = split.arms().iter().zip(arms).map(|(arm, told)| {
            let mut arm: Arm = arm.clone();
            arm.filters.telemetry = told.filter(|told| Some(told) != own.as_ref());
            arm
        });
        if let Some(changed) = Split::new(changed.collect()) {
            *split = changed;
        }
        route.filters.telemetry = own;
    }

    /// What these objects and those for the workload come to.
    fn told(&self, reader: &Reader<'_>, workload: &[&Arc<Object>]) -> Option<Arc<Telemetry>> {
        let all = self.target.iter().chain(workload.iter().copied());
        let levels: Vec<_> = all
            .map(|object| Level {
                object,
                scope: Scope::of(object),
            })
            .collect();
        let told = Telemetry {
            services: Vec::new(),
            logs: logging::rules(reader, &levels),
            traces: tracing::rule(reader, &levels),
            without_counters: metrics::are_off(reader, &levels),
        };
        (told != Telemetry::default()).then(|| Arc::new(told))
    }
}

/// The Service that an arm sends to, by the name of its backend: `namespace/name:port`.
fn service(arm: &Arm) -> Option<Name> {
    let (name, _) = arm.backend.0.split_once(':')?;
    let (namespace, name) = name.split_once('/')?;
    Some(Name::new(namespace, name))
}

/// The objects for a workload alone: of its namespace, and the one that selects it.
fn workload<'o>(
    reader: &Reader<'o>,
    service: &Name,
    labels: &BTreeMap<String, String>,
) -> Vec<&'o Arc<Object>> {
    let all = || reader.foreign_by_key(&TELEMETRY, &service.namespace);
    let is_root = *service.namespace == *ROOT_NAMESPACE;
    let target = Target::Workload {
        service,
        labels,
        ports: &[],
    };
    let of_namespace = oldest(all(), |object| !is_root && !is_specific(object));
    let own = oldest(all(), |object| {
        is_specific(object) && security::selects(object, &target)
    });
    of_namespace.into_iter().chain(own).collect()
}

/// Reads each section of an object quietly: what is wrong with it stands in its own status.
fn entries<T>(
    level: &Level<'_>,
    key: &str,
    mut read: impl FnMut(&Fields<'_>, Scope) -> T,
) -> Vec<T> {
    let findings = Findings::default();
    let spec = Fields::new(level.object.spec(), "spec".to_owned(), &findings);
    let all = spec.objects(key);
    all.iter().map(|fields| read(fields, level.scope)).collect()
}

/// For the object's own status.
pub(super) fn judge(object: &Object, spec: &Fields<'_>, reader: &Reader<'_>) {
    let scope = Scope::of(object);
    for fields in spec.objects("accessLogging") {
        logging::read(&fields, scope, reader);
    }
    for fields in spec.objects("tracing") {
        tracing::read(&fields, scope, reader);
    }
    for fields in spec.objects("metrics") {
        metrics::read(&fields, scope, reader);
    }
    judge_scope(object, spec, reader);
}

/// Of each scope one object counts.
fn judge_scope(object: &Object, spec: &Fields<'_>, reader: &Reader<'_>) {
    let place = |object: &Object| {
        let spec = object.spec();
        let mut labels = values::pairs(&spec["selector"]["matchLabels"]);
        labels.sort_unstable();
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let references: Vec<_> = references(spec).into_iter().map(Value::to_string).collect();
        (labels, references)
    };
    let own = place(object);
    let all = || reader.foreign_by_key(&TELEMETRY, &object.name.namespace);
    let older = |one: Option<&Arc<Object>>| {
        let first = one.map(|one| one.name.clone());
        first.filter(|first| *first != object.name)
    };
    if let Some(first) = older(oldest(all(), |one| place(one) == own)) {
        let what = if is_specific(object) {
            "the same selector or targets"
        } else {
            "no selector"
        };
        let message = format!(
            "Telemetry {first} is older and has {what}: of each scope one object counts, so this \
             one changes nothing; join the two"
        );
        return spec.findings().refuse("ScopeTaken", "spec", message);
    }
    for reference in references(object.spec()) {
        let also = |one: &Object| references(one.spec()).into_iter().any(|it| it == reference);
        let Some(first) = older(oldest(all(), also)) else {
            continue;
        };
        let text = |key: &str| reference[key].as_str().unwrap_or_default();
        let message = format!(
            "Telemetry {first} is older and has {} {} among its targets: of each scope one object \
             counts, so this one changes nothing there; leave the target to one of the two",
            text("kind"),
            text("name"),
        );
        spec.findings()
            .refuse("ScopeTaken", "spec.targetRefs", message);
    }
}
