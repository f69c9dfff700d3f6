//! Writes the objects of other gateways' kinds that Knative Ingresses of their classes become.
//!
//! Told by the publisher what is missing, different or left over; what came of it is seen in the
//! watches. Nothing is deleted before everything that is wanted is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dialects::{Name, foreign};
use futures::future::BoxFuture;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use lifecycle::Tasks;
use reconcile::{Action, Error, Key, MANAGER, Queue};
use serde_json::Value;

use crate::index::{MadeKey, Writes};

/// Ingresses whose objects are written at once.
const WORKERS: usize = 4;

/// Objects that are to be written. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct GeneratedObjects {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    /// The newest that is to be written, by Ingress.
    wanted: Mutex<HashMap<Key, Writes>>,
    queue: Queue<Key>,
}

impl GeneratedObjects {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                wanted: Mutex::default(),
                queue: Queue::new(),
            }),
        }
    }

    /// Starts writing once the watches have told all they have.
    pub(crate) fn start(&self, synced: Vec<BoxFuture<'static, ()>>, tasks: &Tasks) {
        let shared = Arc::clone(&self.shared);
        reconcile::run(
            "ingress-class",
            self.shared.queue.clone(),
            WORKERS,
            synced,
            tasks,
            move |key| {
                let shared = Arc::clone(&shared);
                async move { shared.write(&key).await }
            },
        );
    }

    /// Takes what is to be written; it replaces what was told before about the same Ingress.
    pub(crate) fn tell(&self, all: Vec<(Name, Writes)>) {
        let wanted = self.shared.wanted.lock();
        let mut wanted = wanted.unwrap_or_else(PoisonError::into_inner);
        for (name, writes) in all {
            let key = Key::new(&*name.namespace, &*name.name);
            if writes == Writes::default() {
                wanted.remove(&key);
                continue;
            }
            wanted.insert(key.clone(), writes);
            self.shared.queue.add(key);
        }
    }
}

impl Shared {
    async fn write(&self, key: &Key) -> Result<Action, Error> {
        let writes = {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.get(key).cloned()
        };
        let Some(writes) = writes else {
            return Ok(Action::Await);
        };
        for object in &writes.create {
            self.create(object).await?;
        }
        for object in &writes.apply {
            self.apply(object).await?;
        }
        for (key, uid) in &writes.delete {
            self.delete(key, uid).await?;
        }
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.get(key) == Some(&writes) {
            wanted.remove(key);
        }
        Ok(Action::Await)
    }

    async fn create(&self, object: &Value) -> Result<(), Error> {
        let Some((api, _)) = self.api_of(object) else {
            return Ok(());
        };
        let params = PostParams {
            dry_run: false,
            field_manager: Some(MANAGER.to_owned()),
        };
        let object: DynamicObject =
            serde_json::from_value(object.clone()).map_err(|source| Error::Encode {
                what: "an object that Ingresses share".to_owned(),
                source,
            })?;
        match api.create(&params, &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn apply(&self, object: &Value) -> Result<(), Error> {
        let Some((api, name)) = self.api_of(object) else {
            return Ok(());
        };
        let params = PatchParams::apply(MANAGER).force();
        api.patch(name, &params, &Patch::Apply(object)).await?;
        Ok(())
    }

    async fn delete(&self, key: &MadeKey, uid: &str) -> Result<(), Error> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        let (resource, name) = match key {
            MadeKey::Gateway(name) => (gateway_api("v1", "Gateway"), name),
            MadeKey::Route(name) => (gateway_api("v1", "HTTPRoute"), name),
            MadeKey::Foreign(key) => {
                let version = key.kind.versions.first().copied().unwrap_or_default();
                (crate::foreign::resource(key.kind, version), &key.name)
            }
        };
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &name.namespace, &resource);
        match api.delete(&name.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The API of an object, and its name.
    fn api_of<'o>(&self, object: &'o Value) -> Option<(Api<DynamicObject>, &'o str)> {
        let (group, version) = object["apiVersion"].as_str()?.split_once('/')?;
        let kind = object["kind"].as_str()?;
        let resource = if group == api::gateway::GROUP {
            gateway_api(version, kind)
        } else {
            let mut kinds = foreign::kinds().iter();
            let kind = kinds.find(|it| it.group == group && it.kind == kind)?;
            crate::foreign::resource(kind, version)
        };
        let namespace = object["metadata"]["namespace"].as_str()?;
        let api = Api::namespaced_with(self.client.clone(), namespace, &resource);
        Some((api, object["metadata"]["name"].as_str()?))
    }
}

fn gateway_api(version: &str, kind: &str) -> ApiResource {
    let group = api::gateway::GROUP;
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    }
}
