//! PodDisruptionBudget: how many pods a budget can spare.
//!
//! Evictions take from `disruptionsAllowed` and leave the pod's name in `disruptedPods`; a pod named
//! there counts as gone until it is, or until the eviction has come to nothing. The status is
//! written over the one that was read only, so no eviction is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, write};

use crate::rollout::resolve;
use crate::{pod, selector};

const WORKERS: usize = 1;
/// An evicted pod that is still there after this time counts again.
const PATIENCE: Duration = Duration::from_secs(120);

struct Context {
    cluster: Cluster,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
}

pub(crate) fn start(cluster: &Cluster, tasks: &Tasks) {
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        budgets: cluster.informer(tasks),
        pods: cluster.informer(tasks),
        deployments: cluster.informer(tasks),
        replica_sets: cluster.informer(tasks),
        stateful_sets: cluster.informer(tasks),
    });
    let queue = Queue::new();
    context.budgets.enqueue_self(&queue);
    wake(&context.pods, &context.budgets, &queue);
    wake(&context.deployments, &context.budgets, &queue);
    wake(&context.replica_sets, &context.budgets, &queue);
    wake(&context.stateful_sets, &context.budgets, &queue);
    let synced = vec![
        context.budgets.synced(),
        context.pods.synced(),
        context.deployments.synced(),
        context.replica_sets.synced(),
        context.stateful_sets.synced(),
    ];
    reconcile::run("disruption", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

/// A change of a pod or of a controller may change every budget of its namespace.
fn wake<K>(of: &Informer<K>, budgets: &Informer<PodDisruptionBudget>, queue: &Queue<Key>)
where
    K: write::Object + Send + Sync + 'static,
{
    let (budgets, queue) = (budgets.clone(), queue.clone());
    of.on_change(move |change| {
        let namespace = change.object().namespace().unwrap_or_default();
        for budget in budgets.in_namespace(&namespace, |_| true) {
            queue.add(Key::of(&*budget));
        }
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(budget) = ctx.budgets.get(&key) else {
        return Ok(Action::Await);
    };
    if budget.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Await);
    }
    let now = reconcile::now();
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let pods = ctx.pods.in_namespace(&key.namespace, |pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        selector
            .as_ref()
            .is_some_and(|selector| selector::matches(selector, &labels))
    });
    let owners = owners(&ctx, &key.namespace, &pods);
    let (status, again) = plan(&budget, &pods, &owners, &now);
    match write::replaced_status(
        ctx.cluster.client(),
        &*budget,
        budget.status.as_ref(),
        &status,
    )
    .await
    {
        Ok(written) => written
            .into_iter()
            .for_each(|budget| ctx.budgets.learn(budget)),
        // Deleted meanwhile.
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(again.map_or(Action::Await, Action::After))
}

/// Replicas that the pods' controllers are asked for, each controller once.
#[derive(Debug, Default, PartialEq)]
struct Owners {
    replicas: BTreeMap<String, i32>,
    /// Pods without a controller.
    unmanaged: Vec<String>,
    /// Why the replicas of a controller are not known.
    problem: Option<String>,
}

fn owners(ctx: &Context, namespace: &str, pods: &[Arc<Pod>]) -> Owners {
    let mut owners = Owners::default();
    for pod in pods {
        let references = pod.owner_references();
        let Some(owner) = references
            .iter()
            .find(|owner| owner.controller == Some(true))
        else {
            owners.unmanaged.push(pod.name_any());
            continue;
        };
        if owners.replicas.contains_key(&owner.uid) {
            continue;
        }
        let key = Key::new(namespace, owner.name.as_str());
        let found = match owner.kind.as_str() {
            "ReplicaSet" => ctx
                .replica_sets
                .get(&key)
                .map(|set| of_replica_set(ctx, &set)),
            "StatefulSet" => ctx.stateful_sets.get(&key).map(|set| {
                let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
                (owner.uid.clone(), replicas.unwrap_or(1))
            }),
            kind => {
                owners.problem = Some(format!(
                    "{kind} {} does not implement the scale subresource; use minAvailable with a number",
                    owner.name
                ));
                None
            }
        };
        // A controller that is gone asks for nothing.
        if let Some((uid, replicas)) = found {
            owners.replicas.insert(uid, replicas);
        }
    }
    owners
}

/// The replicas of its Deployment, if it has one: during a rollout its sets have other numbers.
fn of_replica_set(ctx: &Context, set: &ReplicaSet) -> (String, i32) {
    let namespace = set.namespace().unwrap_or_default();
    let deployment = set
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "Deployment")
        .and_then(|owner| {
            ctx.deployments
                .get(&Key::new(namespace, owner.name.as_str()))
        });
    match deployment {
        Some(deployment) => {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            (deployment.uid().unwrap_or_default(), replicas.unwrap_or(1))
        }
        None => {
            let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
            (set.uid().unwrap_or_default(), replicas.unwrap_or(1))
        }
    }
}

