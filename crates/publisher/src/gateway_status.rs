//! Writes what became of GatewayClasses, Gateways and their routes into their statuses.
//!
//! Told by the publisher after a publish returned and sockets are open. A generation that is not
//! the object's newest is not written: the newer one is on its way and will be told.

mod attached;
mod pace;
mod routes;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::gateway::v1::{
    BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, TcpRoute, TlsRoute,
    UdpRoute,
};
use api::gateway::v1alpha1::{Backend, BackendTrafficPolicy, TelemetryPolicy};
use dialects::Name;
use dialects::gateway_api::{self, PolicyKey, PolicyKind};
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use lifecycle::Tasks;
use reconcile::{Action, Error, Informer, Key, Queue};

use self::pace::Pace;
use crate::gateway_service;
use crate::index::{GatewayOutcome, Outcomes, PolicyTold, RouteKey, RouteOutcome, SetOutcome};
use crate::{Synced, again};

/// Status writes of each queue in flight at once.
const WORKERS: usize = 4;

/// An object whose status is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Due {
    Class(Arc<str>),
    Gateway(Name),
    Set(Name),
    Route(RouteKey),
    Policy(PolicyKey),
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(name) => write!(f, "GatewayClass {name}"),
            Self::Gateway(name) => write!(f, "Gateway {name}"),
            Self::Set(name) => write!(f, "ListenerSet {name}"),
            Self::Policy(key) => write!(f, "{} {}", key.kind.name(), key.name),
            Self::Route(key) => write!(f, "{} {}", key.kind.name(), key.name),
        }
    }
}

/// The caches that statuses are compared with.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) classes: Informer<GatewayClass>,
    pub(crate) gateways: Informer<Gateway>,
    pub(crate) http_routes: Informer<HttpRoute>,
    pub(crate) grpc_routes: Informer<GrpcRoute>,
    pub(crate) listener_sets: Informer<ListenerSet>,
    pub(crate) backend_tls: Informer<BackendTlsPolicy>,
    pub(crate) backend_traffic: Informer<BackendTrafficPolicy>,
    pub(crate) backends: Informer<Backend>,
    pub(crate) telemetry: Informer<TelemetryPolicy>,
    pub(crate) tls_routes: Informer<TlsRoute>,
    pub(crate) tcp_routes: Informer<TcpRoute>,
    pub(crate) udp_routes: Informer<UdpRoute>,
}

/// Outcomes that are to be written. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct GatewayStatuses {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    caches: Caches,
    /// Controller names that are ours at the moment.
    outcomes: Mutex<Held>,
    /// Services as they were applied last.
    services: Mutex<HashMap<Name, Vec<Service>>>,
    /// The same by XBackend; `None` for those that need none.
    pods_of: Mutex<HashMap<Name, Option<Service>>>,
    pace: Pace,
    queue: Queue<Due>,
    /// Routes: thousands of them do not hold up what is said of their Gateway.
    routes: Queue<Due>,
}

#[derive(Default)]
struct Held {
    classes: HashMap<Arc<str>, bool>,
    gateways: HashMap<Name, GatewayOutcome>,
    /// Until they are written: most routes are told about once.
    routes: HashMap<RouteKey, Arc<RouteOutcome>>,
    sets: HashMap<Name, SetOutcome>,
    policies: HashMap<PolicyKey, PolicyTold>,
}

