//! Changed objects that wait for the next round.
//!
//! Holds the newest state of each object, so it cannot grow past the number of objects, and a
//! burst about one object is one change.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use api::gateway::v1::{Gateway, GatewayClass, GrpcRoute, HttpRoute, ReferenceGrant};
use api::networking::v1alpha1::Ingress;
use api::serving::v1::Revision;
use dialects::Name;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1 as networking;
use kube::Resource;
use reconcile::{Change, Informer};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

/// New states by name; `None` for objects that are gone.
pub(crate) type Changes<K> = HashMap<Name, Option<Arc<K>>>;

/// Everything that changed since the last round.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) ingresses: Changes<Ingress>,
    pub(crate) kubernetes_ingresses: Changes<networking::Ingress>,
    pub(crate) services: Changes<Service>,
    pub(crate) slices: Changes<EndpointSlice>,
    pub(crate) revisions: Changes<Revision>,
    pub(crate) secrets: Changes<Secret>,
    pub(crate) namespaces: Changes<Namespace>,
    pub(crate) config_maps: Changes<ConfigMap>,
    pub(crate) grants: Changes<ReferenceGrant>,
    pub(crate) classes: Changes<GatewayClass>,
    pub(crate) gateways: Changes<Gateway>,
    pub(crate) http_routes: Changes<HttpRoute>,
    pub(crate) grpc_routes: Changes<GrpcRoute>,
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
        part(&mut inbox.pending.lock().unwrap_or_else(PoisonError::into_inner)).insert(name, state);
        // One permit is kept if nobody waits right now: no wake-up is lost.
        inbox.wake.notify_one();
    });
}
