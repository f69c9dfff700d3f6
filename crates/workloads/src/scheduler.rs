//! The scheduler of one node: binds what fits, and says in Kubernetes' words why something
//! does not.
//!
//! Controllers ask it before they create a pod ([`Scheduler::reserve`]), so the way from a
//! request to its cold pod has no scheduling step: the pod is born bound. Pods of users, and
//! pods that did not fit, wait in the queue; whatever frees room wakes them.

mod affinity;
mod fit;
mod ledger;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolumeClaim, Pod, PodCondition, PodStatus,
};
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Change, Cluster, Error, Informer, Key, Queue, Recorder, write};
use serde_json::json;

use fit::{Misfit, Surroundings};
use ledger::Ledger;

const WORKERS: usize = 4;
/// A pod that does not fit is looked at again after this long, whatever happened.
const AGAIN: Duration = Duration::from_secs(300);
const COMPONENT: &str = "default-scheduler";

/// Places pods. Clone freely.
#[derive(Clone)]
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
}

struct Shared {
    node_name: String,
    nodes: Informer<Node>,
    namespaces: Informer<Namespace>,
    claims: Informer<PersistentVolumeClaim>,
    ledger: Mutex<Ledger>,
    recorder: Recorder,
}

impl Scheduler {
    /// Follows the node and its pods. Nothing is bound before [`start`].
    pub(crate) fn new(
        cluster: &Cluster,
        node_name: &str,
        recorder: &Recorder,
        tasks: &Tasks,
    ) -> Self {
        let scheduler = Self {
            shared: Arc::new(Shared {
                node_name: node_name.to_owned(),
                nodes: cluster.informer::<Node>(tasks),
                namespaces: cluster.informer::<Namespace>(tasks),
                claims: cluster.informer::<PersistentVolumeClaim>(tasks),
                ledger: Mutex::new(Ledger::new(node_name)),
                recorder: recorder.of(COMPONENT),
            }),
        };
        let follower = scheduler.clone();
        cluster.informer::<Pod>(tasks).on_change(move |change| {
            let mut ledger = follower.ledger();
            match change {
                Change::Applied(pod) => ledger.saw(pod),
                Change::Deleted(pod) => ledger.release(&Key::of(pod.as_ref())),
            }
        });
        scheduler
    }

    /// The node for a pod that is about to be created, with room kept for it; `None` if the pod
    /// must wait in the queue.
    pub(crate) fn reserve(&self, pod: &Pod) -> Option<String> {
        if !wants_node(pod) || is_gated(pod) {
            return None;
        }
        self.place(pod).ok()
    }

    /// The pod that room was kept for is not there after all.
    pub(crate) fn forget(&self, pod: &Key) {
        self.ledger().release(pod);
    }

    /// Tells that a pod got its node.
    pub(crate) fn tell_of(&self, pod: &Pod, node: &str) {
        let key = Key::of(pod);
        self.shared.recorder.normal(
            pod,
            "Scheduled",
            format!("Successfully assigned {key} to {node}"),
        );
    }

