//! `targetRefs` of options: objects of the Gateway API of their own namespace that they are about.
//!
//! Of several RouteOptions about a route the oldest comes first. VirtualHostOptions about a
//! ListenerSet come before those about its Gateway; of each, those about one listener before those
//! about all, and then the oldest. What comes later adds what nobody said before.

use std::sync::Arc;

use super::{ROUTE_OPTION, VIRTUAL_HOST_OPTION};
use crate::fields::{self, Fields};
use crate::foreign::{Kind, Object};
use crate::gateway_api::RouteKind;
use crate::objects::{Name, Reader};

/// What options may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetKind {
    HttpRoute,
    Gateway,
    ListenerSet,
}

impl TargetKind {
    fn name(self) -> &'static str {
        match self {
            Self::HttpRoute => "HTTPRoute",
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
        }
    }

    fn of(kind: &Kind) -> &'static [Self] {
        if *kind == ROUTE_OPTION {
            &[Self::HttpRoute]
        } else {
            &[Self::Gateway, Self::ListenerSet]
        }
    }

    fn key(self, name: &Name) -> String {
        format!("{} {name}", self.name())
    }
}

/// An object that options are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    kind: TargetKind,
    name: Name,
    /// A listener; `None` is all.
    section: Option<Arc<str>>,
}

/// A listener of a Gateway, or of a ListenerSet that is part of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listener {
    pub(crate) gateway: Name,
    pub(crate) set: Option<Name>,
    pub(crate) name: Arc<str>,
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let owner = self.set.as_ref().unwrap_or(&self.gateway);
        write!(f, "{owner} {}", self.name)
    }
}

/// By which translations find options.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let keys = quietly(object).into_iter();
    keys.map(|it| it.kind.key(&it.name).into()).collect()
}

fn quietly(object: &Object) -> Vec<Target> {
    fields::quietly(object.spec(), |spec| read(spec, object))
}

/// What options are about, and what they cannot be about.
pub(super) fn read(spec: &Fields<'_>, object: &Object) -> Vec<Target> {
    let own = &object.name.namespace;
    let mut targets = Vec::new();
    for one in spec.objects("targetRefs") {
        let (group, kind) = (one.text("group"), one.text("kind"));
        let (group, kind) = (group.unwrap_or_default(), kind.unwrap_or_default());
        let known = TargetKind::of(object.kind).iter();
        let mut known = known.filter(|known| group == api::gateway::GROUP && known.name() == kind);
        let Some(found) = known.next() else {
            one.pass_over();
            let kinds = TargetKind::of(object.kind).iter().map(|known| known.name());
            let kinds: Vec<_> = kinds.collect();
            let text = format!(
                "{kind:?} of group {group:?} is no target: {} of {} is",
                kinds.join(" or "),
                api::gateway::GROUP
            );
            one.refuse("kind", "TargetNotSupported", text);
            continue;
        };
        let namespace = one.unwrapped("namespace").and_then(|it| it.as_str());
        if namespace.is_some_and(|it| !it.is_empty() && *it != **own) {
            one.pass_over();
            let text = "options are for objects of their own namespace: write them there";
            one.refuse("namespace", "TargetNotSupported", text);
            continue;
        }
        let section = match found {
            // Its rules have filters for that.
            TargetKind::HttpRoute => {
                let remedy = "name the options in a filter ExtensionRef of the rule";
                one.unsupported("sectionName", remedy);
                None
            }
            _ => one.unwrapped("sectionName").and_then(|it| it.as_str()),
        };
        let Some(name) = one.text("name") else {
            one.refuse("name", "TargetMissing", "the target has no name");
            continue;
        };
        targets.push(Target {
            kind: *found,
            name: Name::new(own, name),
            section: section.filter(|it| !it.is_empty()).map(Arc::from),
        });
    }
    targets
}

fn by_age(mut found: Vec<&Arc<Object>>) -> Vec<&Arc<Object>> {
    found.sort_by_key(|one| (one.created, one.name.clone()));
    found
}

