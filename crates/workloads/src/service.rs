//! Addresses of Services: cluster IPs, node ports, load balancers.
//!
//! They live in the Services themselves; the books are rebuilt from them at start. One worker
//! allocates, so two Services never get the same. Whether an address is answered is the business
//! of the `services` crate.

mod addresses;
mod exposure;
mod plan;

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, write};
use serde_json::json;

pub use addresses::AddressRange;
use addresses::Addresses;
use exposure::NodePorts;
use plan::{Problems, Step};

/// Where addresses of Services come from.
#[derive(Clone, Debug)]
pub struct ServiceAddresses {
    /// Cluster IPs.
    pub cluster_ips: AddressRange,
    /// Loopback addresses that stand for load balancers.
    pub load_balancers: AddressRange,
    /// Node ports that are given out; users may choose others.
    pub node_ports: RangeInclusive<u16>,
}

struct Context {
    cluster: Cluster,
    services: Informer<Service>,
    balancers: AddressRange,
    books: Mutex<Books>,
}

/// What is taken.
struct Books {
    cluster_ips: Addresses,
    balancers: Addresses,
    node_ports: NodePorts,
}

pub(crate) fn start(cluster: &Cluster, addresses: ServiceAddresses, tasks: &Tasks) {
    let services = cluster.informer::<Service>(tasks);
    let queue = Queue::new();
    services.enqueue_self(&queue);
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        services: services.clone(),
        balancers: addresses.load_balancers,
        books: Mutex::new(Books {
            cluster_ips: Addresses::new(addresses.cluster_ips),
            balancers: Addresses::new(addresses.load_balancers),
            node_ports: NodePorts::new(addresses.node_ports),
        }),
    });
    // Everything stored must be known before the first address is given out.
    let ready = {
        let (services, context) = (services.clone(), Arc::clone(&context));
        async move {
            services.synced().await;
            let mut stored = services.list();
            stored.sort_by_key(|service| service.metadata.creation_timestamp.clone());
            let mut books = context.books();
            for service in stored {
                books.note(&service, context.balancers);
            }
        }
    };
    let synced: Vec<futures::future::BoxFuture<'static, ()>> = vec![Box::pin(ready)];
    reconcile::run("service", queue, 1, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

impl Context {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Takes what a stored Service has.
    fn note(&mut self, service: &Service, balancers: AddressRange) {
        let key = Key::of(service);
        if let Some(address) = plan::address(service) {
            self.cluster_ips.claim(address, &key);
        }
        if let Some(address) = exposure::balancer(service, balancers) {
            self.balancers.claim(address, &key);
        }
        self.node_ports.note(service, &key);
    }

    fn release(&mut self, key: &Key) {
        self.cluster_ips.release(key);
        self.balancers.release(key);
        self.node_ports.release(key);
    }
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(service) = ctx.services.get(&key) else {
        ctx.books().release(&key);
        return Ok(Action::Await);
    };
    let client = ctx.cluster.client();
    let mut problems = Problems::default();
    let (step, ports, balancer) = {
        let mut books = ctx.books();
        let step = plan::address_step(&service, &key, &mut books.cluster_ips);
        let (ports, no_port) = exposure::node_ports(&service, &key, &mut books.node_ports);
        let (balancer, no_balancer) =
            exposure::load_balancer(&service, &key, ctx.balancers, &mut books.balancers);
        problems.exposure = no_port.or(no_balancer);
        (step, ports, balancer)
    };
    let mut current = service.as_ref().clone();
    let mut spec = serde_json::Map::new();
    match step {
        Step::Keep => {}
        Step::Write(address) => {
            let text = address.to_string();
            spec.insert("clusterIP".to_owned(), json!(text));
            spec.insert("clusterIPs".to_owned(), json!([text]));
            spec.insert("ipFamilies".to_owned(), json!(["IPv4"]));
            spec.insert("ipFamilyPolicy".to_owned(), json!("SingleStack"));
        }
        Step::Problem(problem) => problems.address = Some(problem),
    }
    if let Some(ports) = ports {
        spec.insert("ports".to_owned(), json!(ports));
    }
    if !spec.is_empty() {
        // Of this version: a list that was changed meanwhile must not be written over.
        let patch =
            json!({"metadata": {"resourceVersion": service.resource_version()}, "spec": spec});
        current = write::merge::<Service>(client, &key, &patch).await?;
    }
    let status = plan::status(&current, &problems, balancer, &reconcile::now());
    write::status(client, &current, current.status.as_ref(), &status).await?;
    Ok(Action::Await)
}

#[cfg(test)]
mod tests;
