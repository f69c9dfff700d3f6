//! StatefulSet → Pods with names, host names and claims that stay theirs.
//!
//! In order unless the set asks for `Parallel`: one pod is Ready before the next is made, and gone
//! before the one below it goes.

mod plan;
mod pods;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Error, Informer, Key, Queue, Recorder, write};
use serde_json::json;

use crate::children::{Doomed, Pods, Shared};
use crate::claim::{claim, enqueue_adopters};
use crate::history::{self, REVISION_HASH};
use plan::Observed;

const WORKERS: usize = 4;
const COMPONENT: &str = "statefulset-controller";

struct Context {
    sets: Informer<StatefulSet>,
    revisions: Informer<ControllerRevision>,
    claims: Informer<PersistentVolumeClaim>,
    pods: Pods<StatefulSet>,
    recorder: Recorder,
}

pub(crate) fn start(shared: &Shared, tasks: &Tasks) {
    let sets = shared.cluster.informer::<StatefulSet>(tasks);
    let revisions = shared.cluster.informer::<ControllerRevision>(tasks);
    let claims = shared.cluster.informer::<PersistentVolumeClaim>(tasks);
    let informer = shared.cluster.informer::<Pod>(tasks);
    let pods = Pods::new(shared, informer.clone(), COMPONENT).telling(words);
    let queue = Queue::new();
    sets.enqueue_self(&queue);
    informer.enqueue_owner::<StatefulSet>(&queue);
    enqueue_adopters(&sets, &informer, &queue, |set| {
        Some(set.spec.as_ref()?.selector.clone())
    });
    let synced = vec![
        sets.synced(),
        informer.synced(),
        revisions.synced(),
        claims.synced(),
    ];
    let context = Arc::new(Context {
        sets,
        revisions,
        claims,
        pods,
        recorder: shared.recorder.of(COMPONENT),
    });
    reconcile::run("statefulset", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

/// Kubernetes words the Events of this controller unlike those of all others.
fn words(verb: &str, owner: &str, pod: &str, error: Option<&Error>) -> String {
    match error {
        None => format!("{verb} Pod {pod} in StatefulSet {owner} successful"),
        Some(error) => format!("{verb} Pod {pod} in StatefulSet {owner} failed error: {error}"),
    }
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(set) = ctx.sets.get(&key) else {
        ctx.pods.forget(&key);
        return Ok(Action::Await);
    };
    let Some(spec) = set.spec.as_ref() else {
        return Ok(Action::Await);
    };
    // In this order: what is struck off meanwhile is in the cache by then.
    let unseen = ctx.pods.unseen(&key);
    let client = ctx.pods.client();
    let is_member = |pod: &Pod| plan::ordinal(&set, &pod.name_any()).is_some();
    let pods = claim(
        client,
        &ctx.pods.informer,
        set.as_ref(),
        &spec.selector,
        is_member,
    )
    .await?;
    let uid = set.uid().unwrap_or_default();
    let known = history::sorted(ctx.revisions.owned_by(&key.namespace, &uid));
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Await);
    }
    let update =
        history::sync(client, &ctx.revisions, set.as_ref(), &spec.template, &known).await?;
    let current = current(&set, &known).unwrap_or_else(|| Arc::clone(&update));
    let (current_name, update_name) = (current.name_any(), update.name_any());
    let observed = Observed {
        set: &set,
        pods: &pods,
        unseen: &unseen,
        current: &current_name,
        update: &update_name,
        now: &reconcile::now(),
    };
    let plan = plan::plan(&observed);
    let applied = apply(&ctx, &set, &plan, &current, &update).await;
    let status =
        write::replaced_status(client, set.as_ref(), set.status.as_ref(), &plan.status).await?;
    if let Some(written) = status {
        ctx.sets.learn(written);
    }
    applied?;
    let mut live: HashSet<String> = [current_name, update_name].into();
    let labels = pods
        .iter()
        .filter_map(|pod| pod.labels().get(REVISION_HASH));
    live.extend(labels.cloned());
    let limit = spec.revision_history_limit.unwrap_or(10);
    history::truncate(client, &known, &live, limit).await?;
    Ok(plan.requeue.map_or(Action::Await, Action::After))
}

/// The revision that pods come from.
fn current(
    set: &StatefulSet,
    known: &[Arc<ControllerRevision>],
) -> Option<Arc<ControllerRevision>> {
    let name = set.status.as_ref()?.current_revision.as_deref()?;
    let found = known.iter().find(|revision| revision.name_any() == name);
    found.cloned()
}

async fn apply(
    ctx: &Context,
    set: &StatefulSet,
    plan: &plan::Plan,
    current: &ControllerRevision,
    update: &ControllerRevision,
) -> Result<(), Error> {
    for pod in &plan.delete {
        let name = pod.name_any();
        if plan.ended.contains(&name) {
            let key = Key::of(set);
            let message = format!("StatefulSet {key} is recreating failed Pod {name}");
            ctx.recorder.warning(set, "RecreatingFailedPod", message);
        }
        if plan.condemned.contains(&name) && pods::claims_go_with_pod(set) {
            bind_claims(ctx, set, pod).await?;
        }
        ctx.pods.delete(set, &Doomed::of(pod)).await?;
    }
    for (ordinal, updated) in &plan.create {
        let revision = if *updated { update } else { current };
        let spec = set.spec.as_ref();
        let template = history::template(revision)
            .or_else(|| spec.map(|spec| spec.template.clone()))
            .unwrap_or_default();
        let pod = pods::new(set, &template, *ordinal, &revision.name_any());
        make_claims(ctx, set, &pod.name_any()).await?;
        // A pod of this name that is not ours goes first; its end comes back as an event.
        ctx.pods.create(set, pod).await?;
    }
    Ok(())
}

async fn make_claims(ctx: &Context, set: &StatefulSet, pod: &str) -> Result<(), Error> {
    for claim in pods::claims_of(set, pod) {
        if ctx.claims.get(&Key::of(&claim)).is_some() {
            continue;
        }
        let name = claim.name_any();
        let words = format!(
            "create Claim {name} Pod {pod} in StatefulSet {}",
            set.name_any()
        );
        match write::create_if_absent(ctx.pods.client(), &claim).await {
            Ok(Some(_)) => {
                let message = format!("{words} success");
                ctx.recorder.normal(set, "SuccessfulCreate", message);
            }
            Ok(None) => {}
            Err(error) => {
                let message = format!("{words} failed error: {error}");
                ctx.recorder.warning(set, "FailedCreate", message);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Makes the claims of a pod go with it.
async fn bind_claims(ctx: &Context, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
    let owner = json!([{
        "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid(),
    }]);
    for claim in pods::claims_of(set, &pod.name_any()) {
        let patch = json!({"metadata": {"ownerReferences": owner}});
        let key = Key::of(&claim);
        match write::merge::<PersistentVolumeClaim>(ctx.pods.client(), &key, &patch).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
