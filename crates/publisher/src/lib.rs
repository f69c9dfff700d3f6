//! Everything the data plane needs from the API: routes and endpoints → snapshots; writes status.
//!
//! Five watches fill an [`inbox`]; one task takes what has gathered there, lets the [`index`]
//! translate what is concerned, and publishes one snapshot. Nothing is debounced: a change that
//! comes alone is published at once, because a cold start waits for it, and a burst gathers by
//! itself while the round before runs. Status is written only after the publish returned.

mod certificate;
mod few;
mod inbox;
mod index;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use api::names::{CLUSTER_DOMAIN, GATEWAY_LOCAL_SERVICE, GATEWAY_SERVICE, SYSTEM_NAMESPACE};
use api::networking::v1alpha1::Ingress;
use api::serving::v1::Revision;
use dialects::GatewayAddress;
use dialects::knative::LoadBalancers;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lifecycle::{Publish, Stage, Tasks};
use reconcile::Cluster;
use routing::Snapshot;
use tokio::time::Instant;

use crate::inbox::Inbox;
use crate::index::Index;
use crate::status::Statuses;

/// What the publisher must know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The class of Ingresses that are ours, normally [`api::names::INGRESS_CLASS`].
    pub ingress_class: String,
    /// Where the gateway's external listeners are reached from this machine. A Service of type
    /// ExternalName that names the gateway is served by these.
    pub external_addresses: Vec<SocketAddr>,
    /// The same for cluster-local listeners.
    pub local_addresses: Vec<SocketAddr>,
}

/// Starts watching and publishing. The first snapshot is published once every watch has told all
/// it has, so the first change that readers see is complete, even if it is empty.
pub fn start(cluster: &Cluster, settings: Settings, publish: Publish<Snapshot>, tasks: &Tasks) {
    let ingresses = cluster.informer::<Ingress>(tasks);
    let services = cluster.informer::<Service>(tasks);
    let slices = cluster.informer::<EndpointSlice>(tasks);
    let revisions = cluster.informer::<Revision>(tasks);
    let secrets = cluster.informer::<Secret>(tasks);
    let inbox = Arc::new(Inbox::default());
    inbox::follow(&inbox, &services, |pending| &mut pending.services);
    inbox::follow(&inbox, &slices, |pending| &mut pending.slices);
    inbox::follow(&inbox, &revisions, |pending| &mut pending.revisions);
    inbox::follow(&inbox, &secrets, |pending| &mut pending.secrets);
    inbox::follow(&inbox, &ingresses, |pending| &mut pending.ingresses);
    let synced = || -> Vec<BoxFuture<'static, ()>> {
        vec![
            ingresses.synced(),
            services.synced(),
            slices.synced(),
            revisions.synced(),
            secrets.synced(),
        ]
    };
    let names = LoadBalancers {
        public: domain(GATEWAY_SERVICE),
        private: domain(GATEWAY_LOCAL_SERVICE),
    };
    let gateway = vec![
        GatewayAddress {
            host: names.public.clone(),
            addresses: settings.external_addresses,
        },
        GatewayAddress {
            host: names.private.clone(),
            addresses: settings.local_addresses,
        },
    ];
    let statuses = Statuses::new(cluster.client().clone(), ingresses.clone(), names);
    statuses.start(synced(), tasks);
    let index = Index::new(settings.ingress_class, gateway);
    let synced = synced();
    let mut shutdown = tasks.shutdown(Stage::Controllers);
    tasks.spawn("publisher", Stage::Controllers, async move {
        let work = async {
            join_all(synced).await;
            run(&inbox, index, &publish, &statuses).await;
        };
        tokio::select! {
            () = work => {}
            () = shutdown.requested() => {}
        }
        Ok::<(), reconcile::Error>(())
    });
}

/// Rounds of: take, translate, publish, tell. Ends never.
async fn run(inbox: &Inbox, mut index: Index, publish: &Publish<Snapshot>, statuses: &Statuses) {
    let mut is_first = true;
    loop {
        let changed = inbox.changed();
        let now = Instant::now();
        index.apply(inbox.take(), now);
        let rebuilt = index.rebuild(now);
        if rebuilt.is_dirty || is_first {
            let (snapshot, findings) = index.compile();
            let generation = publish.publish(Arc::new(snapshot));
            tracing::debug!(generation, ?rebuilt, "published");
            for finding in findings {
                tracing::debug!(%finding, "incomplete route");
            }
            is_first = false;
        }
        statuses.tell(index.take_outcomes());
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
