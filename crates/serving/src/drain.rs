//! Tells the node when a terminating pod of a revision may stop: its condition Drained.
//!
//! Gateways report pods that they may send requests to (open) and pods that they are done with
//! (drained). A terminating pod that is not open is drained, so a pod that no gateway ever knew
//! does not wait for its grace period. Only terminating pods are marked: an endpoint that is
//! merely unready may come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::names::{POD_DRAINED, label};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use lifecycle::Tasks;
use reconcile::{Action, Change, Error, Informer, Key, MANAGER, Queue, run, write};
use serde_json::{Value, json};

use crate::object::label;

/// How long a pod that was ready, but that no gateway has opened, is given: the endpoint may be
/// on its way to a gateway.
const LATE_ENDPOINT: Duration = Duration::from_secs(1);
const WORKERS: usize = 8;

/// The drain controller's memory of the gateways.
pub(crate) struct Drain {
    pods: Informer<Pod>,
    queue: Queue<Key>,
    known: Mutex<HashMap<Key, Known>>,
}

/// What gateways last said about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Open,
    Drained,
}

impl Drain {
    /// Starts the controller.
    pub(crate) fn start(client: kube::Client, pods: &Informer<Pod>, tasks: &Tasks) -> Arc<Self> {
        let drain = Arc::new(Self {
            pods: pods.clone(),
            queue: Queue::new(),
            known: Mutex::default(),
        });
        let follower = Arc::clone(&drain);
        pods.on_change(move |change| follower.take(change));
        let reconciler = Arc::clone(&drain);
        let (queue, synced) = (drain.queue.clone(), vec![pods.synced()]);
        run("drain", queue, WORKERS, synced, tasks, move |key| {
            let (drain, client) = (Arc::clone(&reconciler), client.clone());
            async move { drain.reconcile(&key, &client).await }
        });
        drain
    }

    /// A gateway may send requests to this pod (`namespace/name`).
    pub(crate) fn opened(&self, pod: &str) {
        if let Some(key) = key_of(pod) {
            self.lock().insert(key, Known::Open);
        }
    }

    /// No gateway sends requests to this pod (`namespace/name`), and none is in flight.
    pub(crate) fn drained(&self, pod: &str) {
        let Some(key) = key_of(pod) else { return };
        // A pod that is gone needs no memory.
        if self.pods.get(&key).is_some() {
            self.lock().insert(key.clone(), Known::Drained);
            self.queue.add(key);
        } else {
            self.lock().remove(&key);
        }
    }

    fn take(&self, change: &Change<Pod>) {
        let pod = change.object().as_ref();
        match change {
            Change::Applied(_) if is_candidate(pod) => self.queue.add(Key::of(pod)),
            Change::Applied(_) => {}
            Change::Deleted(_) => {
                let key = Key::of(pod);
                let mut known = self.lock();
                // An open pod stays until its last request ends and is reported.
                if known.get(&key) == Some(&Known::Drained) {
                    known.remove(&key);
                }
            }
        }
    }

    async fn reconcile(&self, key: &Key, client: &kube::Client) -> Result<Action, Error> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Action::Await);
        };
        let known = self.lock().get(key).copied();
        let now = reconcile::now();
        match judge(&pod, known, &now) {
            Verdict::Nothing => Ok(Action::Await),
            Verdict::Later(delay) => Ok(Action::After(delay)),
            Verdict::Mark => {
                mark(client, key, &pod, &now).await?;
                Ok(Action::Await)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Later(Duration),
    Mark,
}

fn judge(pod: &Pod, known: Option<Known>, now: &Time) -> Verdict {
    if !is_candidate(pod) {
        return Verdict::Nothing;
    }
    match known {
        Some(Known::Open) => Verdict::Nothing,
        Some(Known::Drained) => Verdict::Mark,
        None if !is_ready(pod) => Verdict::Mark,
        None => {
            let passed = terminating_for(pod, now);
            match LATE_ENDPOINT.checked_sub(passed) {
                Some(rest) if !rest.is_zero() => Verdict::Later(rest),
                Some(_) | None => Verdict::Mark,
            }
        }
    }
}

/// A terminating pod of a revision that is not marked yet.
fn is_candidate(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && label(pod, label::REVISION).is_some()
        && !condition_is_true(pod, POD_DRAINED)
}

/// Time since the deletion was asked for. The deletion timestamp lies a grace period after it.
fn terminating_for(pod: &Pod, now: &Time) -> Duration {
    let Some(deadline) = &pod.metadata.deletion_timestamp else {
        return Duration::ZERO;
    };
    let grace = pod
        .metadata
        .deletion_grace_period_seconds
        .unwrap_or_default();
    let left = deadline.0.duration_since(now.0).as_secs_f64();
    Duration::try_from_secs_f64(grace as f64 - left).unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    condition_is_true(pod, "Ready")
}

fn condition_is_true(pod: &Pod, type_: &str) -> bool {
    conditions(pod).any(|condition| condition.type_ == type_ && condition.status == "True")
}

fn conditions(pod: &Pod) -> impl Iterator<Item = &PodCondition> {
    let status = pod.status.as_ref();
    status
        .into_iter()
        .flat_map(|status| status.conditions.iter().flatten())
}

/// Adds the condition. Errors are retried by the run loop, with a newer pod.
async fn mark(client: &kube::Client, key: &Key, pod: &Pod, now: &Time) -> Result<(), Error> {
    let patch = serde_json::from_value(patch(pod, now)).map_err(|source| Error::Encode {
        what: format!("drain patch of Pod {key}"),
        source,
    })?;
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api = write::api::<Pod>(client, &key.namespace);
    match api
        .patch_status(&key.name, &params, &Patch::Json::<()>(patch))
        .await
    {
        Ok(_) => Ok(()),
        // Gone already, which is as good.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A JSON patch that touches nothing but our condition: the node writes the others.
fn patch(pod: &Pod, now: &Time) -> Value {
    let condition = json!({
        "type": POD_DRAINED,
        "status": "True",
        "lastTransitionTime": now,
        "reason": "NoRequests",
        "message": "No gateway sends requests to the pod and none is in flight.",
    });
    if let Some(at) = conditions(pod).position(|condition| condition.type_ == POD_DRAINED) {
        let path = format!("/status/conditions/{at}");
        return json!([
            {"op": "test", "path": format!("{path}/type"), "value": POD_DRAINED},
            {"op": "replace", "path": path, "value": condition},
        ]);
    }
    if conditions(pod).next().is_some() {
        return json!([{"op": "add", "path": "/status/conditions/-", "value": condition}]);
    }
    // No list to add to: another writer's first conditions must not be lost.
    let version = pod.metadata.resource_version.as_deref().unwrap_or_default();
    let guard = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    if pod.status.is_some() {
        return json!([guard, {"op": "add", "path": "/status/conditions", "value": [condition]}]);
    }
    json!([guard, {"op": "add", "path": "/status", "value": {"conditions": [condition]}}])
}

fn key_of(pod: &str) -> Option<Key> {
    let (namespace, name) = pod.split_once('/')?;
    Some(Key::new(namespace, name))
}

#[cfg(test)]
mod tests;
