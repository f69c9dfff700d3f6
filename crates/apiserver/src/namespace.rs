//! Namespace lifecycle: a deleted namespace is emptied and then removed.
//!
//! Also empties the resource of a deleted CRD, which is the same work along the other axis.
//! Runs inside the collector's task ([`crate::gc`]), so one event order drives both.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::crud::{self, Api, Call};
use crate::status::Status;
use crate::store::{Object, Scope};
use crate::types::ResourceType;
use crate::{crd, gc};

/// Namespaces that exist from the first start.
pub(crate) const INITIAL: [&str; 5] = [
    "default",
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "knative-serving",
];

/// Makes the initial namespaces.
pub(crate) async fn create_initial(api: &Api) -> Result<(), Status> {
    let types = api.types();
    let Some(kind) = types.get("", "v1", "namespaces") else {
        return Err(Status::internal("the type table has no namespaces"));
    };
    for name in INITIAL
        .into_iter()
        .filter(|name| api.store.get("namespaces", name).is_none())
    {
        let body = crud::Body {
            media_type: "application/json".into(),
            bytes: json!({ "metadata": { "name": name } }).to_string().into(),
        };
        api.create(&Call::internal(kind, "", ""), &body).await?;
    }
    Ok(())
}

/// Deletes what is left in a namespace that is being deleted, and then the namespace.
pub(crate) async fn empty(api: &Api, name: &str) {
    let Some(namespace) = api
        .store
        .get("namespaces", name)
        .filter(|namespace| namespace.deleting())
    else {
        return;
    };
    for resource in api.store.populated(Some(name)) {
        let Some(kind) = kind_of(api, &resource) else {
            continue;
        };
        let (_, objects) = api.store.list(&resource, &Scope::Namespace(name.into()));
        delete_all(api, &kind, &objects).await;
    }
    if !api.store.populated(Some(name)).is_empty() {
        // Finalizers or grace keep something; its removal comes back here as an event.
        tell_remaining(api, name).await;
        return;
    }
    let Some(kind) = kind_of(api, "namespaces") else {
        return;
    };
    let mut call = Call::internal(&kind, "", name);
    call.subresource = "finalize".into();
    let mut value = (*namespace.value()).clone();
    value["spec"]["finalizers"] = json!([]);
    let body = crud::Body {
        media_type: "application/json".into(),
        bytes: value.to_string().into(),
    };
    if let Err(error) = api.update(&call, &body).await
        && error.code != 404
    {
        tracing::debug!(namespace = name, %error, "a namespace could not be removed yet");
    }
}

/// Writes what keeps a namespace from going into its conditions.
async fn tell_remaining(api: &Api, name: &str) {
    let Some(namespace) = api.store.get("namespaces", name) else {
        return;
    };
    let mut value = (*namespace.value()).clone();
    let next = conditions(api, name, &value["status"]["conditions"]);
    if value["status"]["conditions"] == next {
        return;
    }
    value["status"]["conditions"] = next;
    let Some(kind) = kind_of(api, "namespaces") else {
        return;
    };
    let mut call = Call::internal(&kind, "", name);
    call.subresource = "status".into();
    let body = crud::Body {
        media_type: "application/json".into(),
        bytes: value.to_string().into(),
    };
    // An older look at it is not worth a second try: the next removal comes back here.
    if let Err(error) = api.update(&call, &body).await {
        tracing::debug!(namespace = name, %error, "cannot tell what is left in a namespace");
    }
}

/// Kubernetes' conditions of a namespace on its way out. Numbers alone are no news: a namespace
/// with many objects would be written as often.
fn conditions(api: &Api, name: &str, before: &Value) -> Value {
    let mut remaining = Vec::new();
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    let mut resources = api.store.populated(Some(name));
    resources.sort();
    for resource in resources {
        let (_, objects) = api.store.list(&resource, &Scope::Namespace(name.into()));
        for object in &objects {
            for finalizer in crud::finalizers(&object.value()) {
                *finalizers.entry(finalizer).or_default() += 1;
            }
        }
        remaining.push((resource, objects.len()));
    }
    let instances = |(resource, count): &(Arc<str>, usize)| {
        let dot = if resource.contains('.') { "" } else { "." };
        format!("{resource}{dot} has {count} resource instances")
    };
    let remaining: Vec<String> = remaining.iter().map(instances).collect();
    let kept: Vec<String> = finalizers
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let all = [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned(),
        ),
        match remaining.is_empty() {
            true => (
                "NamespaceContentRemaining",
                false,
                "ContentRemoved",
                "All content successfully removed".to_owned(),
            ),
            false => (
                "NamespaceContentRemaining",
                true,
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", remaining.join(", ")),
            ),
        },
        match kept.is_empty() {
            true => (
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
            ),
            false => (
                "NamespaceFinalizersRemaining",
                true,
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    kept.join(", ")
                ),
            ),
        },
    ];
    let now = json!(crud::timestamp(jiff::Timestamp::now()));
    let next = all.map(|(kind, holds, reason, message)| {
        let status = if holds { "True" } else { "False" };
        let old = before
            .as_array()
            .into_iter()
            .flatten()
            .find(|old| old["type"] == kind);
        let same = old.filter(|old| old["status"] == status && old["reason"] == reason);
        let without_numbers = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        match same {
            Some(old)
                if without_numbers(old["message"].as_str().unwrap_or_default())
                    == without_numbers(&message) =>
            {
                old.clone()
            }
            same => json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": same.map_or(&now, |old| &old["lastTransitionTime"]),
            }),
        }
    });
    json!(next)
}

/// Deletes the objects of a CRD that is being deleted, and then the CRD.
pub(crate) async fn empty_crd(api: &Api, name: &str) {
    let Some(definition) = api
        .store
        .get(crd::RESOURCE, name)
        .filter(|definition| definition.deleting())
    else {
        return;
    };
    if let Some(kind) = kind_of(api, name) {
        let (_, objects) = api.store.list(name, &Scope::All);
        delete_all(api, &kind, &objects).await;
        if !api.store.list(name, &Scope::All).1.is_empty() {
            return;
        }
    }
    gc::remove_finalizer(api, crd::RESOURCE, &definition, crd::CLEANUP).await;
}

async fn delete_all(api: &Api, kind: &Arc<ResourceType>, objects: &[Arc<Object>]) {
    for object in objects.iter().filter(|object| !object.deleting()) {
        let value = object.value();
        let text = |field: &str| {
            value["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let call = Call::internal(kind, &text("namespace"), &text("name"));
        if let Err(error) = api.delete(&call, &crud::Body::default()).await
            && error.code != 404
        {
            tracing::warn!(resource = &*kind.plural, name = text("name"), %error, "cannot delete an object of a deleted namespace or CRD");
        }
    }
}

/// The type of a resource in the store, in any of its versions.
pub(crate) fn kind_of(api: &Api, resource: &str) -> Option<Arc<ResourceType>> {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    api.types().stored(group, plural).cloned()
}