impl GatewayStatuses {
    pub(crate) fn new(client: Client, caches: Caches) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                caches,
                outcomes: Mutex::default(),
                services: Mutex::default(),
                pods_of: Mutex::default(),
                pace: Pace::default(),
                queue: Queue::new(),
                routes: Queue::new(),
            }),
        }
    }

    /// Starts writing once the caches are complete.
    pub(crate) fn start(&self, synced: &[Synced], tasks: &Tasks) {
        let queues = [
            ("gateway-status", &self.shared.queue),
            ("route-status", &self.shared.routes),
        ];
        for (name, queue) in queues {
            let shared = Arc::clone(&self.shared);
            let (queue, synced) = (queue.clone(), again(synced));
            reconcile::run(name, queue, WORKERS, synced, tasks, move |due| {
                let shared = Arc::clone(&shared);
                async move { shared.write(&due).await }
            });
        }
    }

    /// Takes what became of objects.
    pub(crate) fn tell(&self, outcomes: Outcomes) {
        let mut held = self.shared.held();
        for (name, is_ours) in outcomes.classes {
            held.classes.insert(Arc::clone(&name), is_ours);
            self.shared.queue.add(Due::Class(name));
        }
        for (name, outcome) in outcomes.gateways {
            match outcome {
                Some(outcome) => {
                    held.gateways.insert(name.clone(), outcome);
                    self.shared.queue.add(Due::Gateway(name));
                }
                None => {
                    held.gateways.remove(&name);
                    self.shared.pace.forget(&Due::Gateway(name.clone()));
                    let services = self.shared.services.lock();
                    services
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&name);
                }
            }
        }
        for (name, outcome) in outcomes.sets {
            match outcome {
                Some(outcome) => {
                    held.sets.insert(name.clone(), outcome);
                    self.shared.queue.add(Due::Set(name));
                }
                None => {
                    held.sets.remove(&name);
                    self.shared.pace.forget(&Due::Set(name));
                }
            }
        }
        for (key, told) in outcomes.policies {
            match told {
                Some(told) => {
                    held.policies.insert(key.clone(), told);
                    self.shared.queue.add(Due::Policy(key));
                }
                None => {
                    held.policies.remove(&key);
                    if key.kind == PolicyKind::Backend {
                        let pods_of = self.shared.pods_of.lock();
                        let mut pods_of = pods_of.unwrap_or_else(PoisonError::into_inner);
                        pods_of.remove(&key.name);
                    }
                }
            }
        }
        for (key, outcome) in outcomes.routes {
            match outcome {
                Some(outcome) => {
                    held.routes.insert(key.clone(), Arc::new(outcome));
                    self.shared.routes.add(Due::Route(key));
                }
                None => drop(held.routes.remove(&key)),
            }
        }
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, due: &Due) -> Result<Action, Error> {
        match due {
            Due::Class(name) => self.write_class(name).await?,
            Due::Gateway(name) => return self.write_gateway(name).await,
            Due::Set(name) => return self.write_set(name).await,
            Due::Policy(key) => {
                let told = self.held().policies.get(key).cloned();
                if let Some(told) = told {
                    match key.kind {
                        PolicyKind::BackendTls => {
                            self.write_policy(&self.caches.backend_tls, key, &told)
                                .await?;
                        }
                        PolicyKind::Traffic => {
                            self.write_policy(&self.caches.backend_traffic, key, &told)
                                .await?;
                        }
                        PolicyKind::Telemetry => {
                            self.write_policy(&self.caches.telemetry, key, &told)
                                .await?;
                        }
                        PolicyKind::Backend => {
                            self.apply_backend_service(&key.name).await?;
                            self.write_policy(&self.caches.backends, key, &told).await?;
                        }
                    }
                }
            }
            Due::Route(key) => {
                let outcome = self.held().routes.get(key).cloned();
                if let Some(outcome) = outcome {
                    self.write_route_of(key, &outcome).await?;
                    let is_written = |held: &Arc<RouteOutcome>| Arc::ptr_eq(held, &outcome);
                    let mut held = self.held();
                    if held.routes.get(key).is_some_and(is_written) {
                        held.routes.remove(key);
                    }
                }
            }
        }
        Ok(Action::Await)
    }

    async fn write_class(&self, name: &Arc<str>) -> Result<(), Error> {
        let is_ours = self.held().classes.get(name) == Some(&true);
        let class = self.caches.classes.get(&Key::new("", &**name));
        let Some(class) = class.filter(|_| is_ours) else {
            return Ok(());
        };
        let next = gateway_api::class_status(&class, reconcile::now());
        if class.status.as_ref() == Some(&next) {
            return Ok(());
        }
        let mut object = (*class).clone();
        object.status = Some(next);
        let api: Api<GatewayClass> = Api::all(self.client.clone());
        api.replace_status(name, &parameters(), &object).await?;
        Ok(())
    }

    async fn write_gateway(&self, name: &Name) -> Result<Action, Error> {
        let outcome = self.held().gateways.get(name).cloned();
        let gateway = self
            .caches
            .gateways
            .get(&Key::new(&*name.namespace, &*name.name));
        let (Some(outcome), Some(gateway)) = (outcome, gateway) else {
            return Ok(Action::Await);
        };
        if gateway.metadata.generation.unwrap_or_default() != outcome.generation {
            return Ok(Action::Await);
        }
        let attached: BTreeMap<&str, usize> = outcome
            .attached
            .iter()
            .map(|(name, count)| (&**name, *count))
            .collect();
        let next = gateway_api::gateway_status(
            &gateway,
            &outcome.plan,
            &attached,
            &outcome.failed,
            &reconcile::now(),
        );
        let current = gateway.status.as_ref();
        let due = Due::Gateway(name.clone());
        if let Some(later) = self.pace.later(&due, current, &next) {
            return Ok(Action::After(later));
        }
        let written =
            reconcile::write::replaced_status(&self.client, &*gateway, current, &next).await?;
        if let Some(written) = written {
            self.caches.gateways.learn(written);
        }
        self.apply_services(name, &gateway, &outcome).await?;
        Ok(Action::Await)
    }

    /// Makes the Services of a Gateway what they should be; they go with their Gateway.
    async fn apply_services(
        &self,
        name: &Name,
        gateway: &Gateway,
        outcome: &GatewayOutcome,
    ) -> Result<(), Error> {
        let wanted = gateway_service::services(gateway, &outcome.plan);
        let services = || self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let before = services().get(name).cloned();
        if before.as_ref() == Some(&wanted) {
            return Ok(());
        }
        // Whoever was here before may have left more.
        if before.is_none_or(|before| before.len() > wanted.len()) {
            self.remove_services(name, gateway, &wanted).await?;
        }
        for service in &wanted {
            let mut object = service.clone();
            let status = object.status.take();
            let applied = reconcile::write::apply(&self.client, &object).await?;
            if applied.status != status {
                let stored = applied.status.clone();
                let status = status.unwrap_or_default();
                reconcile::write::status(&self.client, &applied, stored.as_ref(), &status).await?;
            }
        }
        services().insert(name.clone(), wanted);
        Ok(())
    }

    /// Takes the Services of a Gateway away that it does not need any more.
    async fn remove_services(
        &self,
        name: &Name,
        gateway: &Gateway,
        wanted: &[Service],
    ) -> Result<(), Error> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &name.namespace);
        let labelled = ListParams::default().labels(&gateway_service::selector(&name.name));
        for service in api.list(&labelled).await? {
            let own = service.metadata.name.as_deref().unwrap_or_default();
            let mut needed = wanted.iter().map(|it| it.metadata.name.as_deref());
            if gateway_service::is_of(&service, gateway) && !needed.any(|it| it == Some(own)) {
                let key = Key::new(&*name.namespace, own);
                reconcile::write::delete::<Service>(&self.client, &key).await?;
            }
        }
        Ok(())
    }

    /// Controller names that are ours at the moment.
    fn controllers(&self) -> Vec<String> {
        let classes = self.caches.classes.list();
        let held = self.held();
        let ours = classes.iter().filter(|class| {
            let name = class.metadata.name.as_deref().unwrap_or_default();
            held.classes.get(name) == Some(&true)
        });
        let names = ours.map(|class| class.spec.controller_name.clone());
        names.chain([api::gateway::CONTROLLER.to_owned()]).collect()
    }
}

fn parameters() -> PostParams {
    PostParams {
        dry_run: false,
        field_manager: Some(reconcile::MANAGER.to_owned()),
    }
}
