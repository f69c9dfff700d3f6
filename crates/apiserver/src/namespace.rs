//! Namespace lifecycle: a deleted namespace is emptied and then removed.
//!
//! Also empties the resource of a deleted CRD, which is the same work along the other axis.
//! Runs inside the collector's task ([`crate::gc`]), so one event order drives both.

mod conditions;

use std::sync::Arc;

use serde_json::json;

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
    let next = conditions::of(&remaining(api, name), &value["status"]["conditions"]);
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

/// What is left in a namespace.
fn remaining(api: &Api, name: &str) -> conditions::Remaining {
    let mut remaining = conditions::Remaining::default();
    for resource in api.store.populated(Some(name)) {
        let (_, objects) = api.store.list(&resource, &Scope::Namespace(name.into()));
        for finalizer in objects
            .iter()
            .flat_map(|object| crud::finalizers(&object.value()))
        {
            *remaining.finalizers.entry(finalizer).or_default() += 1;
        }
        remaining.resources.insert(resource, objects.len());
    }
    remaining
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
