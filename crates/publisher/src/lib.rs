//! Everything the data plane needs from the API: routes and endpoints → snapshots; writes status.
//!
//! Watches fill an [`inbox`]; one task takes what has gathered there, lets the [`index`]
//! translate what is concerned, and publishes one snapshot. Nothing is debounced: a change that
//! comes alone is published at once, because a cold start waits for it, and a burst gathers by
//! itself while the round before runs. Status is written only after the publish returned.

mod addresses;
#[cfg(test)]
mod asked;
mod asking;
mod backend_service;
mod binds;
mod certificate;
mod few;
mod foreign;
mod foreign_status;
mod gateway_service;
mod gateway_status;
mod generated;
mod inbox;
mod index;
mod ingress_status;
mod issuers;
mod lint;
mod mesh_status;
mod names;
mod staple;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::certificates::ClusterTrustBundle;
use api::gateway::v1::{
    BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, ReferenceGrant,
    TcpRoute, TlsRoute, UdpRoute,
};
use api::gateway::v1alpha1::{Backend, BackendTrafficPolicy, TelemetryPolicy};
use api::names::{CLUSTER_DOMAIN, GATEWAY_LOCAL_SERVICE, GATEWAY_SERVICE, SYSTEM_NAMESPACE};
use api::networking::v1alpha1::Ingress;
use api::serving::v1::Revision;
use dialects::foreign::Kind;
use dialects::gateway_api::Adopt;
use dialects::knative::LoadBalancers;
use dialects::{GatewayAddress, GatewayPorts};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1 as kubernetes;
use lifecycle::{Publish, Stage, Tasks};
use reconcile::{Cluster, Informer, Recorder};
use routing::Snapshot;
use tokio::time::Instant;

pub use crate::addresses::GatewayRange;
pub use crate::binds::Sockets;
use crate::foreign_status::ForeignStatuses;
use crate::gateway_status::{Caches, GatewayStatuses};
use crate::generated::GeneratedObjects;
use crate::inbox::Inbox;
use crate::index::Index;
use crate::ingress_status::IngressStatuses;
use crate::issuers::Issuers;
pub use crate::issuers::{Discover, document};
pub use crate::lint::{Finding, Report, lint, migrate};
use crate::names::Names;
pub use crate::names::{LOOK_UP_EVERY, Resolver, SystemResolver};
use crate::status::Statuses;

/// What the publisher must know.
#[derive(Clone)]
pub struct Settings {
    /// The class of Ingresses that are ours, normally [`api::names::INGRESS_CLASS`].
    pub ingress_class: String,
    /// Where the gateway's external listeners are reached from this machine. A Service of type
    /// ExternalName that names the gateway is served by these.
    pub external_addresses: Vec<SocketAddr>,
    /// The same for cluster-local listeners.
    pub local_addresses: Vec<SocketAddr>,
    /// Whose GatewayClasses are ours.
    pub adopt: Adopt,
    /// Addresses for Gateways that ask for none.
    pub gateway_range: GatewayRange,
    /// Cluster IPs that Gateways may ask for; none if they cannot be answered here.
    pub cluster_ips: Option<GatewayRange>,
    /// Whether calls of pods come from addresses of their own, so that they can be told apart.
    pub tells_callers: bool,
    /// Where their sockets are.
    pub sockets: Arc<dyn Sockets>,
    /// Whether the gateway issues certificates itself for hosts that have none.
    pub issues_certificates: bool,
    /// Where the shared listeners are.
    pub ports: GatewayPorts,
    /// Kinds of other gateways that are served, normally [`dialects::foreign::kinds`].
    pub kinds: &'static [&'static Kind],
    /// Looks up the names of hosts outside of the cluster.
    pub resolver: Arc<dyn Resolver>,
    /// How often, normally [`LOOK_UP_EVERY`].
    pub look_up_every: Duration,
    /// Asks issuers of tokens where their keys are.
    pub issuers: Arc<dyn Discover>,
}

