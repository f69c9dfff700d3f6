//! Writes what the gateway did with an Ingress into its status.
//!
//! Told by the publisher after a publish returned; writes run beside it, so a slow API never
//! delays a snapshot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::networking::v1alpha1::Ingress;
use dialects::Name;
use dialects::knative::{self, LoadBalancers, Outcome};
use futures::future::BoxFuture;
use kube::Client;
use lifecycle::Tasks;
use reconcile::{Action, Error, Informer, Key, Queue};

/// Status writes in flight at once.
const WORKERS: usize = 4;

/// Outcomes that are to be written. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct Statuses {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    ingresses: Informer<Ingress>,
    names: LoadBalancers,
    outcomes: Mutex<HashMap<Key, Outcome>>,
    queue: Queue<Key>,
}

impl Statuses {
    pub(crate) fn new(client: Client, ingresses: Informer<Ingress>, names: LoadBalancers) -> Self {
        let (outcomes, queue) = (Mutex::default(), Queue::new());
        Self {
            shared: Arc::new(Shared {
                client,
                ingresses,
                names,
                outcomes,
                queue,
            }),
        }
    }

    /// Starts writing once the caches are complete.
    pub(crate) fn start(&self, synced: Vec<BoxFuture<'static, ()>>, tasks: &Tasks) {
        let shared = Arc::clone(&self.shared);
        reconcile::run(
            "kingress-status",
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

    /// Takes outcomes (`None`: the object is gone, or not ours any more).
    pub(crate) fn tell(&self, outcomes: Vec<(Name, Option<Outcome>)>) {
        let mut held = self
            .shared
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (name, outcome) in outcomes {
            let key = Key::new(&*name.namespace, &*name.name);
            match outcome {
                Some(outcome) => {
                    held.insert(key.clone(), outcome);
                    self.shared.queue.add(key);
                }
                None => drop(held.remove(&key)),
            }
        }
    }
}

impl Shared {
    async fn write(&self, key: &Key) -> Result<Action, Error> {
        let outcome = self
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned();
        let (Some(outcome), Some(ingress)) = (outcome, self.ingresses.get(key)) else {
            return Ok(Action::Await);
        };
        if ingress.metadata.generation.unwrap_or_default() != outcome.generation {
            // The newer generation is on its way through the publisher and will be told.
            return Ok(Action::Await);
        }
        let next = knative::status(
            ingress.status.as_ref(),
            &outcome,
            &self.names,
            reconcile::now(),
        );
        match reconcile::write::status(
            &self.client,
            ingress.as_ref(),
            ingress.status.as_ref(),
            &next,
        )
        .await
        {
            Ok(_) => Ok(Action::Await),
            Err(error) if error.is_not_found() => Ok(Action::Await),
            Err(error) => Err(error),
        }
    }
}
