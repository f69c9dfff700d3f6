//! HorizontalPodAutoscaler (autoscaling/v2): the size of a scale target follows the CPU and
//! memory that its pods use.
//!
//! Use is read from `metrics.k8s.io`, the target's size is read and written through its `scale`
//! subresource: whatever serves these can be scaled. Other metrics are refused in the status.

mod behavior;
mod status;
mod target;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, Recorder, write};
use tokio::time::Instant;

use crate::children::Shared;
use behavior::Memory;
use status::Conditions;
use target::{Scale, Target};
use usage::Sample;

const WORKERS: usize = 2;
/// How often sizes are judged (Kubernetes' number).
const PERIOD: Duration = Duration::from_secs(15);

struct Context {
    cluster: Cluster,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    memories: Mutex<HashMap<Key, Memory>>,
    recorder: Recorder,
}

pub(crate) fn start(shared: &Shared, tasks: &Tasks) {
    let autoscalers = shared.cluster.informer::<HorizontalPodAutoscaler>(tasks);
    let pods = shared.cluster.informer::<Pod>(tasks);
    let queue = Queue::new();
    // A status that we write ourselves is no reason to judge again.
    let seen: Mutex<HashMap<Key, Option<i64>>> = Mutex::default();
    let to = queue.clone();
    autoscalers.on_change(move |change| {
        let object = change.object();
        let (key, generation) = (Key::of(object.as_ref()), object.metadata.generation);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = matches!(change, reconcile::Change::Deleted(_));
        let before = match gone {
            true => seen.remove(&key),
            false => seen.insert(key.clone(), generation),
        };
        if gone || before != Some(generation) {
            to.add(key);
        }
    });
    let synced = vec![autoscalers.synced(), pods.synced()];
    let context = Arc::new(Context {
        cluster: shared.cluster.clone(),
        autoscalers,
        pods,
        memories: Mutex::default(),
        recorder: shared.recorder.of("horizontal-pod-autoscaler"),
    });
    reconcile::run(
        "horizontalpodautoscaler",
        queue,
        WORKERS,
        synced,
        tasks,
        move |key| reconcile(Arc::clone(&context), key),
    );
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(autoscaler) = ctx.autoscalers.get(&key) else {
        ctx.memories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
        return Ok(Action::Await);
    };
    if autoscaler.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Await);
    }
    let status = judge(&ctx, &key, &autoscaler).await?;
    let before = autoscaler.status.as_ref();
    write::status(ctx.cluster.client(), autoscaler.as_ref(), before, &status).await?;
    Ok(Action::After(PERIOD))
}

/// Looks, scales, and returns what there is to say.
async fn judge(
    ctx: &Context,
    key: &Key,
    autoscaler: &HorizontalPodAutoscaler,
) -> Result<HorizontalPodAutoscalerStatus, Error> {
    let spec = &autoscaler.spec;
    let mut next = autoscaler.status.clone().unwrap_or_default();
    let mut conditions = Conditions::of(next.conditions.take().unwrap_or_default());
    next.observed_generation = autoscaler.metadata.generation;
    let client = ctx.cluster.client();
    let found = match Target::find(client, key, &spec.scale_target_ref).await {
        Ok(target) => target.scale().await.map(|scale| (target, scale)),
        Err(error) => Err(error),
    };
    let (target, scale) = match found {
        Ok(found) => found,
        Err(error) => {
            let message =
                format!("the HPA controller was unable to get the target's current scale: {error}");
            ctx.recorder.warning(autoscaler, "FailedGetScale", error);
            conditions.set("AbleToScale", false, "FailedGetScale", message);
            next.conditions = Some(conditions.list);
            return Ok(next);
        }
    };
    conditions.set(
        "AbleToScale",
        true,
        "SucceededGetScale",
        "the HPA controller was able to get the target's current scale".to_owned(),
    );
    let current = scale.replicas;
    next.current_replicas = Some(current);
    let wanted = size(ctx, key, autoscaler, &scale, &mut next, &mut conditions).await;
    if let Some((desired, why)) = wanted {
        next.desired_replicas = desired;
        if desired != current {
            let words = format!("New size: {desired}; reason: {why}");
            match target.resize(desired).await {
                Ok(()) => {
                    ctx.recorder.normal(autoscaler, "SuccessfulRescale", words);
                    let message = format!(
                        "the HPA controller was able to update the target scale to {desired}"
                    );
                    conditions.set("AbleToScale", true, "SucceededRescale", message);
                    ctx.remember(key, |memory| {
                        memory.changed(current, desired, Instant::now())
                    });
                    next.last_scale_time = Some(reconcile::now());
                }
                Err(error) => {
                    let message = format!(
                        "the HPA controller was unable to update the target scale: {error}"
                    );
                    ctx.recorder.warning(
                        autoscaler,
                        "FailedRescale",
                        format!("{words}; error: {error}"),
                    );
                    conditions.set("AbleToScale", false, "FailedUpdateScale", message);
                    next.desired_replicas = current;
                }
            }
        }
    } else {
        next.desired_replicas = current;
    }
    next.conditions = Some(conditions.list);
    Ok(next)
}