    /// The one node, if it is registered.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.shared.nodes.get(&Key::new("", &self.shared.node_name))
    }

    /// Whether the node is one that the pod is meant for, room or not.
    pub(crate) fn is_for_node(&self, pod: &Pod) -> bool {
        self.node().is_some_and(|node| fit::is_for(pod, &node))
    }

    fn place(&self, pod: &Pod) -> Result<String, Misfit> {
        let Some(node) = self.node() else {
            return Err(Misfit::no_nodes());
        };
        let labels_of = |name: &str| -> BTreeMap<String, String> {
            let namespace = self.shared.namespaces.get(&Key::new("", name));
            namespace.map_or_else(BTreeMap::new, |namespace| namespace.labels().clone())
        };
        let claim = |key: &Key| self.shared.claims.get(key);
        let mut ledger = self.ledger();
        fit::fits(
            pod,
            &Surroundings {
                node: &node,
                ledger: &ledger,
                namespace_labels: &labels_of,
                claim: &claim,
            },
        )?;
        ledger.reserve(pod);
        Ok(self.shared.node_name.clone())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

struct Context {
    cluster: Cluster,
    pods: Informer<Pod>,
    scheduler: Scheduler,
}

/// Starts the queue of pods that wait for a node.
pub(crate) fn start(cluster: &Cluster, scheduler: &Scheduler, tasks: &Tasks) {
    let pods = cluster.informer::<Pod>(tasks);
    let queue = Queue::new();
    wake(&pods, scheduler, &queue);
    let shared = &scheduler.shared;
    let synced = vec![
        pods.synced(),
        shared.nodes.synced(),
        shared.namespaces.synced(),
        shared.claims.synced(),
    ];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        pods,
        scheduler: scheduler.clone(),
    });
    reconcile::run("scheduler", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

/// Enqueues pods without a node: when they change, and when anything may have made room.
fn wake(pods: &Informer<Pod>, scheduler: &Scheduler, queue: &Queue<Key>) {
    let waiting: Arc<Mutex<std::collections::BTreeSet<Key>>> = Arc::default();
    let wake_all = {
        let (waiting, queue) = (Arc::clone(&waiting), queue.clone());
        move || {
            let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.iter().for_each(|key| queue.add(key.clone()));
        }
    };
    let (queue, freed) = (queue.clone(), wake_all.clone());
    pods.on_change(move |change| {
        let pod = change.object();
        let key = Key::of(pod.as_ref());
        let waits = matches!(change, Change::Applied(_)) && wants_node(pod);
        {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waits {
                waiting.insert(key.clone());
            } else {
                waiting.remove(&key);
            }
        }
        if waits {
            queue.add(key);
        } else if matches!(change, Change::Deleted(_)) || crate::pod::is_finished(pod) {
            freed();
        }
    });
    let changed = wake_all.clone();
    let seen: Mutex<Option<serde_json::Value>> = Mutex::default();
    scheduler.shared.nodes.on_change(move |change| {
        // A heartbeat of the node makes no room.
        let node = change.object();
        let matter = json!([
            node.spec,
            node.labels(),
            node.status.as_ref().map(|status| &status.allocatable)
        ]);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() != Some(&matter) {
            *seen = Some(matter);
            changed();
        }
    });
    scheduler.shared.claims.on_change(move |_| wake_all());
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(pod) = ctx.pods.get(&key).filter(|pod| wants_node(pod)) else {
        return Ok(Action::Await);
    };
    if is_gated(&pod) {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        write_unscheduled(&ctx, &pod, "SchedulingGated", message).await?;
        return Ok(Action::Await);
    }
    match ctx.scheduler.place(&pod) {
        Ok(node) => {
            let patch = json!({"metadata": {"uid": pod.uid()}, "spec": {"nodeName": node}});
            match write::merge::<Pod>(ctx.cluster.client(), &key, &patch).await {
                Ok(bound) => {
                    ctx.scheduler.tell_of(&bound, &node);
                    ctx.pods.learn(bound);
                }
                Err(error) => {
                    ctx.scheduler.forget(&key);
                    if !error.is_not_found() {
                        return Err(error);
                    }
                }
            }
            Ok(Action::Await)
        }
        Err(misfit) => {
            let message = misfit.to_string();
            let recorder = &ctx.scheduler.shared.recorder;
            if write_unscheduled(&ctx, &pod, "Unschedulable", &message).await? {
                recorder.warning(pod.as_ref(), "FailedScheduling", message);
            }
            Ok(Action::After(AGAIN))
        }
    }
}

/// Writes why the pod has no node; false if that was known.
async fn write_unscheduled(
    ctx: &Context,
    pod: &Pod,
    reason: &str,
    message: &str,
) -> Result<bool, Error> {
    let status = pod.status.clone().unwrap_or_default();
    let next = unscheduled(status.clone(), reason, message);
    match write::replaced_status(ctx.cluster.client(), pod, Some(&status), &next).await {
        Ok(Some(written)) => {
            ctx.pods.learn(written);
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

fn unscheduled(mut status: PodStatus, reason: &str, message: &str) -> PodStatus {
    const TYPE: &str = "PodScheduled";
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions
        .iter()
        .position(|condition| condition.type_ == TYPE);
    let since = old
        .map(|index| &conditions[index])
        .filter(|old| old.status == "False")
        .and_then(|old| old.last_transition_time.clone())
        .unwrap_or_else(reconcile::now);
    let condition = PodCondition {
        type_: TYPE.to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since),
        ..PodCondition::default()
    };
    match old {
        Some(index) => conditions[index] = condition,
        None => conditions.push(condition),
    }
    status
}

/// Whether the pod waits for a node of ours.
fn wants_node(pod: &Pod) -> bool {
    let unbound = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty());
    unbound && is_ours(pod) && crate::pod::is_active(pod)
}

/// Whether the pod left its placing to the scheduler that is here.
fn is_ours(pod: &Pod) -> bool {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduler_name.as_deref());
    name.is_none_or(|name| name.is_empty() || name == COMPONENT)
}

fn is_gated(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduling_gates.as_ref());
    gates.is_some_and(|gates| !gates.is_empty())
}

#[cfg(test)]
mod tests;
