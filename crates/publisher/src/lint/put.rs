//! Objects of files as a server would have stored them.

use std::sync::Arc;

use dialects::Name;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::inbox::Changes;

/// The address of Services that files give none, as a server does.
const SOME_CLUSTER_IP: &str = "10.96.0.1";

pub(super) fn put<K>(changes: &mut Changes<K>, object: &Value) -> Result<(Name, Arc<K>), String>
where
    K: kube::Resource + DeserializeOwned,
{
    let object: K = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    let name = Name::of(object.meta());
    if name.name.is_empty() {
        return Err("metadata.name is missing".to_owned());
    }
    let object = Arc::new(object);
    changes.insert(name.clone(), Some(Arc::clone(&object)));
    Ok((name, object))
}

/// A server gives each Service an address, unless it is told not to. Here all have the same one:
/// whoever calls a Service by a route names it.
pub(super) fn put_service(changes: &mut Changes<Service>, object: &Value) -> Result<(), String> {
    let (name, service) = put(changes, object)?;
    let mut service = (*service).clone();
    let spec = service.spec.get_or_insert_default();
    if spec.type_.as_deref() != Some("ExternalName") && spec.cluster_ip.is_none() {
        spec.cluster_ip = Some(SOME_CLUSTER_IP.to_owned());
    }
    changes.insert(name, Some(Arc::new(service)));
    Ok(())
}

/// A server turns `stringData` into `data`.
pub(super) fn put_secret(changes: &mut Changes<Secret>, object: &Value) -> Result<(), String> {
    let (name, secret) = put(changes, object)?;
    let mut secret = (*secret).clone();
    let texts = secret.string_data.take().unwrap_or_default();
    let data = secret.data.get_or_insert_default();
    data.extend(
        texts
            .into_iter()
            .map(|(key, text)| (key, ByteString(text.into_bytes()))),
    );
    changes.insert(name, Some(Arc::new(secret)));
    Ok(())
}