/// Starts watching and publishing. The first snapshot is published once every watch has told all
/// it has, so the first change that readers see is complete, even if it is empty.
pub fn start(cluster: &Cluster, settings: Settings, publish: Publish<Snapshot>, tasks: &Tasks) {
    let inbox = Arc::new(Inbox::default());
    let (ingresses, mut synced) = follow_knative(cluster, &inbox, tasks);
    let (caches, more) = follow_gateway_api(cluster, &inbox, tasks);
    synced.extend(more);
    let (store, more) = foreign::follow(cluster.client(), settings.kinds, &inbox, tasks);
    synced.extend(more);
    let names = LoadBalancers {
        public: domain(GATEWAY_SERVICE),
        private: domain(GATEWAY_LOCAL_SERVICE),
    };
    let gateway = vec![
        GatewayAddress {
            host: names.public.clone(),
            addresses: settings.external_addresses.clone(),
        },
        GatewayAddress {
            host: names.private.clone(),
            addresses: settings.local_addresses.clone(),
        },
    ];
    let kubernetes = cluster.informer::<kubernetes::Ingress>(tasks);
    inbox::follow(&inbox, &kubernetes, |pending| {
        &mut pending.kubernetes_ingresses
    });
    synced.push(kubernetes.synced().shared());
    let recorder = Recorder::start(cluster.client().clone(), "suimon-gateway", tasks);
    let addresses = &settings.external_addresses;
    let foreign = ForeignStatuses::new(cluster.client().clone(), store, recorder.clone());
    foreign.start(again(&synced), tasks);
    let kubernetes =
        IngressStatuses::new(cluster.client().clone(), kubernetes, recorder, addresses);
    kubernetes.start(again(&synced), tasks);
    let knative = Statuses::new(cluster.client().clone(), ingresses, names);
    knative.start(again(&synced), tasks);
    let gateways = GatewayStatuses::new(cluster.client().clone(), caches);
    gateways.start(&synced, tasks);
    let generated = GeneratedObjects::new(cluster.client().clone());
    generated.start(again(&synced), tasks);
    mesh_status::start(cluster, settings.tells_callers, tasks);
    let told = Told {
        generated,
        knative,
        gateways,
        kubernetes,
        foreign,
    };
    let names = Names::start(
        Arc::clone(&settings.resolver),
        settings.look_up_every,
        &inbox,
        tasks,
    );
    let issuers = Issuers::start(Arc::clone(&settings.issuers), &inbox, tasks);
    let index = Index::new(&settings, gateway);
    let mut shutdown = tasks.shutdown(Stage::Controllers);
    tasks.spawn("publisher", Stage::Controllers, async move {
        let work = async {
            join_all(again(&synced)).await;
            run(&inbox, index, &publish, &told, (&names, &issuers)).await;
        };
        tokio::select! {
            () = work => {}
            () = shutdown.requested() => {}
        }
        Ok::<(), reconcile::Error>(())
    });
}

/// Resolves when a cache is complete; can be awaited by many.
type Synced = futures::future::Shared<BoxFuture<'static, ()>>;

fn again(synced: &[Synced]) -> Vec<BoxFuture<'static, ()>> {
    synced.iter().map(|synced| synced.clone().boxed()).collect()
}

/// What Knative's Ingresses are made of.
fn follow_knative(
    cluster: &Cluster,
    inbox: &Arc<Inbox>,
    tasks: &Tasks,
) -> (Informer<Ingress>, Vec<Synced>) {
    let ingresses = cluster.informer::<Ingress>(tasks);
    let services = cluster.informer::<Service>(tasks);
    let slices = cluster.informer::<EndpointSlice>(tasks);
    let revisions = cluster.informer::<Revision>(tasks);
    let secrets = cluster.informer::<Secret>(tasks);
    inbox::follow(inbox, &services, |pending| &mut pending.services);
    inbox::follow(inbox, &slices, |pending| &mut pending.slices);
    inbox::follow(inbox, &revisions, |pending| &mut pending.revisions);
    inbox::follow(inbox, &secrets, |pending| &mut pending.secrets);
    inbox::follow(inbox, &ingresses, |pending| &mut pending.ingresses);
    let synced = vec![
        ingresses.synced().shared(),
        services.synced().shared(),
        slices.synced().shared(),
        revisions.synced().shared(),
        secrets.synced().shared(),
    ];
    (ingresses, synced)
}

