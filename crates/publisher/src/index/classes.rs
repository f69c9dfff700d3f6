//! Ingresses that are served by objects of another gateway's kinds.
//!
//! Objects that were made for an Ingress come in like a user's, but are served as one set: what is
//! served changes only when the API has everything that the newest complete generation wants, and
//! then in a single step. Until then the set before is served, or the Ingress itself if its class
//! was another. What the API has and the set does not want is deleted after that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::gateway::v1::{Gateway, HttpRoute};
use dialects::classes::{self, Class};
use dialects::foreign::Object;
use dialects::gateway_api::RouteKind;
use dialects::knative::Translation;
use dialects::{Diagnostic, Effect, Name, foreign};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::model::tls::{TlsAction, TlsHost};
use serde_json::Value;
use tokio::time::Instant;

use super::gateway_api::{RouteKey, Written};
use super::{Consumer, ForeignKey, Index};

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Identity of an object that may be made for an Ingress.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum MadeKey {
    Gateway(Name),
    Route(Name),
    Foreign(ForeignKey),
}

/// Such an object as the API has it.
#[derive(Clone, Debug)]
pub(crate) enum Made {
    Gateway(Arc<Gateway>),
    Route(Arc<HttpRoute>),
    Foreign(Arc<Object>),
}

/// What the index knows of them.
#[derive(Default)]
pub(super) struct Classes {
    sets: HashMap<Name, Set>,
    /// Whom an object that the API has was made for.
    makers: HashMap<MadeKey, Name>,
    /// Ingresses whose objects must be written or deleted.
    due: BTreeSet<Name>,
}

/// The objects of one Ingress.
#[derive(Default)]
struct Set {
    /// As the newest complete generation wants them.
    wanted: BTreeMap<MadeKey, Value>,
    shared: Vec<Value>,
    /// As the API has them.
    seen: BTreeMap<MadeKey, Made>,
    served: BTreeSet<MadeKey>,
    /// What stands in the way.
    diagnostics: Vec<Diagnostic>,
}

/// What is to be written for an Ingress.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Writes {
    /// Created if they are not there.
    pub(crate) create: Vec<Value>,
    pub(crate) apply: Vec<Value>,
    /// With their uids.
    pub(crate) delete: Vec<(MadeKey, String)>,
}

impl MadeKey {
    /// Of an object as it is written.
    fn of(object: &Value) -> Option<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let name = Name::new(text("/metadata/namespace")?, text("/metadata/name")?);
        let group = text("/apiVersion")?.split('/').next()?;
        match (group, text("/kind")?) {
            (GATEWAY_GROUP, "Gateway") => Some(Self::Gateway(name)),
            (GATEWAY_GROUP, "HTTPRoute") => Some(Self::Route(name)),
            (group, kind) => {
                let mut kinds = foreign::kinds().iter();
                let kind = kinds.find(|it| it.group == group && it.kind == kind)?;
                Some(Self::Foreign(ForeignKey { kind, name }))
            }
        }
    }

    fn name(&self) -> &Name {
        match self {
            Self::Gateway(name) | Self::Route(name) => name,
            Self::Foreign(key) => &key.name,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "Gateway",
            Self::Route(_) => "HTTPRoute",
            Self::Foreign(key) => key.kind.kind,
        }
    }
}

impl Made {
    fn maker(&self) -> Option<Name> {
        match self {
            Self::Gateway(gateway) => classes::maker_of(&gateway.metadata),
            Self::Route(route) => classes::maker_of(&route.metadata),
            Self::Foreign(object) => object.maker.clone(),
        }
    }

    fn uid(&self) -> String {
        match self {
            Self::Gateway(gateway) => gateway.metadata.uid.clone().unwrap_or_default(),
            Self::Route(route) => route.metadata.uid.clone().unwrap_or_default(),
            Self::Foreign(object) => object.uid.to_string(),
        }
    }

    /// Whether it is what is wanted.
    fn is(&self, wanted: &Value) -> bool {
        let has_metadata = |metadata: &ObjectMeta| {
            holds(&wanted["metadata"]["labels"], metadata.labels.as_ref())
                && holds(
                    &wanted["metadata"]["annotations"],
                    metadata.annotations.as_ref(),
                )
        };
        match self {
            Self::Gateway(gateway) => {
                // Read as the API's own, so that what is not said is the same.
                serde_json::from_value::<Gateway>(wanted.clone())
                    .is_ok_and(|wanted| wanted.spec == gateway.spec)
                    && has_metadata(&gateway.metadata)
            }
            Self::Route(route) => {
                serde_json::from_value::<HttpRoute>(wanted.clone())
                    .is_ok_and(|wanted| wanted.spec == route.spec)
                    && has_metadata(&route.metadata)
            }
            Self::Foreign(object) => {
                *object.spec() == wanted["spec"]
                    && holds(&wanted["metadata"]["labels"], Some(&object.labels))
                    && holds(
                        &wanted["metadata"]["annotations"],
                        Some(&object.annotations),
                    )
            }
        }
    }
}

