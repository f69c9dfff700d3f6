//! What the zone reads: the informers' caches.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lifecycle::Tasks;
use reconcile::{Cluster, Informer, Key};

/// Label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The objects that names are made from.
pub(crate) trait View {
    fn has_namespace(&self, name: &str) -> bool;
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    fn services(&self) -> Vec<Arc<Service>>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>>;
    /// Whether a pod of the namespace has this address.
    fn has_pod(&self, namespace: &str, ip: &str) -> bool;
}

/// The caches of this process.
pub(super) struct Caches {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    pods: Informer<Pod>,
}

impl Caches {
    /// Uses the informers that the process has already, or starts them.
    pub(super) fn start(cluster: &Cluster, tasks: &Tasks) -> Self {
        Self {
            namespaces: cluster.informer(tasks),
            services: cluster.informer(tasks),
            slices: cluster.informer(tasks),
            pods: cluster.informer(tasks),
        }
    }
}

impl View for Caches {
    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.get(&Key::new("", name)).is_some()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(&Key::new(namespace, name))
    }

    fn services(&self) -> Vec<Arc<Service>> {
        self.services.list()
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        self.slices.in_namespace(namespace, |slice| {
            let labels = slice.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get(SERVICE_NAME))
                .map(String::as_str)
                == Some(service)
        })
    }

    fn has_pod(&self, namespace: &str, ip: &str) -> bool {
        let has = |pod: &Pod| {
            let status = pod.status.as_ref();
            status.and_then(|status| status.pod_ip.as_deref()) == Some(ip)
        };
        !self.pods.in_namespace(namespace, has).is_empty()
    }
}
