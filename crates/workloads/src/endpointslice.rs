//! Service + Pods → EndpointSlices: where requests for a Service may go.
//!
//! The gateway sends a request that waits for a cold revision as soon as a slice shows the pod
//! ready, so a ready pod costs one write here and nothing waits for anything.

mod matching;
pub(crate) mod plan;

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, write};

pub(crate) use matching::watch_members;
use plan::Write;

const WORKERS: usize = 8;

struct Context {
    cluster: Cluster,
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    zone: Option<String>,
}

pub(crate) fn start(cluster: &Cluster, zone: Option<String>, tasks: &Tasks) {
    let services = cluster.informer::<Service>(tasks);
    let pods = cluster.informer::<Pod>(tasks);
    let slices = cluster.informer::<EndpointSlice>(tasks);
    let queue = Queue::new();
    watch_members(&services, &pods, &queue);
    // A slice that someone deletes or edits is put right.
    let edited = queue.clone();
    slices.on_change(move |change| {
        if let Some(service) = plan::service_of(change.object()) {
            edited.add(service);
        }
    });
    let synced = vec![services.synced(), pods.synced(), slices.synced()];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        services,
        pods,
        slices,
        zone,
    });
    reconcile::run("endpointslice", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    // Owner references delete the slices of a deleted Service.
    let Some(service) = ctx.services.get(&key) else {
        return Ok(Action::Await);
    };
    let pods = plan::members(&service, &ctx.pods);
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let mut existing = ctx.slices.owned_by(&key.namespace, uid);
    // Someone may have taken its owner from one of ours.
    existing.extend(ctx.slices.orphans(&key.namespace));
    existing.retain(|slice| plan::service_of(slice).as_ref() == Some(&key));
    let (now, zone) = (reconcile::now(), ctx.zone.as_deref());
    let plan = plan::plan(&service, &pods, &existing, &now, zone);
    let client = ctx.cluster.client();
    let writes = plan.writes.iter().map(|step| async {
        match step {
            Write::Create(slice) => {
                // Ours by its name; the cache just did not show it yet.
                if write::create_if_absent(client, slice.as_ref())
                    .await?
                    .is_none()
                {
                    let key = Key::of(slice.as_ref());
                    write::merge::<EndpointSlice>(client, &key, &plan::contents(slice)).await?;
                }
                Ok(())
            }
            Write::Update(slice) => {
                let key = Key::of(slice.as_ref());
                match write::merge::<EndpointSlice>(client, &key, &plan::contents(slice)).await {
                    Err(error) if error.is_not_found() => {
                        write::create_if_absent(client, slice.as_ref())
                            .await
                            .map(drop)
                    }
                    other => other.map(drop),
                }
            }
            Write::Delete(name) => {
                write::delete::<EndpointSlice>(client, &Key::new(&key.namespace, name)).await
            }
        }
    });
    try_join_all(writes).await?;
    Ok(plan.requeue.map_or(Action::Await, Action::After))
}

/// Names its Service by label.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[cfg(test)]
mod tests;