/// The size that the target should have and why; `None` if that cannot be told.
async fn size(
    ctx: &Context,
    key: &Key,
    autoscaler: &HorizontalPodAutoscaler,
    scale: &Scale,
    next: &mut HorizontalPodAutoscalerStatus,
    conditions: &mut Conditions,
) -> Option<(i32, String)> {
    let spec = &autoscaler.spec;
    let (current, least) = (scale.replicas, spec.min_replicas.unwrap_or(1));
    if current == 0 && least != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        conditions.set(
            "ScalingActive",
            false,
            "ScalingDisabled",
            message.to_owned(),
        );
        return Some((0, String::new()));
    }
    if current > spec.max_replicas {
        return Some((
            spec.max_replicas,
            "Current number of replicas above Spec.MaxReplicas".to_owned(),
        ));
    }
    if current < least {
        return Some((
            least,
            "Current number of replicas below Spec.MinReplicas".to_owned(),
        ));
    }
    let samples = target::samples(ctx.cluster.client(), &key.namespace).await;
    let pods = ctx
        .pods
        .in_namespace(&key.namespace, |pod| scale.selects(pod));
    let (proposed, why) = propose(ctx, autoscaler, current, &pods, &samples, next, conditions)?;
    let verdict = ctx.remember(key, |memory| {
        memory.bound(spec, current, proposed, Instant::now())
    });
    conditions.set(
        "AbleToScale",
        true,
        verdict.able.0,
        verdict.able.1.to_owned(),
    );
    let (limited, words) = verdict.limited;
    conditions.set("ScalingLimited", limited, words.0, words.1.to_owned());
    let why = match verdict.replicas < current {
        true => "All metrics below target".to_owned(),
        false => format!("{why} above target"),
    };
    Some((verdict.replicas, why))
}

/// The highest proposal of all metrics, with the metric's words. A metric that cannot be read
/// keeps the target from shrinking.
fn propose(
    ctx: &Context,
    autoscaler: &HorizontalPodAutoscaler,
    current: i32,
    pods: &[Arc<Pod>],
    samples: &Result<BTreeMap<String, Sample>, String>,
    next: &mut HorizontalPodAutoscalerStatus,
    conditions: &mut Conditions,
) -> Option<(i32, String)> {
    let now = reconcile::now();
    let metrics = autoscaler.spec.metrics.as_deref().unwrap_or_default();
    let tolerance = behavior::tolerance(&autoscaler.spec);
    let mut best: Option<(i32, String)> = None;
    let mut shown: Vec<MetricStatus> = Vec::new();
    let mut failures: Vec<(&str, String)> = Vec::new();
    for metric in metrics {
        let judged = status::resource(metric).and_then(|(resource, target)| {
            let samples = samples.as_ref().map_err(|error| {
                format!(
                    "unable to get metrics for resource {}: {error}",
                    resource.name
                )
            })?;
            usage::propose(pods, samples, resource, target, current, tolerance, &now)
        });
        match judged {
            Ok(proposal) => {
                shown.push(status::metric(metric, &proposal));
                if best
                    .as_ref()
                    .is_none_or(|(replicas, _)| proposal.replicas > *replicas)
                {
                    best = Some((proposal.replicas, status::words(metric, &proposal)));
                }
            }
            Err(error) => failures.push(status::failure(metric, error)),
        }
    }
    next.current_metrics = (!shown.is_empty()).then_some(shown);
    for (reason, error) in &failures {
        ctx.recorder.warning(autoscaler, *reason, error.clone());
    }
    let shrinks = best
        .as_ref()
        .is_none_or(|(replicas, _)| *replicas < current);
    if let Some((reason, error)) = failures.first().filter(|_| shrinks) {
        let message = format!(
            "invalid metrics ({} invalid out of {}), first error is: {error}",
            failures.len(),
            metrics.len()
        );
        ctx.recorder
            .warning(autoscaler, "FailedComputeMetricsReplicas", message);
        let message = format!("the HPA was unable to compute the replica count: {error}");
        conditions.set("ScalingActive", false, reason, message);
        return None;
    }
    let (replicas, words) = best?;
    let message =
        format!("the HPA was able to successfully calculate a replica count from {words}");
    conditions.set("ScalingActive", true, "ValidMetricFound", message);
    Some((replicas, words))
}

impl Context {
    fn remember<T>(&self, key: &Key, work: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        work(memories.entry(key.clone()).or_default())
    }
}

#[cfg(test)]
mod tests;