/// What Gateways and their routes are made of, and what other dialects read besides.
fn follow_gateway_api(
    cluster: &Cluster,
    inbox: &Arc<Inbox>,
    tasks: &Tasks,
) -> (Caches, Vec<Synced>) {
    let namespaces = cluster.informer::<Namespace>(tasks);
    let ingress_classes = cluster.informer::<kubernetes::IngressClass>(tasks);
    let pods = cluster.informer::<Pod>(tasks);
    let config_maps = cluster.informer::<ConfigMap>(tasks);
    let trust_bundles = cluster.informer::<ClusterTrustBundle>(tasks);
    let grants = cluster.informer::<ReferenceGrant>(tasks);
    let caches = Caches {
        classes: cluster.informer::<GatewayClass>(tasks),
        gateways: cluster.informer::<Gateway>(tasks),
        http_routes: cluster.informer::<HttpRoute>(tasks),
        grpc_routes: cluster.informer::<GrpcRoute>(tasks),
        listener_sets: cluster.informer::<ListenerSet>(tasks),
        backend_tls: cluster.informer::<BackendTlsPolicy>(tasks),
        backend_traffic: cluster.informer::<BackendTrafficPolicy>(tasks),
        backends: cluster.informer::<Backend>(tasks),
        telemetry: cluster.informer::<TelemetryPolicy>(tasks),
        tls_routes: cluster.informer::<TlsRoute>(tasks),
        tcp_routes: cluster.informer::<TcpRoute>(tasks),
        udp_routes: cluster.informer::<UdpRoute>(tasks),
    };
    inbox::follow(inbox, &namespaces, |pending| &mut pending.namespaces);
    inbox::follow(inbox, &ingress_classes, |pending| {
        &mut pending.ingress_classes
    });
    inbox::follow_pods(inbox, &pods);
    inbox::follow(inbox, &config_maps, |pending| &mut pending.config_maps);
    inbox::follow(inbox, &trust_bundles, |pending| &mut pending.trust_bundles);
    inbox::follow(inbox, &grants, |pending| &mut pending.grants);
    inbox::follow(inbox, &caches.classes, |pending| &mut pending.classes);
    inbox::follow(inbox, &caches.gateways, |pending| &mut pending.gateways);
    inbox::follow(inbox, &caches.listener_sets, |pending| {
        &mut pending.listener_sets
    });
    inbox::follow(inbox, &caches.backend_tls, |pending| {
        &mut pending.backend_tls_policies
    });
    inbox::follow(inbox, &caches.backend_traffic, |pending| {
        &mut pending.backend_traffic_policies
    });
    inbox::follow(inbox, &caches.backends, |pending| &mut pending.backends);
    inbox::follow(inbox, &caches.telemetry, |pending| &mut pending.telemetry);
    inbox::follow(inbox, &caches.http_routes, |pending| {
        &mut pending.http_routes
    });
    inbox::follow(inbox, &caches.grpc_routes, |pending| {
        &mut pending.grpc_routes
    });
    inbox::follow(inbox, &caches.tls_routes, |pending| &mut pending.tls_routes);
    inbox::follow(inbox, &caches.tcp_routes, |pending| &mut pending.tcp_routes);
    inbox::follow(inbox, &caches.udp_routes, |pending| &mut pending.udp_routes);
    let synced = vec![
        namespaces.synced().shared(),
        ingress_classes.synced().shared(),
        pods.synced().shared(),
        config_maps.synced().shared(),
        trust_bundles.synced().shared(),
        grants.synced().shared(),
        caches.classes.synced().shared(),
        caches.gateways.synced().shared(),
        caches.http_routes.synced().shared(),
        caches.grpc_routes.synced().shared(),
        caches.listener_sets.synced().shared(),
        caches.backend_tls.synced().shared(),
        caches.backend_traffic.synced().shared(),
        caches.backends.synced().shared(),
        caches.telemetry.synced().shared(),
        caches.tls_routes.synced().shared(),
        caches.tcp_routes.synced().shared(),
        caches.udp_routes.synced().shared(),
    ];
    (caches, synced)
}

/// Who tells users what became of their objects.
struct Told {
    generated: GeneratedObjects,
    knative: Statuses,
    gateways: GatewayStatuses,
    kubernetes: IngressStatuses,
    foreign: ForeignStatuses,
}

impl Told {
    fn tell(&self, index: &mut Index) {
        self.generated.tell(index.take_writes());
        self.knative.tell(index.take_outcomes());
        self.gateways.tell(index.take_gateway_outcomes());
        self.kubernetes.tell(index.take_kubernetes_outcomes());
        self.foreign.tell(index.take_foreign_outcomes());
    }
}

/// Rounds in a row that what became of sockets may cause before users are told.
const MOST_ROUNDS: usize = 3;

/// Rounds of: take, translate, publish, open sockets, tell. Ends never.
async fn run(
    inbox: &Inbox,
    mut index: Index,
    publish: &Publish<Snapshot>,
    told: &Told,
    (names, issuers): (&Names, &Issuers),
) {
    let (mut is_first, mut rounds) = (true, 0);
    loop {
        let changed = inbox.changed();
        let now = Instant::now();
        index.apply(inbox.take(), now);
        let rebuilt = index.rebuild(now);
        names.change(index.take_name_changes(), now);
        issuers.change(index.take_issuer_changes(), now);
        if rebuilt.is_dirty || is_first {
            let (snapshot, findings) = index.compile();
            let generation = publish.publish(Arc::new(snapshot));
            tracing::debug!(generation, ?rebuilt, "published");
            for finding in findings {
                tracing::debug!(%finding, "incomplete route");
            }
            is_first = false;
        }
        index.settle_binds(now).await;
        rounds += 1;
        if index.is_behind() && rounds < MOST_ROUNDS {
            continue;
        }
        rounds = 0;
        told.tell(&mut index);
        match index.next_expiry() {
            Some(at) => tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(at) => {}
            },
            None => changed.await,
        }
    }
}

fn domain(service: &str) -> String {
    format!("{service}.{SYSTEM_NAMESPACE}.svc.{CLUSTER_DOMAIN}")
}

#[cfg(test)]
mod tests;
