//! Tells users what became of their objects of other gateways' kinds: in the status that the kind
//! has, or in Events where it has none, or no place for it.
//!
//! Told by the publisher after a publish returned and sockets are open. A status is written once
//! per change of what is to be told; what somebody else writes over it is left alone, since that
//! may be the gateway whose kind it is.

mod merge;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dialects::Diagnostic;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use lifecycle::Tasks;
use reconcile::{Action, Error, Queue, Recorder};
use serde_json::{Value, json};

use crate::foreign::{self, Store, Stored};
use crate::index::{ForeignKey, ForeignOutcome};

/// Status writes in flight at once.
const WORKERS: usize = 4;
/// Events about one state of one object; what is beyond is counted in the last one.
const MOST_EVENTS: usize = 16;

/// What is told about objects. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct ForeignStatuses {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    store: Store,
    recorder: Recorder,
    told: Mutex<HashMap<ForeignKey, Told>>,
    queue: Queue<ForeignKey>,
}

struct Told {
    generation: i64,
    uid: Arc<str>,
    status: Option<Arc<Value>>,
    /// What was told in Events.
    events: Vec<Diagnostic>,
}

impl ForeignStatuses {
    pub(crate) fn new(client: Client, store: Store, recorder: Recorder) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                store,
                recorder,
                told: Mutex::default(),
                queue: Queue::new(),
            }),
        }
    }

    /// Starts writing once the watches have told all they have.
    pub(crate) fn start(&self, synced: Vec<BoxFuture<'static, ()>>, tasks: &Tasks) {
        let shared = Arc::clone(&self.shared);
        reconcile::run(
            "dialect-status",
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

    /// Takes outcomes (`None`: the object is gone).
    pub(crate) fn tell(&self, outcomes: Vec<(ForeignKey, Option<ForeignOutcome>)>) {
        for (key, outcome) in outcomes {
            let Some(outcome) = outcome else {
                self.shared.lock().remove(&key);
                continue;
            };
            let has_status = key.kind.has_status && outcome.status.is_some();
            let mut events = outcome.unbound;
            events.extend(outcome.unfound);
            if !has_status {
                events.extend(outcome.diagnostics);
            }
            let told = Told {
                generation: outcome.object.generation,
                uid: Arc::clone(&outcome.object.uid),
                status: outcome.status.filter(|_| has_status),
                events,
            };
            self.shared.tell_events(&key, &told);
            self.shared.lock().insert(key.clone(), told);
            if has_status {
                self.shared.queue.add(key);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<ForeignKey, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Warns of what was not told yet about this object.
    fn tell_events(&self, key: &ForeignKey, told: &Told) {
        let held = self.lock();
        let before = held.get(key).filter(|before| before.uid == told.uid);
        let before = before.map_or(&[][..], |before| &before.events);
        let new: Vec<_> = told
            .events
            .iter()
            .filter(|it| !before.contains(it))
            .collect();
        let version = key.kind.versions.first().copied().unwrap_or_default();
        let object = || ObjectReference {
            api_version: Some(format!("{}/{version}", key.kind.group)),
            kind: Some(key.kind.kind.to_owned()),
            name: Some(key.name.name.to_string()),
            namespace: Some(key.name.namespace.to_string()).filter(|it| !it.is_empty()),
            uid: Some(told.uid.to_string()),
            ..ObjectReference::default()
        };
        for (at, finding) in new.iter().take(MOST_EVENTS).enumerate() {
            let mut message = format!("{}: {}", finding.field, finding.message);
            if at + 1 == MOST_EVENTS && new.len() > MOST_EVENTS {
                message = format!("{message} (and {} more)", new.len() - MOST_EVENTS);
            }
            self.recorder
                .warning_about(object(), finding.reason, message);
        }
    }

    async fn write(&self, key: &ForeignKey) -> Result<Action, Error> {
        let Some((generation, status)) = self.status_of(key) else {
            return Ok(Action::Await);
        };
        let Some(stored) = self.store.get(key) else {
            return Ok(Action::Await);
        };
        if stored.object.generation != generation {
            // The newer generation is on its way through the publisher and will be told.
            return Ok(Action::Await);
        }
        let current = &stored.object.status;
        let next = merge::with_times(&status, current, &reconcile::now());
        let Some(change) = merge::difference(current, &next) else {
            return Ok(Action::Await);
        };
        match self.patch(key, &stored, change).await {
            Ok(written) => {
                if let Some(written) = foreign::read(key.kind, written, &stored.resource) {
                    self.learn(key, &stored, written);
                }
                Ok(Action::Await)
            }
            Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(Action::Await),
            // It would be refused again: a definition other than ours may allow less.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 400 | 403 | 405 | 422) => {
                tracing::warn!(%key, error = answer.message, "the status cannot be written");
                Ok(Action::Await)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn status_of(&self, key: &ForeignKey) -> Option<(i64, Arc<Value>)> {
        let told = self.lock();
        let told = told.get(key)?;
        Some((told.generation, Arc::clone(told.status.as_ref()?)))
    }

    /// The revision guards against writing over what changed since.
    async fn patch(
        &self,
        key: &ForeignKey,
        stored: &Stored,
        change: Value,
    ) -> Result<DynamicObject, kube::Error> {
        let (client, resource) = (self.client.clone(), &*stored.resource);
        let api: Api<DynamicObject> = if key.kind.is_cluster_scoped {
            Api::all_with(client, resource)
        } else {
            Api::namespaced_with(client, &key.name.namespace, resource)
        };
        let mut patch = json!({"status": change});
        if let Some(version) = &stored.resource_version {
            patch["metadata"] = json!({"resourceVersion": version});
        }
        let params = PatchParams {
            field_manager: Some(format!("suimon-{}", key.kind.dialect)),
            ..PatchParams::default()
        };
        api.patch_status(&key.name.name, &params, &Patch::Merge(&patch))
            .await
    }

    /// Keeps what was written, so that the next write does not meet a conflict with it; unless
    /// the watch told of something newer meanwhile.
    fn learn(&self, key: &ForeignKey, before: &Stored, written: Stored) {
        let now = self.store.get(key);
        let is_same = now.is_some_and(|now| now.resource_version == before.resource_version);
        if is_same {
            self.store.put(key.clone(), Some(written));
        }
    }
}
