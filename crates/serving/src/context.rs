//! What every controller of this crate shares: the client, one cache per kind, configuration.

use std::sync::Arc;

use api::autoscaling::v1alpha1::{Metric, PodAutoscaler};
use api::caching::v1alpha1::Image;
use api::names::{annotation, label};
use api::networking::v1alpha1::{Certificate, ClusterDomainClaim, Ingress, ServerlessService};
use api::serving::v1::{Configuration, Revision, Route, Service};
use api::serving::v1beta1::DomainMapping;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service as KubernetesService};
use kube::{Resource, ResourceExt};
use lifecycle::Tasks;
use reconcile::{Change, Cluster, Informer, Key, Queue};

use crate::digest::Digests;
use crate::event::Recorder;
use crate::object::{self, label, names_in};
use crate::settings::{LiveConfig, Settings};
use crate::{domain_mapping, route};
use reconcile::Index;

/// Shared by all controllers; cheap to reach through one `Arc`.
pub(crate) struct Context {
    pub(crate) client: kube::Client,
    pub(crate) tasks: Tasks,
    pub(crate) settings: Settings,
    pub(crate) config: LiveConfig,
    pub(crate) recorder: Recorder,
    pub(crate) digests: Digests,
    pub(crate) services: Informer<Service>,
    pub(crate) configurations: Informer<Configuration>,
    pub(crate) revisions: Informer<Revision>,
    pub(crate) routes: Informer<Route>,
    pub(crate) domain_mappings: Informer<DomainMapping>,
    pub(crate) domain_claims: Informer<ClusterDomainClaim>,
    pub(crate) autoscalers: Informer<PodAutoscaler>,
    pub(crate) metrics: Informer<Metric>,
    pub(crate) serverless_services: Informer<ServerlessService>,
    pub(crate) images: Informer<Image>,
    pub(crate) certificates: Informer<Certificate>,
    pub(crate) ingresses: Informer<Ingress>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) horizontal_autoscalers: Informer<HorizontalPodAutoscaler>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) kubernetes_services: Informer<KubernetesService>,
    /// Routes by `configuration/<name>` and `revision/<name>` of their targets.
    pub(crate) routes_by_target: Index<Route>,
    /// DomainMappings by `<kind>/<name>` of their target.
    pub(crate) domain_mappings_by_target: Index<DomainMapping>,
    /// Revisions by `configuration/<name>` of their parent and `route/<name>` of their marks.
    pub(crate) revisions_by_mention: Index<Revision>,
    /// Configurations by `route/<name>` of their marks.
    pub(crate) configurations_by_route: Index<Configuration>,
    /// Pods by the uid of their revision.
    pub(crate) pods_by_revision: Index<Pod>,
    /// Placeholder Services by the name of their Route.
    pub(crate) placeholders_by_route: Index<KubernetesService>,
}

impl Context {
    /// Starts the caches that are not running yet.
    pub(crate) fn new(cluster: &Cluster, settings: Settings, tasks: &Tasks) -> Arc<Self> {
        let recorder = Recorder::start(cluster.client().clone(), tasks);
        let config = LiveConfig::follow(
            cluster.informer::<ConfigMap>(tasks),
            settings.default_domain.clone(),
            recorder.clone(),
        );
        let configurations = cluster.informer(tasks);
        let revisions = cluster.informer(tasks);
        let routes = cluster.informer(tasks);
        let domain_mappings = cluster.informer(tasks);
        let pods = cluster.informer(tasks);
        let kubernetes_services = cluster.informer(tasks);
        Arc::new(Self {
            client: cluster.client().clone(),
            tasks: tasks.clone(),
            config,
            recorder,
            digests: Digests::start(Arc::clone(&settings.digests), tasks),
            settings,
            routes_by_target: Index::follow(&routes, route::mentions),
            domain_mappings_by_target: Index::follow(&domain_mappings, domain_mapping::mentions),
            revisions_by_mention: Index::follow(&revisions, |revision| {
                let parent = label(revision, label::CONFIGURATION);
                let parent = parent.map(|name| format!("configuration/{name}"));
                parent.into_iter().chain(marks(revision)).collect()
            }),
            configurations_by_route: Index::follow(&configurations, |configuration| {
                marks(configuration).collect()
            }),
            pods_by_revision: Index::follow(&pods, |pod| owned(label(pod, label::REVISION_UID))),
            placeholders_by_route: Index::follow(&kubernetes_services, |service| {
                owned(label(service, label::ROUTE))
            }),
            services: cluster.informer(tasks),
            domain_claims: cluster.informer(tasks),
            domain_mappings,
            autoscalers: cluster.informer(tasks),
            metrics: cluster.informer(tasks),
            serverless_services: cluster.informer(tasks),
            images: cluster.informer(tasks),
            certificates: cluster.informer(tasks),
            ingresses: cluster.informer(tasks),
            deployments: cluster.informer(tasks),
            horizontal_autoscalers: cluster.informer(tasks),
            configurations,
            revisions,
            routes,
            pods,
            kubernetes_services,
        })
    }

    /// The routes that an object's `routes` annotation names, as far as they exist.
    pub(crate) fn existing_routes(&self, object: &impl Resource) -> Vec<String> {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        names_in(object::annotation(object, annotation::ROUTES))
            .filter(|name| {
                let route = self.routes.get(&Key::new(namespace.clone(), *name));
                route.is_some_and(|route| !object::is_deleting(route.as_ref()))
            })
            .map(str::to_owned)
            .collect()
    }

    /// When a Route is deleted, the objects that carry its mark must hear of it: they drop its
    /// name themselves, so that no finalizer delays the deletion.
    pub(crate) fn release_on_route_deletion<K>(&self, marked: &Index<K>, queue: &Queue<Key>)
    where
        K: Resource<DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
    {
        let (marked, queue) = (marked.clone(), queue.clone());
        self.routes.on_change(move |change| {
            if let Change::Deleted(route) = change {
                let mark = format!("route/{}", route.name_any());
                for key in marked.keys(&route.namespace().unwrap_or_default(), &mark) {
                    queue.add(key);
                }
            }
        });
    }
}

/// The routes that an object's annotation names, as terms.
fn marks(object: &impl Resource) -> impl Iterator<Item = String> {
    let listed = object::annotation(object, annotation::ROUTES);
    names_in(listed).map(|name| format!("route/{name}"))
}

fn owned(term: Option<&str>) -> Vec<String> {
    term.into_iter().map(str::to_owned).collect()
}
