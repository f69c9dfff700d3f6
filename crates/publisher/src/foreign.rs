//! Watches of other gateways' kinds, and their objects as the watches told of them last.
//!
//! An object is parsed once and shared by the inbox, the index and the status writer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::names::annotation::LAST_APPLIED;
use dialects::Name;
use dialects::foreign::{Kind, Object};
use futures::FutureExt;
use kube::Client;
use kube::api::{ApiResource, DynamicObject};
use lifecycle::Tasks;
use reconcile::dynamic::{self, Told};
use serde_json::{Map, Value};

use crate::Synced;
use crate::inbox::Inbox;
use crate::index::ForeignKey;

/// As the API has it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) object: Arc<Object>,
    pub(crate) resource_version: Option<String>,
    /// The version that it was read in.
    pub(crate) resource: Arc<ApiResource>,
}

/// All objects of these kinds. Clone freely; clones are one.
#[derive(Clone, Default)]
pub(crate) struct Store {
    objects: Arc<Mutex<HashMap<ForeignKey, Stored>>>,
}

impl Store {
    pub(crate) fn get(&self, key: &ForeignKey) -> Option<Stored> {
        let objects = self.objects.lock();
        let objects = objects.unwrap_or_else(PoisonError::into_inner);
        objects.get(key).cloned()
    }

    /// Takes in a state of an object.
    pub(crate) fn put(&self, key: ForeignKey, stored: Option<Stored>) {
        let objects = self.objects.lock();
        let mut objects = objects.unwrap_or_else(PoisonError::into_inner);
        match stored {
            Some(stored) => drop(objects.insert(key, stored)),
            None => drop(objects.remove(&key)),
        }
    }
}

/// Puts every change of these kinds into the inbox.
pub(crate) fn follow(
    client: &Client,
    kinds: &[&'static Kind],
    inbox: &Arc<Inbox>,
    tasks: &Tasks,
) -> (Store, Vec<Synced>) {
    let store = Store::default();
    let one = |kind: &&'static Kind| follow_kind(client, kind, &store, inbox, tasks);
    let synced = kinds.iter().map(one).collect();
    (store, synced)
}

fn follow_kind(
    client: &Client,
    kind: &'static Kind,
    store: &Store,
    inbox: &Arc<Inbox>,
    tasks: &Tasks,
) -> Synced {
    let resources: Vec<_> = kind.versions.iter().map(|it| resource(kind, it)).collect();
    let by_version: HashMap<String, Arc<ApiResource>> = resources
        .iter()
        .map(|it| (it.api_version.clone(), Arc::new(it.clone())))
        .collect();
    let (store, inbox) = (store.clone(), Arc::clone(inbox));
    let tell = move |told: Told| {
        let (name, stored) = match told {
            Told::Applied(object) => {
                let types = object.types.as_ref();
                let resource = types.and_then(|types| by_version.get(&types.api_version));
                let Some(stored) = resource.and_then(|it| read(kind, *object, it)) else {
                    return;
                };
                (stored.object.name.clone(), Some(stored))
            }
            Told::Deleted(key) => (Name::new(&key.namespace, &key.name), None),
        };
        let key = ForeignKey { kind, name };
        let object = stored.as_ref().map(|stored| Arc::clone(&stored.object));
        store.put(key.clone(), stored);
        inbox.put(|pending| drop(pending.foreign.insert(key, object)));
    };
    dynamic::watch(client, resources, tell, tasks).shared()
}

pub(crate) fn resource(kind: &Kind, version: &str) -> ApiResource {
    ApiResource {
        group: kind.group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{}/{version}", kind.group),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    }
}

/// `None` for what has no name, which no server sends.
pub(crate) fn read(
    kind: &'static Kind,
    mut object: DynamicObject,
    resource: &Arc<ApiResource>,
) -> Option<Stored> {
    let written = written_in(kind, &object).map(str::to_owned);
    // Neither says anything to a translation, and the second is the whole object once more.
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let resource_version = object.metadata.resource_version.take();
    let mut json = Map::new();
    if let Value::Object(data) = object.data {
        json = data;
    }
    let metadata = serde_json::to_value(&object.metadata).ok()?;
    json.insert("metadata".to_owned(), metadata);
    let version = written.unwrap_or_else(|| resource.api_version.clone());
    json.insert("apiVersion".to_owned(), version.into());
    let object = Object::new(kind, Value::Object(json))?;
    Some(Stored {
        object: Arc::new(object),
        resource_version,
        resource: Arc::clone(resource),
    })
}

/// The `apiVersion` that the user wrote: a server answers in the one that it is asked for. Who
/// wrote last says it, and it is a hint only: kinds that are stored in one version lose it when
/// nobody keeps it.
fn written_in<'o>(kind: &Kind, object: &'o DynamicObject) -> Option<&'o str> {
    let entries = object.metadata.managed_fields.iter().flatten();
    let of_user = entries.filter(|entry| entry.subresource.as_deref().unwrap_or("").is_empty());
    let newest = of_user.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    let version = newest.api_version.as_deref()?;
    let (group, name) = version.split_once('/')?;
    (group == kind.group && kind.versions.contains(&name)).then_some(version)
}