/// The status that the budget should have, and when to look again without a change.
fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    owners: &Owners,
    now: &Time,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let spec = budget.spec.clone().unwrap_or_default();
    let before = budget.status.clone().unwrap_or_default();
    let (disrupted, again) = still_disrupted(&before, pods, now);
    let healthy = pods.iter().filter(|pod| {
        !pod::is_terminating(pod) && pod::is_ready(pod) && !disrupted.contains_key(&pod.name_any())
    });
    let current = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let (status, reason, message, numbers) = match expected(&spec, pods, owners) {
        Ok((expected, desired)) => {
            let spare = if expected > 0 {
                current.saturating_sub(desired).max(0)
            } else {
                0
            };
            let (status, reason) = match spare {
                0 => ("False", "InsufficientPods"),
                _ => ("True", "SufficientPods"),
            };
            let numbers = (spare, Some(desired), Some(expected));
            (status, reason, String::new(), numbers)
        }
        Err(problem) => {
            let known = (0, before.desired_healthy, before.expected_pods);
            ("False", "SyncFailed", problem, known)
        }
    };
    let (disruptions_allowed, desired_healthy, expected_pods) = numbers;
    let mut known = before.conditions.iter().flatten();
    let since = known
        .find(|condition| condition.type_ == "DisruptionAllowed" && condition.status == status)
        .map_or_else(
            || now.clone(),
            |condition| condition.last_transition_time.clone(),
        );
    let condition = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    };
    let status = PodDisruptionBudgetStatus {
        conditions: Some(vec![condition]),
        current_healthy: Some(current),
        desired_healthy,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(disruptions_allowed),
        expected_pods,
        observed_generation: budget.metadata.generation,
    };
    (status, again)
}

/// Expected pods and how many of them must be healthy.
fn expected(
    spec: &PodDisruptionBudgetSpec,
    pods: &[Arc<Pod>],
    owners: &Owners,
) -> Result<(i32, i32), String> {
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let asked = || match &owners.problem {
        Some(problem) => Err(problem.clone()),
        None => Ok(owners
            .replicas
            .values()
            .fold(0_i32, |sum, one| sum.saturating_add(*one))),
    };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let asked = asked()?;
            Ok((
                asked,
                asked
                    .saturating_sub(resolve(unavailable, asked, true))
                    .max(0),
            ))
        }
        (None, Some(IntOrString::Int(number))) => Ok((count, (*number).max(0))),
        (None, Some(share)) => {
            let asked = asked()?;
            Ok((asked, resolve(share, asked, true)))
        }
        // Kubernetes' default is one pod.
        (None, None) => Ok((count, 1)),
    }
}

