//! Metadata of parents and children: who owns whom, and how a child is brought to what its parent
//! wants.
//!
//! Children are compared before they are written, so a reconcile that changes nothing makes no
//! call. Keys that others put on a child (`foreign`) are left alone.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use reconcile::write::{self, Object};
use reconcile::{Error, Informer};
use serde::Serialize;
use serde_json::Value;

/// Labels or annotations.
pub(crate) type Strings = BTreeMap<String, String>;

/// A write that brings a child to what its parent wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write<K> {
    Create(K),
    /// The whole object with the `resourceVersion` that was read: a faster writer wins.
    Replace(K),
}

impl<K> Write<K> {
    /// The object as it will be.
    pub(crate) fn object(&self) -> &K {
        match self {
            Self::Create(object) | Self::Replace(object) => object,
        }
    }
}

/// A kind that is written and cached.
pub(crate) trait Cached: Object + Send + Sync + 'static {}

impl<K: Object + Send + Sync + 'static> Cached for K {}

/// Performs a write, and lets the cache know at once. An object that exists already is no error:
/// the cache is about to learn of it, and the next reconcile judges it.
async fn perform<K: Cached>(
    client: &kube::Client,
    cache: &Informer<K>,
    write: &Write<K>,
) -> Result<(), Error> {
    match write {
        Write::Create(object) => {
            if let Some(created) = write::create_if_absent(client, object).await? {
                cache.learn(created);
            }
        }
        Write::Replace(object) => {
            let namespace = object.namespace().unwrap_or_default();
            let params = kube::api::PostParams {
                dry_run: false,
                field_manager: Some(reconcile::MANAGER.to_owned()),
            };
            let api = write::api::<K>(client, &namespace);
            let name = object.name_any();
            cache.learn(api.replace(&name, &params, object).await?);
        }
    }
    Ok(())
}

/// [`perform`], if there is something to write.
pub(crate) async fn perform_some<K: Cached>(
    client: &kube::Client,
    cache: &Informer<K>,
    write: Option<&Write<K>>,
) -> Result<(), Error> {
    match write {
        Some(write) => perform(client, cache, write).await,
        None => Ok(()),
    }
}

/// Replaces the status if it differs, and lets the cache know at once.
pub(crate) async fn write_status<K: Cached, S: Serialize + PartialEq>(
    client: &kube::Client,
    cache: &Informer<K>,
    object: &K,
    stored: Option<&S>,
    next: &S,
) -> Result<(), Error> {
    if let Some(written) = write::replaced_status(client, object, stored, next).await? {
        cache.learn(written);
    }
    Ok(())
}

/// Whose child an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    Ours,
    /// An earlier parent of the same name owned it; garbage collection is on its way.
    Former,
    Foreign,
}

/// Judges an existing object that has the name of a child of `owner`.
pub(crate) fn ownership<O: Resource<DynamicType = ()>>(
    child: &impl Resource,
    owner: &O,
) -> Ownership {
    let Some(reference) = reconcile::controller_of::<O>(child) else {
        return Ownership::Foreign;
    };
    if Some(&reference.uid) == owner.meta().uid.as_ref() {
        return Ownership::Ours;
    }
    if reference.name == owner.name_any() {
        return Ownership::Former;
    }
    Ownership::Foreign
}

/// Knative's message for a child's name that is taken.
pub(crate) fn not_owned_message(kind: &str, name: &str) -> String {
    format!("There is an existing {kind} \"{name}\" that we do not own.")
}

/// Metadata of a new child in its parent's namespace.
pub(crate) fn child_metadata<O: Resource<DynamicType = ()>>(
    owner: &O,
    name: String,
    labels: Strings,
    annotations: Strings,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: owner.namespace(),
        labels: (!labels.is_empty()).then_some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![write::owner_reference(owner)]),
        ..ObjectMeta::default()
    }
}

/// The existing metadata with the labels and annotations that the parent wants. Other keys are
/// removed unless `foreign` says that someone else writes them.
pub(crate) fn merged_metadata(
    existing: &ObjectMeta,
    wanted: &ObjectMeta,
    foreign: fn(&str) -> bool,
) -> ObjectMeta {
    let merge = |existing: &Option<Strings>, wanted: &Option<Strings>| {
        let mut merged = wanted.clone().unwrap_or_default();
        for (key, value) in existing.iter().flatten() {
            if foreign(key) {
                merged.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        (!merged.is_empty()).then_some(merged)
    };
    ObjectMeta {
        labels: merge(&existing.labels, &wanted.labels),
        annotations: merge(&existing.annotations, &wanted.annotations),
        ..existing.clone()
    }
}

/// Whether two sets of metadata say the same; `None` and empty are alike.
pub(crate) fn same_metadata(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let same = |a: &Option<Strings>, b: &Option<Strings>| match (a, b) {
        (Some(a), Some(b)) => a == b,
        (None, Some(set)) | (Some(set), None) => set.is_empty(),
        (None, None) => true,
    };
    same(&a.labels, &b.labels) && same(&a.annotations, &b.annotations)
}

/// Whether `existing` says at least what `wanted` says. Fields that only the server filled in do
/// not count, so its defaults never look like a change; neither does another spelling of the
/// same quantity.
pub(crate) fn covers(existing: &Value, wanted: &Value) -> bool {
    match (existing, wanted) {
        (_, Value::Null) => true,
        (Value::Object(existing), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
            let is_resources = key == "limits" || key == "requests";
            match existing.get(key) {
                Some(existing) if is_resources => same_quantities(existing, wanted),
                Some(existing) => covers(existing, wanted),
                None => is_empty(wanted),
            }
        }),
        (Value::Array(existing), Value::Array(wanted)) => {
            existing.len() == wanted.len()
                && existing
                    .iter()
                    .zip(wanted)
                    .all(|(existing, wanted)| covers(existing, wanted))
        }
        (existing, wanted) => existing == wanted,
    }
}

fn same_quantities(existing: &Value, wanted: &Value) -> bool {
    let (Some(existing), Some(wanted)) = (existing.as_object(), wanted.as_object()) else {
        return existing == wanted;
    };
    wanted
        .iter()
        .all(|(key, wanted)| match (existing.get(key), wanted) {
            (Some(Value::String(existing)), Value::String(wanted)) => {
                let parse = |text: &str| api::quantity::Quantity::parse(text);
                existing == wanted
                    || matches!((parse(existing), parse(wanted)), (Some(a), Some(b)) if a == b)
            }
            (existing, wanted) => existing == Some(wanted),
        })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Keys that other controllers of ours write onto children.
pub(crate) fn is_serving_key(key: &str) -> bool {
    key.starts_with("serving.knative.dev/")
}

/// A label's value.
pub(crate) fn label<'a>(object: &'a impl Resource, key: &str) -> Option<&'a str> {
    object
        .meta()
        .labels
        .as_ref()
        .and_then(|labels| labels.get(key).map(String::as_str))
}

/// An annotation's value.
pub(crate) fn annotation<'a>(object: &'a impl Resource, key: &str) -> Option<&'a str> {
    object
        .meta()
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(key).map(String::as_str))
}

/// Whether the object's deletion has begun.
pub(crate) fn is_deleting(object: &impl Resource) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The names in a comma-separated annotation.
pub(crate) fn names_in(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}
