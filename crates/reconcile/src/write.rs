//! Writes that every controller needs, each a no-op when nothing would change.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Error, Key, MANAGER};

/// A namespaced kind that can be written.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Object for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// The API of a kind in the namespace of `key`.
pub fn api<K: Object>(client: &Client, namespace: &str) -> Api<K> {
    Api::namespaced(client.clone(), namespace)
}

/// Server-side apply with our manager, taking over fields that others hold.
pub async fn apply<K: Object>(client: &Client, object: &K) -> Result<K, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let mut value = serde_json::to_value(object).map_err(|source| encode(object, source))?;
    // kube needs both to be present; generated types may leave them out.
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    let params = PatchParams::apply(MANAGER).force();
    let applied = api::<K>(client, &namespace)
        .patch(&object.name_any(), &params, &Patch::Apply(&value))
        .await?;
    Ok(applied)
}

/// Creates an object; `None` if one of this name exists already.
pub async fn create_if_absent<K: Object>(client: &Client, object: &K) -> Result<Option<K>, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let params = PostParams {
        dry_run: false,
        field_manager: Some(MANAGER.to_owned()),
    };
    match api::<K>(client, &namespace).create(&params, object).await {
        Ok(created) => Ok(Some(created)),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// JSON merge patch of the main resource.
pub async fn merge<K: Object>(client: &Client, key: &Key, patch: &Value) -> Result<K, Error> {
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    Ok(api::<K>(client, &key.namespace)
        .patch(&key.name, &params, &Patch::Merge(patch))
        .await?)
}

/// Replaces the status if `next` differs from `current`. `resourceVersion` of `object` guards
/// against writing over a newer status. Returns what it wrote, for
/// [`Informer::learn`](crate::Informer::learn).
pub async fn replaced_status<K, S>(
    client: &Client,
    object: &K,
    current: Option<&S>,
    next: &S,
) -> Result<Option<K>, Error>
where
    K: Object,
    S: Serialize + PartialEq,
{
    if current == Some(next) {
        return Ok(None);
    }
    let namespace = object.namespace().unwrap_or_default();
    let mut value = serde_json::to_value(object).map_err(|source| encode(object, source))?;
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    value["status"] = serde_json::to_value(next).map_err(|source| encode(object, source))?;
    let replaced: K = serde_json::from_value(value).map_err(|source| encode(object, source))?;
    let params = PostParams {
        dry_run: false,
        field_manager: Some(MANAGER.to_owned()),
    };
    let written = api::<K>(client, &namespace)
        .replace_status(&object.name_any(), &params, &replaced)
        .await?;
    Ok(Some(written))
}

/// As [`replaced_status`]; returns only whether it wrote.
pub async fn status<K, S>(
    client: &Client,
    object: &K,
    current: Option<&S>,
    next: &S,
) -> Result<bool, Error>
where
    K: Object,
    S: Serialize + PartialEq,
{
    let written = replaced_status(client, object, current, next).await?;
    Ok(written.is_some())
}

/// Deletes an object in the background; no error if it is gone.
pub async fn delete<K: Object>(client: &Client, key: &Key) -> Result<(), Error> {
    match api::<K>(client, &key.namespace)
        .delete(&key.name, &DeleteParams::background())
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the object of this uid in the background; no error if it is gone or another has taken
/// its name since.
pub async fn delete_exactly<K: Object>(client: &Client, key: &Key, uid: &str) -> Result<(), Error> {
    delete_with::<K>(client, key, uid, DeleteParams::background()).await
}

/// As [`delete_exactly`], with the deletion's options.
pub async fn delete_with<K: Object>(
    client: &Client,
    key: &Key,
    uid: &str,
    params: DeleteParams,
) -> Result<(), Error> {
    let params = params.preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    });
    match api::<K>(client, &key.namespace)
        .delete(&key.name, &params)
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The reference that makes `owner` the controller of a child.
pub fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn encode<K: Resource<DynamicType = ()>>(object: &K, source: serde_json::Error) -> Error {
    Error::Encode {
        what: format!("{} {}", K::kind(&()), Key::of(object)),
        source,
    }
}