/// Evictions whose pods are still there, and when the next of them expires.
fn still_disrupted(
    before: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: &Time,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let there: BTreeSet<_> = pods
        .iter()
        .filter(|pod| !pod::is_terminating(pod))
        .map(|pod| pod.name_any())
        .collect();
    let mut again: Option<Duration> = None;
    let mut kept = BTreeMap::new();
    for (name, since) in before.disrupted_pods.iter().flatten() {
        let left = PATIENCE.saturating_sub(pod::elapsed(since, now));
        if there.contains(name) && !left.is_zero() {
            kept.insert(name.clone(), since.clone());
            again = Some(again.map_or(left, |other| other.min(left)));
        }
    }
    (kept, again)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(ready: &[bool]) -> Vec<Arc<Pod>> {
        let pod = |(index, ready): (usize, &bool)| {
            let status = if *ready { "True" } else { "False" };
            let pod = json!({
                "metadata": { "name": format!("p{index}") },
                "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": status }] },
            });
            Arc::new(serde_json::from_value(pod).expect("a Pod"))
        };
        ready.iter().enumerate().map(pod).collect()
    }

    fn budget(spec: serde_json::Value, status: serde_json::Value) -> PodDisruptionBudget {
        let value =
            json!({ "metadata": { "name": "b", "generation": 3 }, "spec": spec, "status": status });
        serde_json::from_value(value).expect("a budget")
    }

    fn owners(replicas: i32) -> Owners {
        Owners {
            replicas: [("set".to_owned(), replicas)].into(),
            ..Owners::default()
        }
    }

    fn at(text: &str) -> Time {
        serde_json::from_value(json!(text)).expect("a time")
    }

    fn check(spec: serde_json::Value, ready: &[bool], expected: (i32, i32, i32, i32)) {
        let now = at("2026-01-01T00:00:00Z");
        let budget = budget(spec.clone(), json!(null));
        let (status, _) = plan(&budget, &pods(ready), &owners(4), &now);
        let found = (
            status.disruptions_allowed,
            status.current_healthy,
            status.desired_healthy,
            status.expected_pods,
        );
        let (allowed, current, desired, pods) = expected;
        let expected = (Some(allowed), Some(current), Some(desired), Some(pods));
        assert_eq!(found, expected, "{spec}");
        assert_eq!(status.observed_generation, Some(3));
    }

    #[test]
    fn numbers_and_shares_are_counted_as_in_kubernetes() {
        let all = [true, true, true, true];
        check(json!({ "minAvailable": 3 }), &all, (1, 4, 3, 4));
        check(
            json!({ "minAvailable": 3 }),
            &[true, true, false],
            (0, 2, 3, 3),
        );
        check(json!({ "minAvailable": "30%" }), &all, (2, 4, 2, 4));
        check(json!({ "maxUnavailable": 1 }), &all[..3], (0, 3, 3, 4));
        check(json!({ "maxUnavailable": "50%" }), &all, (2, 4, 2, 4));
        check(json!({ "minAvailable": 0 }), &[], (0, 0, 0, 0));
    }

    #[test]
    fn a_controller_without_scale_is_told() {
        let now = at("2026-01-01T00:00:00Z");
        let owners = Owners {
            problem: Some("Job j has no replicas".to_owned()),
            ..Owners::default()
        };
        let budget = budget(json!({ "maxUnavailable": 1 }), json!(null));
        let (status, _) = plan(&budget, &pods(&[true]), &owners, &now);
        let condition = &status.conditions.expect("conditions")[0];
        assert_eq!(condition.reason, "SyncFailed");
        assert_eq!(condition.message, "Job j has no replicas");
        assert_eq!(status.disruptions_allowed, Some(0));
    }

    #[test]
    fn an_evicted_pod_counts_as_gone_until_its_time_is_over() {
        let status = json!({
            "currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 2,
            "disruptedPods": { "p0": "2026-01-01T00:00:00Z", "gone": "2026-01-01T00:00:00Z" },
        });
        let budget = budget(json!({ "minAvailable": 1 }), status);
        let two = pods(&[true, true]);
        let (soon, again) = plan(&budget, &two, &owners(2), &at("2026-01-01T00:01:00Z"));
        assert_eq!(
            (soon.current_healthy, soon.disruptions_allowed),
            (Some(1), Some(0))
        );
        assert_eq!(again, Some(Duration::from_secs(60)));
        let kept = soon.disrupted_pods.expect("one is kept");
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["p0"]);
        let (late, again) = plan(&budget, &two, &owners(2), &at("2026-01-01T00:02:00Z"));
        assert_eq!(
            (late.current_healthy, late.disruptions_allowed),
            (Some(2), Some(1))
        );
        assert_eq!((late.disrupted_pods, again), (None, None));
    }
}