/// Whether every wanted pair is there.
fn holds(wanted: &Value, there: Option<&BTreeMap<String, String>>) -> bool {
    let wanted = wanted.as_object().into_iter().flatten();
    let mut wanted = wanted.map(|(key, value)| (key, value.as_str()));
    wanted.all(|(key, value)| there.and_then(|map| map.get(key)).map(String::as_str) == value)
}

impl Index {
    /// Takes in a state of an object, if it was made for an Ingress. What is not is for the caller.
    pub(super) fn stage(&mut self, key: &MadeKey, state: Option<Made>) -> bool {
        let before = self.classes.makers.get(key).cloned();
        let maker = state.as_ref().and_then(Made::maker);
        if let Some(before) = before.filter(|before| maker.as_ref() != Some(before)) {
            self.classes.makers.remove(key);
            if let Some(set) = self.classes.sets.get_mut(&before) {
                set.seen.remove(key);
                if set.seen.is_empty() && set.wanted.is_empty() && set.served.is_empty() {
                    self.classes.sets.remove(&before);
                }
            }
            self.dirty.insert(Consumer::Ingress(before));
            if maker.is_none() && state.is_none() {
                return true;
            }
        }
        let (Some(maker), Some(made)) = (maker, state) else {
            return false;
        };
        self.classes.makers.insert(key.clone(), maker.clone());
        let was_whole = self.classes.is_whole(&maker);
        let set = self.classes.sets.entry(maker.clone()).or_default();
        set.seen.insert(key.clone(), made);
        let is_served = set.served.contains(key);
        if is_served && was_whole && self.classes.is_whole(&maker) {
            // It says what it said: its status changed perhaps, and nothing waits for it.
            return false;
        }
        self.dirty.insert(Consumer::Ingress(maker));
        true
    }

    /// Serves an Ingress that is of another class by its objects, as soon as they are there.
    pub(super) fn translate_by_class(
        &mut self,
        name: &Name,
        class: Class,
        translation: Translation,
        now: Instant,
    ) {
        let Some(held) = self.ingresses.get_mut(name) else {
            return;
        };
        let ingress = Arc::clone(&held.ingress);
        let generated = classes::generate(class, &ingress, &translation, &self.objects);
        held.diagnostics.extend(generated.diagnostics);
        let objects = generated.objects.into_iter();
        let wanted = objects.filter_map(|object| Some((MadeKey::of(&object)?, object)));
        let wanted: BTreeMap<_, _> = wanted.collect();
        let taken = wanted.keys().filter(|key| self.is_users(name, key));
        let taken = taken.map(|key| {
            let message = format!(
                "{} {} exists and was not made for this Ingress; delete or rename it",
                key.kind(),
                key.name()
            );
            Diagnostic {
                effect: Effect::Conflict,
                field: "metadata.name".to_owned(),
                reason: "NotOwned",
                message,
            }
        });
        let taken: Vec<_> = taken.collect();
        let set = self.classes.sets.entry(name.clone()).or_default();
        set.wanted = wanted;
        set.shared = generated.shared;
        set.diagnostics = taken;
        self.classes.due.insert(name.clone());
        if !self.classes.is_whole(name) {
            return;
        }
        let own = Translation {
            routes: Vec::new(),
            backends: BTreeSet::new(),
            tls: translation
                .tls
                .into_iter()
                .filter(|(_, host)| is_local(host))
                .collect(),
            ..translation
        };
        self.serve_set(name, now);
        self.go_live(name, own, now);
    }

    /// An Ingress that is served by itself, or not at all, has no objects.
    pub(super) fn drop_set(&mut self, name: &Name, now: Instant) {
        let Some(set) = self.classes.sets.get_mut(name) else {
            return;
        };
        set.wanted.clear();
        set.shared.clear();
        set.diagnostics.clear();
        let is_empty = set.seen.is_empty();
        self.serve_set(name, now);
        if is_empty {
            self.classes.sets.remove(name);
        } else {
            self.classes.due.insert(name.clone());
        }
    }

