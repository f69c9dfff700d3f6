//! Changed objects that wait for the next round.
//!
//! Holds the newest state of each object, so it cannot grow past the number of objects, and a
//! burst about one object is one change.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use api::certificates::ClusterTrustBundle;
use api::gateway::v1::{
    BackendTlsPolicy, Gateway, GatewayClass, GrpcRoute, HttpRoute, ListenerSet, ReferenceGrant,
    TcpRoute, TlsRoute, UdpRoute,
};
use api::gateway::v1alpha1::{Backend, BackendTrafficPolicy, TelemetryPolicy};
use api::networking::v1alpha1::Ingress;
use api::serving::v1::Revision;
use dialects::foreign::Object;
use dialects::{Discovered, LookedUp, Name};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1 as networking;
use kube::Resource;
use reconcile::{Change, Informer};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::index::ForeignKey;

/// New states by name; `None` for objects that are gone.
pub(crate) type Changes<K> = HashMap<Name, Option<Arc<K>>>;

/// Labels, as a pod has them.
pub(crate) type Labels = Arc<BTreeMap<String, String>>;

/// Everything that changed since the last round.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) ingresses: Changes<Ingress>,
    pub(crate) kubernetes_ingresses: Changes<networking::Ingress>,
    pub(crate) ingress_classes: Changes<networking::IngressClass>,
    pub(crate) services: Changes<Service>,
    pub(crate) slices: Changes<EndpointSlice>,
    pub(crate) revisions: Changes<Revision>,
    pub(crate) secrets: Changes<Secret>,
    pub(crate) namespaces: Changes<Namespace>,
    pub(crate) config_maps: Changes<ConfigMap>,
    pub(crate) trust_bundles: Changes<ClusterTrustBundle>,
    pub(crate) grants: Changes<ReferenceGrant>,
    pub(crate) classes: Changes<GatewayClass>,
    pub(crate) gateways: Changes<Gateway>,
    pub(crate) listener_sets: Changes<ListenerSet>,
    pub(crate) backend_tls_policies: Changes<BackendTlsPolicy>,
    pub(crate) backend_traffic_policies: Changes<BackendTrafficPolicy>,
    pub(crate) backends: Changes<Backend>,
    pub(crate) telemetry: Changes<TelemetryPolicy>,
    pub(crate) http_routes: Changes<HttpRoute>,
    pub(crate) grpc_routes: Changes<GrpcRoute>,
    pub(crate) tls_routes: Changes<TlsRoute>,
    pub(crate) tcp_routes: Changes<TcpRoute>,
    pub(crate) udp_routes: Changes<UdpRoute>,
    /// Objects of other gateways' kinds.
    pub(crate) foreign: HashMap<ForeignKey, Option<Arc<Object>>>,
    pub(crate) pods: HashMap<Name, Option<Labels>>,
    /// Addresses of host names that were looked up.
    pub(crate) dns: HashMap<Arc<str>, LookedUp>,
    /// Where issuers of tokens say that their keys are.
    pub(crate) issuers: HashMap<Arc<str>, Discovered>,
}

#[derive(Default)]
pub(crate) struct Inbox {
    pending: Mutex<Pending>,
    wake: Notify,
}

impl Inbox {
    /// What has gathered; the inbox is empty afterwards.
    pub(crate) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts something in.
    pub(crate) fn put(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        // One permit is kept if nobody waits right now: no wake-up is lost.
        self.wake.notify_one();
    }

    /// Resolves when something was put since it was last awaited.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }
}

/// Puts every change of a kind into the inbox.
pub(crate) fn follow<K>(
    inbox: &Arc<Inbox>,
    informer: &Informer<K>,
    part: fn(&mut Pending) -> &mut Changes<K>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let inbox = Arc::clone(inbox);
    informer.on_change(move |change| {
        let name = Name::of(change.object().meta());
        let state = match change {
            Change::Applied(object) => Some(Arc::clone(object)),
            Change::Deleted(_) => None,
        };
        inbox.put(|pending| drop(part(pending).insert(name, state)));
    });
}

/// Puts the labels of pods into the inbox, and nothing else that changes about a pod: a pod that
/// becomes ready wakes nobody here.
pub(crate) fn follow_pods(inbox: &Arc<Inbox>, pods: &Informer<Pod>) {
    let inbox = Arc::clone(inbox);
    let known: Mutex<HashMap<Name, Labels>> = Mutex::default();
    pods.on_change(move |change| {
        let meta = &change.object().metadata;
        let name = Name::of(meta);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match change {
            Change::Applied(_) => {
                let labels = meta.labels.clone().unwrap_or_default();
                if known.get(&name).is_some_and(|known| **known == labels) {
                    return;
                }
                let labels = Arc::new(labels);
                known.insert(name.clone(), Arc::clone(&labels));
                Some(labels)
            }
            Change::Deleted(_) => {
                known.remove(&name);
                None
            }
        };
        drop(known);
        inbox.put(|pending| drop(pending.pods.insert(name, state)));
    });
}
