//! Tells users what became of their Kubernetes Ingresses: where the gateway is, in the status, and
//! what is not served, in Events, since the status has no place for it.
//!
//! Told by the publisher after a publish returned.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use dialects::{Diagnostic, Name};
use futures::future::BoxFuture;
use k8s_openapi::api::networking::v1::{
    Ingress, IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressPortStatus,
    IngressStatus,
};
use kube::Client;
use lifecycle::Tasks;
use reconcile::{Action, Error, Informer, Key, Queue, Recorder};

use crate::index::IngressOutcome;

/// Status writes in flight at once.
const WORKERS: usize = 2;

/// What is told about Ingresses. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct IngressStatuses {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    ingresses: Informer<Ingress>,
    recorder: Recorder,
    status: IngressStatus,
    /// Findings that were told already.
    told: Mutex<HashMap<Name, Vec<Diagnostic>>>,
    queue: Queue<Key>,
}

impl IngressStatuses {
    pub(crate) fn new(
        client: Client,
        ingresses: Informer<Ingress>,
        recorder: Recorder,
        addresses: &[SocketAddr],
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                ingresses,
                recorder,
                status: status(addresses),
                told: Mutex::default(),
                queue: Queue::new(),
            }),
        }
    }

    /// Starts writing once the caches are complete.
    pub(crate) fn start(&self, synced: Vec<BoxFuture<'static, ()>>, tasks: &Tasks) {
        let shared = Arc::clone(&self.shared);
        reconcile::run(
            "ingress-status",
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
    pub(crate) fn tell(&self, outcomes: Vec<(Name, Option<IngressOutcome>)>) {
        let told = self.shared.told.lock();
        let mut told = told.unwrap_or_else(PoisonError::into_inner);
        for (name, outcome) in outcomes {
            let Some(outcome) = outcome else {
                told.remove(&name);
                continue;
            };
            let before = told.remove(&name).unwrap_or_default();
            let new = outcome.diagnostics.iter().filter(|it| !before.contains(it));
            for finding in new {
                let message = format!("{}: {}", finding.field, finding.message);
                self.shared
                    .recorder
                    .warning(&*outcome.ingress, finding.reason, message);
            }
            self.shared
                .queue
                .add(Key::new(&*name.namespace, &*name.name));
            told.insert(name, outcome.diagnostics);
        }
    }
}

impl Shared {
    async fn write(&self, key: &Key) -> Result<Action, Error> {
        let Some(ingress) = self.ingresses.get(key) else {
            return Ok(Action::Await);
        };
        let current = ingress.status.as_ref();
        match reconcile::write::status(&self.client, &*ingress, current, &self.status).await {
            Ok(_) => Ok(Action::Await),
            Err(error) if error.is_not_found() => Ok(Action::Await),
            Err(error) => Err(error),
        }
    }
}

/// Each address once, with its ports.
fn status(addresses: &[SocketAddr]) -> IngressStatus {
    let ips: BTreeSet<_> = addresses.iter().map(SocketAddr::ip).collect();
    let ports = |ip| -> Vec<IngressPortStatus> {
        let own = addresses.iter().filter(|address| address.ip() == ip);
        own.map(|address| IngressPortStatus {
            error: None,
            port: i32::from(address.port()),
            protocol: "TCP".to_owned(),
        })
        .collect()
    };
    let point = |ip| IngressLoadBalancerIngress {
        hostname: None,
        ip: Some(std::net::IpAddr::to_string(&ip)),
        ports: Some(ports(ip)),
    };
    IngressStatus {
        load_balancer: Some(IngressLoadBalancerStatus {
            ingress: Some(ips.into_iter().map(point).collect()),
        }),
    }
}