    /// Makes what is wanted what is served.
    fn serve_set(&mut self, name: &Name, now: Instant) {
        let Some(set) = self.classes.sets.get_mut(name) else {
            return;
        };
        let served: BTreeSet<MadeKey> = set.wanted.keys().cloned().collect();
        let before = std::mem::replace(&mut set.served, served.clone());
        let seen = served.iter().map(|key| (key.clone(), set.seen.get(key)));
        let seen: Vec<_> = seen.map(|(key, made)| (key, made.cloned())).collect();
        for (key, made) in seen {
            self.put_made(key, made, now);
        }
        for gone in before.difference(&served) {
            self.put_made(gone.clone(), None, now);
        }
    }

    fn put_made(&mut self, key: MadeKey, made: Option<Made>, now: Instant) {
        match (key, made) {
            (MadeKey::Gateway(name), made) => {
                let gateway = made.and_then(|made| match made {
                    Made::Gateway(gateway) => Some(gateway),
                    Made::Route(_) | Made::Foreign(_) => None,
                });
                self.put_gateway(name, gateway, now);
            }
            (MadeKey::Route(name), made) => {
                let kind = RouteKind::Http;
                let route = made.and_then(|made| match made {
                    Made::Route(route) => Some(Written::Http(route)),
                    Made::Gateway(_) | Made::Foreign(_) => None,
                });
                self.put_route(RouteKey { kind, name }, route, now);
            }
            (MadeKey::Foreign(key), made) => {
                let object = made.and_then(|made| match made {
                    Made::Foreign(object) => Some(object),
                    Made::Gateway(_) | Made::Route(_) => None,
                });
                self.put_foreign(key, object, now);
            }
        }
    }

    /// Whether somebody else's object has this name.
    fn is_users(&self, name: &Name, key: &MadeKey) -> bool {
        let set = self.classes.sets.get(name);
        let is_own = set.is_some_and(|set| set.served.contains(key) || set.seen.contains_key(key));
        self.is_there(key) && !is_own
    }

    /// Whether such an object is served or told about.
    fn is_there(&self, key: &MadeKey) -> bool {
        match key {
            MadeKey::Gateway(name) => self.gateway_api.has_gateway(name),
            MadeKey::Route(name) => self.gateway_api.has_route(name),
            MadeKey::Foreign(key) => self.foreign.has(key),
        }
    }

    /// What keeps the objects of an Ingress from being served as they say.
    pub(super) fn problems_of(&self, name: &Name) -> Vec<Diagnostic> {
        let Some(set) = self.classes.sets.get(name) else {
            return Vec::new();
        };
        let mut all = set.diagnostics.clone();
        for key in &set.served {
            let title = format!("{} {}", key.kind(), key.name().name);
            let told = match key {
                MadeKey::Foreign(key) => self.foreign.told(key),
                MadeKey::Route(name) => self.gateway_api.told(name),
                MadeKey::Gateway(_) => Vec::new(),
            };
            all.extend(told.into_iter().map(|one| Diagnostic {
                field: format!("{title}: {}", one.field),
                ..one
            }));
        }
        all
    }

    /// An object was translated: whoever it was made for may have something else to tell.
    pub(super) fn tell_maker(&mut self, key: &MadeKey) {
        if let Some(maker) = self.classes.makers.get(key) {
            self.due.insert(maker.clone());
        }
    }

    /// What is to be written now.
    pub(crate) fn take_writes(&mut self) -> Vec<(Name, Writes)> {
        let due = std::mem::take(&mut self.classes.due);
        due.into_iter()
            .map(|name| {
                let writes = self.writes(&name);
                (name, writes)
            })
            .collect()
    }

    fn writes(&self, name: &Name) -> Writes {
        let mut out = Writes::default();
        let Some(set) = self.classes.sets.get(name) else {
            return out;
        };
        for object in &set.shared {
            if MadeKey::of(object).is_some_and(|key| !self.is_there(&key)) {
                out.create.push(object.clone());
            }
        }
        for (key, wanted) in &set.wanted {
            let is_there = set.seen.get(key).is_some_and(|made| made.is(wanted));
            if !is_there && !self.is_users(name, key) {
                out.apply.push(wanted.clone());
            }
        }
        if out.apply.is_empty() {
            let left = set.seen.iter();
            let left = left.filter(|(key, _)| !set.wanted.contains_key(key));
            out.delete = left.map(|(key, made)| (key.clone(), made.uid())).collect();
        }
        out
    }
}

impl Classes {
    /// Whether the API has everything as it is wanted.
    fn is_whole(&self, name: &Name) -> bool {
        self.sets.get(name).is_some_and(|set| {
            let mut wanted = set.wanted.iter();
            wanted.all(|(key, wanted)| set.seen.get(key).is_some_and(|made| made.is(wanted)))
        })
    }
}

/// Whether the gateway's own authority makes the certificate, which no class's object can say.
fn is_local(host: &TlsHost) -> bool {
    match &host.action {
        TlsAction::Terminate(termination) => termination.certificates.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
