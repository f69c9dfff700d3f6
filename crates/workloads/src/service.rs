//! Cluster IPs of Services, and an honest word about what Services cannot do here yet.
//!
//! Addresses live in the Services themselves; the bitmap is rebuilt from them at start. One
//! worker allocates, so two Services never get the same address.

mod addresses;
mod plan;

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Service;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, write};
use serde_json::json;

pub use addresses::AddressRange;
use addresses::Addresses;
use plan::Step;

struct Context {
    cluster: Cluster,
    services: Informer<Service>,
    addresses: Mutex<Addresses>,
}

pub(crate) fn start(cluster: &Cluster, range: AddressRange, tasks: &Tasks) {
    let services = cluster.informer::<Service>(tasks);
    let queue = Queue::new();
    services.enqueue_self(&queue);
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        services: services.clone(),
        addresses: Mutex::new(Addresses::new(range)),
    });
    // Every stored address must be known before the first one is given out.
    let ready = {
        let (services, context) = (services.clone(), Arc::clone(&context));
        async move {
            services.synced().await;
            let mut stored = services.list();
            stored.sort_by_key(|service| service.metadata.creation_timestamp.clone());
            let mut addresses = context
                .addresses
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for service in stored {
                if let Some(address) = plan::address(&service) {
                    addresses.claim(address, &Key::of(service.as_ref()));
                }
            }
        }
    };
    let synced: Vec<futures::future::BoxFuture<'static, ()>> = vec![Box::pin(ready)];
    reconcile::run("service", queue, 1, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(service) = ctx.services.get(&key) else {
        ctx.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .release(&key);
        return Ok(Action::Await);
    };
    let client = ctx.cluster.client();
    let step = {
        let mut addresses = ctx.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        plan::address_step(&service, &key, &mut addresses)
    };
    let mut current = service.as_ref().clone();
    let problem = match step {
        Step::Keep => None,
        Step::Write(address) => {
            let text = address.to_string();
            let patch = json!({"spec": {"clusterIP": text, "clusterIPs": [text], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}});
            current = write::merge::<Service>(client, &key, &patch).await?;
            None
        }
        Step::Problem(problem) => Some(problem),
    };
    let status = plan::status(&current, problem.as_ref(), &reconcile::now());
    write::status(client, &current, current.status.as_ref(), &status).await?;
    Ok(Action::Await)
}

#[cfg(test)]
mod tests;