/// The RouteOptions about a route.
pub(super) fn of_route<'o>(reader: &Reader<'o>, route: &Name) -> Vec<&'o Arc<Object>> {
    if !reader.any_foreign(&ROUTE_OPTION) {
        return Vec::new();
    }
    let key = TargetKind::HttpRoute.key(route);
    by_age(reader.foreign_by_key(&ROUTE_OPTION, &key).collect())
}

/// The VirtualHostOptions about a listener.
pub(super) fn of_listener<'o>(reader: &Reader<'o>, listener: &Listener) -> Vec<&'o Arc<Object>> {
    if !reader.any_foreign(&VIRTUAL_HOST_OPTION) {
        return Vec::new();
    }
    let set = listener.set.as_ref();
    let set = set.map(|name| (TargetKind::ListenerSet, name));
    let gateway = (TargetKind::Gateway, &listener.gateway);
    // A listener of a set is none of its Gateway's, even if it is called so.
    let gateway_section = set.is_none().then_some(&listener.name);
    let owners = set.map(|set| (set, Some(&listener.name)));
    let owners = owners.into_iter().chain([(gateway, gateway_section)]);
    let mut found: Vec<&Arc<Object>> = Vec::new();
    for ((kind, name), section) in owners {
        for section in section.map(Some).into_iter().chain([None]) {
            let of_key = reader.foreign_by_key(&VIRTUAL_HOST_OPTION, &kind.key(name));
            let is_about = |object: &&Arc<Object>| {
                let target = Target {
                    kind,
                    name: name.clone(),
                    section: section.cloned(),
                };
                quietly(object).contains(&target)
            };
            for object in by_age(of_key.filter(is_about).collect()) {
                if found.iter().all(|known| known.name != object.name) {
                    found.push(object);
                }
            }
        }
    }
    found
}

/// Whether options are about a listener.
pub(crate) fn has_options(reader: &Reader<'_>, listener: &Listener) -> bool {
    !of_listener(reader, listener).is_empty()
}

/// Why options are not in force at a target.
pub(super) fn without_effect(
    target: &Target,
    object: &Object,
    reader: &Reader<'_>,
) -> Option<(&'static str, String)> {
    let Target {
        kind,
        name,
        section,
    } = target;
    let plan = match kind {
        TargetKind::HttpRoute if reader.has_route(RouteKind::Http, name) => None,
        TargetKind::HttpRoute => return Some(missing(target)),
        TargetKind::Gateway => Some(reader.plan(name)),
        TargetKind::ListenerSet => Some(reader.set_plan(name)),
    };
    if let Some(plan) = plan {
        let Some(plan) = plan else {
            return Some(missing(target));
        };
        let has = |section: &Arc<str>| plan.listeners.iter().any(|it| it.name == *section);
        if let Some(section) = section.as_ref().filter(|it| !has(it)) {
            let text = format!("{} {name} has no listener {section:?}", kind.name());
            return Some(("TargetMissing", text));
        }
    }
    let others = reader.foreign_by_key(object.kind, &kind.key(name));
    let others = by_age(
        others
            .filter(|other| quietly(other).contains(target))
            .collect(),
    );
    let before = others.iter().take_while(|other| other.name != object.name);
    let before: Vec<_> = before.collect();
    let own = object.spec()["options"].as_object()?;
    let is_said = |key: &String| {
        let mut before = before.iter();
        before.any(|other| !other.spec()["options"][key].is_null())
    };
    (!own.is_empty() && own.keys().all(is_said)).then(|| {
        let names: Vec<_> = before.iter().map(|it| it.name.to_string()).collect();
        let text = format!(
            "nothing of it is in force for {} {name}: older options say all of it, {}",
            kind.name(),
            names.join(", ")
        );
        ("OptionsOverridden", text)
    })
}

fn missing(target: &Target) -> (&'static str, String) {
    let or = match target.kind {
        TargetKind::HttpRoute => "",
        TargetKind::Gateway | TargetKind::ListenerSet => ", or is of a class that is not served",
    };
    let text = format!("{} {} does not exist{or}", target.kind.name(), target.name);
    ("TargetMissing", text)
}
