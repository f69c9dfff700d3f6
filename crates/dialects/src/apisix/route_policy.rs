//! HTTPRoutePolicy: conditions and a priority for rules of HTTPRoutes, and for Ingresses.
//!
//! All that name a rule hold for it. Two that name it with different priorities contradict each
//! other, and neither is in force there, as in APISIX. A rule with a condition that cannot be read
//! is not served: without it the rule would be for more than it says.

use std::sync::Arc;

use routing::model::{Match, Predicate};
use serde_json::{Value, json};

use super::{HTTP_ROUTE_POLICY, instance, vars};
use crate::fields::{Fields, Findings, quietly};
use crate::foreign::{Object, Translation};
use crate::gateway_api::RouteKind;
use crate::objects::{Name, Objects, Reader};

/// The highest priority that is told from lower ones, and the lowest.
const MOST: i64 = 1000;

/// What a policy may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    HttpRoute,
    Ingress,
}

impl Target {
    fn kind(self) -> &'static str {
        match self {
            Self::HttpRoute => "HTTPRoute",
            Self::Ingress => "Ingress",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::HttpRoute => api::gateway::GROUP,
            Self::Ingress => "networking.k8s.io",
        }
    }

    fn read(group: &str, kind: &str) -> Option<Self> {
        let mut known = [Self::HttpRoute, Self::Ingress].into_iter();
        known.find(|known| known.group() == group && known.kind() == kind)
    }

    fn key(self, name: &Name) -> String {
        format!("{} {name}", self.kind())
    }
}

/// What policies say of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Conditions {
    when: Vec<Predicate>,
    pub(crate) priority: i64,
}

impl Conditions {
    /// Matches that hold only if the conditions do, too.
    pub(crate) fn narrow(&self, matches: &mut Vec<Match>) {
        if self.when.is_empty() {
            return;
        }
        if matches.is_empty() {
            matches.push(Match::default());
        }
        for one in matches {
            one.other.extend(self.when.iter().cloned());
        }
    }
}

/// A target as a policy names it.
#[derive(Clone, Debug, PartialEq)]
struct Named {
    target: Target,
    name: Name,
    /// A rule; `None` is all.
    section: Option<String>,
}

impl Named {
    fn is_same(&self, other: &Self) -> bool {
        let is_one = (self.target, &self.name) == (other.target, &other.name);
        is_one && self.is_about(other.section.as_deref())
    }

    fn is_about(&self, section: Option<&str>) -> bool {
        match (self.section.as_deref(), section) {
            (None, _) | (_, None) => true,
            (Some(own), Some(other)) => own == other,
        }
    }
}

pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let named = quietly(object.spec(), |spec| targets(spec, object));
    let keys = named.iter().map(|one| one.target.key(&one.name).into());
    keys.collect()
}

fn targets(spec: &Fields<'_>, object: &Object) -> Vec<Named> {
    let mut named: Vec<Named> = Vec::new();
    for one in spec.objects("targetRefs") {
        let (group, kind) = (one.text("group"), one.text("kind"));
        let (group, kind) = (group.unwrap_or_default(), kind.unwrap_or_default());
        let Some(target) = Target::read(group, kind) else {
            one.pass_over();
            let message = format!(
                "{kind:?} of group {group:?} is no target: HTTPRoute of {} and Ingress of {} are",
                Target::HttpRoute.group(),
                Target::Ingress.group()
            );
            one.refuse("kind", "TargetNotSupported", message);
            continue;
        };
        let section = one.text("sectionName").map(str::to_owned);
        if target == Target::Ingress && section.is_some() {
            let message = "rules of an Ingress have no names: the policy holds for all of it";
            one.refuse("sectionName", "FieldDiffers", message);
        }
        let Some(name) = one.text("name") else {
            one.refuse("name", "TargetMissing", "the target has no name");
            continue;
        };
        named.push(Named {
            target,
            name: Name::new(&object.name.namespace, name),
            section: section.filter(|_| target == Target::HttpRoute),
        });
    }
    named
}

fn read(spec: &Fields<'_>) -> Result<Conditions, String> {
    let priority = spec.int("priority").unwrap_or_default();
    if !(-MOST..=MOST).contains(&priority) {
        let message = format!("priorities of -{MOST} to {MOST} are told from each other");
        spec.refuse("priority", "FieldDiffers", message);
    }
    let none = Value::Array(Vec::new());
    let when = vars::list(spec.raw("vars").unwrap_or(&none));
    if let Err(error) = &when {
        let message = format!("{error}: the rules that the policy is about are not served");
        spec.refuse("vars", "ExpressionNotSupported", message);
    }
    Ok(Conditions {
        when: when?,
        priority: priority.clamp(-MOST, MOST),
    })
}

