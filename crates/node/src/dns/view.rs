//! What the zone reads: the informers' caches.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lifecycle::Tasks;
use reconcile::{Cluster, Index, Informer, Key};

use super::zone::{cluster_ips, is_headless};

/// Label of a slice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The objects that names are made from.
pub(crate) trait View {
    fn has_namespace(&self, name: &str) -> bool;
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// The Services that may answer on this address: those that have it, and all headless ones.
    fn services_at(&self, ip: IpAddr) -> Vec<Arc<Service>>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>>;
    /// Whether a pod of the namespace has this address.
    fn has_pod(&self, namespace: &str, ip: &str) -> bool;
}

/// The caches of this process.
pub(super) struct Caches {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    /// By their cluster IPs, and [`HEADLESS`] for those that have none.
    services_at: Index<Service>,
    /// By the name of their Service.
    slices_of: Index<EndpointSlice>,
    pods: Informer<Pod>,
}

const HEADLESS: &str = "headless";

impl Caches {
    /// Uses the informers that the process has already, or starts them.
    pub(super) fn start(cluster: &Cluster, tasks: &Tasks) -> Self {
        let services = cluster.informer(tasks);
        let addresses = |service: &Service| -> Vec<String> {
            if is_headless(service) {
                return vec![HEADLESS.to_owned()];
            }
            cluster_ips(service).map(|ip| ip.to_string()).collect()
        };
        let slices = cluster.informer::<EndpointSlice>(tasks);
        let service = |slice: &EndpointSlice| -> Vec<String> {
            let labels = slice.metadata.labels.as_ref();
            let name = labels.and_then(|labels| labels.get(SERVICE_NAME));
            name.into_iter().cloned().collect()
        };
        Self {
            namespaces: cluster.informer(tasks),
            services_at: Index::follow_anywhere(&services, addresses),
            services,
            slices_of: Index::follow(&slices, service),
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

    fn services_at(&self, ip: IpAddr) -> Vec<Arc<Service>> {
        let mut services = self.services_at.get("", &ip.to_string());
        services.extend(self.services_at.get("", HEADLESS));
        services
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        self.slices_of.get(namespace, service)
    }

    fn has_pod(&self, namespace: &str, ip: &str) -> bool {
        let has = |pod: &Pod| {
            let status = pod.status.as_ref();
            status.and_then(|status| status.pod_ip.as_deref()) == Some(ip)
        };
        !self.pods.in_namespace(namespace, has).is_empty()
    }
}
