//! All pods of the node: starts one task per pod, tells it what happens to its object, and stops
//! all of them when the node stops.
//!
//! Pods of an earlier life of this node are recognized by their status: this node wrote it, but
//! no process of theirs exists. Their objects are deleted, so that their owners replace them;
//! a pod without an owner is run again.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use lifecycle::Shutdown;
use reconcile::Change;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use crate::pod::{self, Context, Ended, Shared, Update};

/// The pods that run, by uid.
pub(crate) struct Manager {
    node: Arc<Shared>,
    pods: HashMap<String, watch::Sender<Update>>,
    running: JoinSet<(String, Ended)>,
    /// Which pod a task is for, in case it panics.
    uids: HashMap<tokio::task::Id, String>,
}

impl Manager {
    pub(crate) fn new(node: Arc<Shared>) -> Self {
        Self {
            node,
            pods: HashMap::new(),
            running: JoinSet::new(),
            uids: HashMap::new(),
        }
    }

    /// Runs pods until the node stops, and returns once all have ended.
    pub(crate) async fn run(
        mut self,
        mut changes: mpsc::UnboundedReceiver<Change<Pod>>,
        mut shutdown: Shutdown,
    ) {
        loop {
            tokio::select! {
                Some(change) = changes.recv() => self.changed(change),
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                () = shutdown.requested() => break,
            }
        }
        for updates in self.pods.values() {
            updates.send_modify(|update| update.node_stops = true);
        }
        loop {
            tokio::select! {
                // Deletions and drain reports still count while pods end; new pods do not start.
                Some(change) = changes.recv() => self.tell(&change),
                ended = self.running.join_next_with_id() => match ended {
                    Some(ended) => self.ended(ended),
                    None => return,
                },
            }
        }
    }

    fn changed(&mut self, change: Change<Pod>) {
        let known = self.pods.contains_key(uid(change.object()));
        match change {
            change if known => self.tell(&change),
            Change::Applied(pod) if self.is_ours(&pod) => self.first_seen(pod),
            Change::Applied(_) | Change::Deleted(_) => {}
        }
    }

    fn tell(&self, change: &Change<Pod>) {
        let Some(updates) = self.pods.get(uid(change.object())) else {
            return;
        };
        updates.send_modify(|update| {
            update.pod = Arc::clone(change.object());
            update.deleted |= matches!(change, Change::Deleted(_));
        });
    }

    /// Ours are the pods that are bound to this node, by the scheduler or by who wrote them.
    fn is_ours(&self, pod: &Pod) -> bool {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node == Some(&self.node.settings.name)
    }

    fn first_seen(&mut self, pod: Arc<Pod>) {
        let status = pod.status.as_ref();
        let phase = status
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default();
        let was_started = status.is_some_and(|status| status.start_time.is_some());
        let controlled = pod
            .owner_references()
            .iter()
            .any(|owner| owner.controller == Some(true));
        if pod.metadata.deletion_timestamp.is_some()
            || (was_started && controlled && !is_final(phase))
        {
            let (node, uid) = (Arc::clone(&self.node), uid(&pod).to_owned());
            tracing::info!(
                pod = pod.name_any(),
                "deleting a pod whose processes ended with an earlier run"
            );
            self.running.spawn(async move {
                delete(&node, &pod).await;
                (uid, Ended::Removed)
            });
        } else if !is_final(phase) {
            self.start(pod);
        }
    }

    fn start(&mut self, pod: Arc<Pod>) {
        let uid = uid(&pod).to_owned();
        let (updates, watch) = watch::channel(Update {
            pod,
            deleted: false,
            node_stops: false,
        });
        self.pods.insert(uid.clone(), updates);
        let context = Arc::new(Context::new(Arc::clone(&self.node), watch));
        self.node.sessions.add(&uid, &context);
        let known = uid.clone();
        let task = self
            .running
            .spawn(async move { (uid, pod::run(&context).await) });
        self.uids.insert(task.id(), known);
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, (String, Ended)), JoinError>) {
        match ended {
            Ok((task, (uid, ended))) => {
                tracing::debug!(uid, ?ended, "pod ended");
                self.uids.remove(&task);
                self.pods.remove(&uid);
            }
            Err(error) => {
                let uid = self.uids.remove(&error.id());
                let Some(updates) = uid.and_then(|uid| self.pods.remove(&uid)) else {
                    return;
                };
                let pod = Arc::clone(&updates.borrow().pod);
                tracing::error!(pod = pod.name_any(), %error, "the task of a pod panicked, deleting the pod");
                let node = Arc::clone(&self.node);
                self.running.spawn(async move {
                    delete(&node, &pod).await;
                    (uid_of(&pod), Ended::Removed)
                });
            }
        }
    }
}

fn uid_of(pod: &Pod) -> String {
    uid(pod).to_owned()
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

async fn delete(node: &Shared, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(node.client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(&pod.name_any(), &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::warn!(pod = pod.name_any(), %error, "cannot delete a left-over pod"),
    }
}