/// The policy that contradicts one about a target.
fn rival<'a>(reader: &Reader<'a>, object: &Object, named: &Named) -> Option<&'a Arc<Object>> {
    let own = object.spec()["priority"].as_i64();
    let mut others = reader.foreign_by_key(&HTTP_ROUTE_POLICY, &named.target.key(&named.name));
    others.find(|other| {
        let theirs = quietly(other.spec(), |spec| targets(spec, other));
        other.name != object.name
            && other.spec()["priority"].as_i64() != own
            && theirs.iter().any(|other| other.is_same(named))
    })
}

/// What is said of a rule, or why it is not served.
pub(crate) fn of(
    reader: &Reader<'_>,
    (target, name): (Target, &Name),
    section: Option<&str>,
) -> Result<Conditions, String> {
    let mut all = Conditions::default();
    if !reader.any_foreign(&HTTP_ROUTE_POLICY) {
        return Ok(all);
    }
    let mut policies: Vec<_> = reader
        .foreign_by_key(&HTTP_ROUTE_POLICY, &target.key(name))
        .collect();
    policies.sort_by(|one, other| one.name.cmp(&other.name));
    for policy in policies {
        let named = quietly(policy.spec(), |spec| targets(spec, policy)).into_iter();
        let mut named = named.filter(|one| {
            let is_it = one.target == target && one.name == *name;
            // A rule without a name is meant by those only that mean all of them.
            is_it && (one.section.is_none() || one.section.as_deref() == section)
        });
        let Some(named) = named.next() else { continue };
        if rival(reader, policy, &named).is_some() {
            continue;
        }
        let said = quietly(policy.spec(), read)
            .map_err(|error| format!("HTTPRoutePolicy {}: {error}", policy.name))?;
        all.when.extend(said.when);
        all.priority = said.priority;
    }
    Ok(all)
}

/// A policy's own status: of each of its targets.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let (named, is_read) = {
        let body = Fields::new(&object.body, String::new(), &findings);
        body.ignore("spec");
        let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
        let named = targets(&spec, object);
        if named.is_empty() {
            let message = "name an HTTPRoute or an Ingress: the policy is in force nowhere";
            spec.refuse("targetRefs", "TargetMissing", message);
        }
        let is_read = read(&spec).is_ok();
        (named, is_read)
    };
    let diagnostics = findings.take();
    let told = instance::told(&diagnostics);
    let state = State {
        is_read,
        told: &told,
    };
    let ancestors = named
        .iter()
        .map(|one| ancestor(object, one, &reader, &state));
    Translation {
        status: Some(json!({"ancestors": ancestors.collect::<Vec<_>>()})),
        diagnostics,
        reads: reader.into_read(),
        ..Translation::default()
    }
}

/// What a policy says by itself.
struct State<'s> {
    /// What it says is in force.
    is_read: bool,
    /// What is wrong with it.
    told: &'s str,
}

fn ancestor(object: &Object, named: &Named, reader: &Reader<'_>, state: &State<'_>) -> Value {
    let Named { target, name, .. } = named;
    let is_there = match target {
        Target::HttpRoute => reader.has_route(RouteKind::Http, name),
        // Whoever serves it finds the policy.
        Target::Ingress => true,
    };
    let (status, reason, message) = if let Some(rival) = rival(reader, object, named) {
        let text = format!(
            "HTTPRoutePolicy {} names it with another priority: neither is in force there",
            rival.name
        );
        ("False", "Conflicted", text)
    } else if !is_there {
        let text = format!("{} {name} does not exist", target.kind());
        ("False", "TargetNotFound", text)
    } else if state.is_read {
        ("True", "Accepted", state.told.to_owned())
    } else {
        ("False", "Invalid", state.told.to_owned())
    };
    let mut ancestor = json!({
        "group": target.group(),
        "kind": target.kind(),
        "namespace": &*name.namespace,
        "name": &*name.name,
    });
    if let Some(section) = &named.section {
        ancestor["sectionName"] = section.as_str().into();
    }
    json!({
        "ancestorRef": ancestor,
        "controllerName": api::gateway::CONTROLLER,
        "conditions": [{
            "type": "Accepted",
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": object.generation,
        }],
    })
}
