//! ConfigMaps, Secrets and claims that pods refer to.
//!
//! They are read when a container needs them, not watched: few are used, and a node on a real
//! cluster may only read those of its own pods.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, ServiceAccount,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::runtime::Failure;

/// Reads the objects of one namespace.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    namespace: String,
}

/// The content of a ConfigMap or Secret.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

impl Objects {
    pub(crate) fn new(client: Client, namespace: impl Into<String>) -> Self {
        Self {
            client,
            namespace: namespace.into(),
        }
    }

    /// The ConfigMap's data; `None` if it is missing and `optional`.
    pub(crate) async fn config_map(
        &self,
        name: &str,
        optional: bool,
    ) -> Result<Option<Data>, Failure> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api
            .get_opt(name)
            .await
            .map_err(|error| self.unreadable("configmap", name, &error))?;
        let data = found.map(|map| {
            let text = map
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.into_bytes()));
            text.chain(
                map.binary_data
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key, value.0)),
            )
            .collect()
        });
        self.required(data, optional, "configmap", name)
    }

    /// The Secret's data; `None` if it is missing and `optional`.
    pub(crate) async fn secret(&self, name: &str, optional: bool) -> Result<Option<Data>, Failure> {
        let found = self.find_secret(name).await?;
        let data = found.map(|secret| {
            secret
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.0))
                .collect()
        });
        self.required(data, optional, "secret", name)
    }

    /// The Secret itself, if it exists.
    pub(crate) async fn find_secret(&self, name: &str) -> Result<Option<Secret>, Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        api.get_opt(name)
            .await
            .map_err(|error| self.unreadable("secret", name, &error))
    }

    /// The volume that a claim is bound to. `owner` is the pod that the claim was made for, if it
    /// must be one's own.
    pub(crate) async fn volume(
        &self,
        claim: &str,
        owner: Option<&str>,
    ) -> Result<PersistentVolume, Failure> {
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let kind = "persistentvolumeclaim";
        let found = claims
            .get_opt(claim)
            .await
            .map_err(|error| self.unreadable(kind, claim, &error))?;
        let Some(found) = self.required(found, false, kind, claim)? else {
            return Err(Failure::config(format!("{kind} {claim:?} is missing")));
        };
        let owners = found.metadata.owner_references.iter().flatten();
        if owner.is_some_and(|uid| !owners.into_iter().any(|one| one.uid == uid)) {
            return Err(Failure::config(format!(
                "{kind} {claim:?} was not made for this pod; delete it, or rename the pod's volume"
            )));
        }
        let bound = found.status.and_then(|status| status.phase);
        let name = found.spec.and_then(|spec| spec.volume_name);
        let name = name.filter(|_| bound.as_deref() == Some("Bound"));
        let name = name
            .ok_or_else(|| Failure::config(format!("{kind} {claim:?} is not bound to a volume")))?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = volumes.get(&name).await.map_err(|error| {
            Failure::config(format!("cannot read persistentvolume {name:?}: {error}"))
        })?;
        let spec = volume.spec.as_ref();
        let kept = spec.and_then(|spec| spec.claim_ref.as_ref()?.uid.clone());
        // What a claim says of itself gives nobody another's files.
        if kept.is_none() || kept != found.metadata.uid {
            return Err(Failure::config(format!(
                "persistentvolume {name:?} is not bound to {kind} {claim:?}"
            )));
        }
        Ok(volume)
    }

    /// A token of the pod's service account, bound to the pod.
    pub(crate) async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<String, Failure> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref());
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|audience| vec![audience.to_owned()]),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await;
        match answer.map(|answer| answer.status.and_then(|status| status.token)) {
            Ok(Some(token)) => Ok(token),
            Ok(None) => Err(Failure::config(format!(
                "the API gave no token for serviceaccount {account:?}"
            ))),
            Err(error) => Err(Failure::config(format!(
                "cannot get a token for serviceaccount {account:?} of namespace {}: {error}",
                self.namespace
            ))),
        }
    }

    fn required<T>(
        &self,
        data: Option<T>,
        optional: bool,
        kind: &str,
        name: &str,
    ) -> Result<Option<T>, Failure> {
        if data.is_none() && !optional {
            return Err(Failure::config(format!(
                "{kind} {:?} not found in namespace {}",
                name, self.namespace
            )));
        }
        Ok(data)
    }

    fn unreadable(&self, kind: &str, name: &str, error: &kube::Error) -> Failure {
        Failure::config(format!(
            "cannot read {kind} {name:?} of namespace {}: {error}",
            self.namespace
        ))
    }
}

/// One key of an object's data, which must exist unless `optional`.
pub(crate) fn key<'a>(
    data: Option<&'a Data>,
    key: &str,
    optional: bool,
    object: &str,
) -> Result<Option<&'a Vec<u8>>, Failure> {
    match data.and_then(|data| data.get(key)) {
        None if !optional => Err(Failure::config(format!(
            "couldn't find key {key} in {object}"
        ))),
        value => Ok(value),
    }
}
