//! Services and EndpointSlices → places that are listened on.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Service, ServiceStatus};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use lifecycle::{Stage, Tasks};
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, Recorder, write};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::Settings;
use crate::backends::Backends;
use crate::front::{self, Open};
use crate::plan::{self, Place, Plan, Transport};

const WORKERS: usize = 4;
/// Connections of all Services at a time; more wait in the kernel.
const MOST_CONNECTIONS: usize = 32_768;
/// A place that could not be opened is tried again after this long.
const AGAIN: Duration = Duration::from_secs(30);
/// Label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Condition about addresses that are not answered; only there while there are some.
const SERVED: &str = "suimon.dev/Served";

struct Context {
    cluster: Cluster,
    settings: Settings,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    recorder: Recorder,
    running: Mutex<HashMap<Key, Running>>,
    /// Futures of places, for the task that drives them.
    serve: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    room: Arc<Semaphore>,
}

/// What is open for one Service.
#[derive(Default)]
struct Running {
    backends: BTreeMap<(u16, Transport), Arc<Backends>>,
    open: HashMap<Place, Open>,
}

/// Answers Services until the stage `Controllers` stops.
pub fn start(cluster: &Cluster, settings: Settings, tasks: &Tasks) {
    let services = cluster.informer::<Service>(tasks);
    let slices = cluster.informer::<EndpointSlice>(tasks);
    let queue = Queue::new();
    services.enqueue_self(&queue);
    let to = queue.clone();
    slices.on_change(move |change| {
        let slice = change.object();
        if let Some(service) = slice.labels().get(SERVICE_NAME) {
            to.add(Key::new(slice.namespace().unwrap_or_default(), service));
        }
    });
    let (serve, places) = mpsc::unbounded_channel();
    let shutdown = tasks.shutdown(Stage::Controllers);
    tasks.spawn("services", Stage::Controllers, drive(places, shutdown));
    let synced = vec![services.synced(), slices.synced()];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        settings,
        services,
        slices,
        recorder: Recorder::start(cluster.client().clone(), "service-proxy", tasks),
        running: Mutex::default(),
        serve,
        room: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
    });
    reconcile::run("service-proxy", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn drive(
    mut places: mpsc::UnboundedReceiver<BoxFuture<'static, ()>>,
    mut shutdown: lifecycle::Shutdown,
) -> Result<(), Infallible> {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            Some(_) = serving.join_next() => {}
            place = places.recv() => match place {
                Some(place) => drop(serving.spawn(place)),
                None => return Ok(()),
            },
        }
    }
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(service) = ctx.services.get(&key) else {
        ctx.running().remove(&key);
        return Ok(Action::Await);
    };
    let slices = ctx.slices_of(&key, &service);
    // What a controller made is reached through the gateway, or said by its owner.
    let made = service
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true));
    let mut plan = plan::plan(
        &service,
        &slices,
        ctx.settings.node_address,
        ctx.settings.no_cluster_ips.as_deref(),
    );
    if made {
        plan.problems.clear();
    }
    let failures = ctx.open(&key, &plan);
    let again = !failures.is_empty();
    plan.problems.extend(failures);
    report(&ctx, &service, &plan.problems).await?;
    Ok(if again {
        Action::After(AGAIN)
    } else {
        Action::Await
    })
}

impl Context {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ours are found by their owner; those that someone else wrote have none.
    fn slices_of(&self, key: &Key, service: &Service) -> Vec<Arc<EndpointSlice>> {
        let uid = service.uid().unwrap_or_default();
        let mut slices = self.slices.owned_by(&key.namespace, &uid);
        slices.extend(self.slices.orphans(&key.namespace));
        slices.retain(|slice| slice.labels().get(SERVICE_NAME) == Some(&key.name));
        slices
    }

    /// Opens and closes places; returns what could not be opened.
    fn open(&self, key: &Key, plan: &Plan) -> Vec<String> {
        let mut running = self.running();
        if plan.ports.is_empty() {
            running.remove(key);
            return Vec::new();
        }
        let running = running.entry(key.clone()).or_default();
        running
            .backends
            .retain(|port, _| plan.ports.contains_key(port));
        let wanted: Vec<Place> = plan
            .ports
            .values()
            .flat_map(|port| port.places.clone())
            .collect();
        running.open.retain(|place, _| wanted.contains(place));
        let mut failures = Vec::new();
        for (number, port) in &plan.ports {
            let backends = running.backends.entry(*number).or_default();
            backends.set(&port.endpoints, port.affinity);
            for place in &port.places {
                if running.open.contains_key(place) {
                    continue;
                }
                let room = Arc::clone(&self.room);
                match front::open(*place, Arc::clone(backends), room, &self.settings.handover) {
                    Ok((open, serve)) => {
                        running.open.insert(*place, open);
                        // The task is gone only when the process stops.
                        let _ = self.serve.send(serve);
                    }
                    Err(error) => {
                        let address = place.address;
                        failures.push(format!("cannot listen on {address}: {error}"));
                    }
                }
            }
        }
        failures
    }
}

/// Says what is not answered, and takes it back once it is.
async fn report(ctx: &Context, service: &Service, problems: &[String]) -> Result<(), Error> {
    let status = service.status.clone().unwrap_or_default();
    let next = with_problems(service, status.clone(), problems);
    if next == status {
        return Ok(());
    }
    if !problems.is_empty() {
        ctx.recorder
            .warning(service, "NotServed", problems.join("; "));
    }
    let client = ctx.cluster.client();
    match write::replaced_status(client, service, Some(&status), &next).await {
        Ok(Some(written)) => ctx.services.learn(written),
        Ok(None) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn with_problems(
    service: &Service,
    mut status: ServiceStatus,
    problems: &[String],
) -> ServiceStatus {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let before = conditions
        .iter()
        .position(|condition| condition.type_ == SERVED);
    let before = before.map(|index| conditions.remove(index));
    if !problems.is_empty() {
        let message = problems.join("; ");
        let same = before.filter(|before| before.message == message);
        conditions.push(same.unwrap_or_else(|| Condition {
            type_: SERVED.to_owned(),
            status: "False".to_owned(),
            reason: "NotServed".to_owned(),
            message,
            observed_generation: service.metadata.generation,
            last_transition_time: reconcile::now(),
        }));
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    status
}

#[cfg(test)]
mod tests;
