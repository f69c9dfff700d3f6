//! What translations read of objects of which there are very many, and nothing else.
//!
//! They are kept for as long as the objects exist, mostly to compare the next state with. A whole
//! object is several times as large; who needs the rest reads it where it came from.

use std::collections::BTreeMap;

use api::gateway::v1::{GrpcRoute, HttpRoute, TcpRoute, TlsRoute, UdpRoute};
use api::names::annotation;
use api::networking::v1alpha1::Ingress;
use api::serving::v1::{Revision, RevisionSpec};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Annotations that say who wrote an object and how.
const NOISE: [&str; 3] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "serving.knative.dev/creator",
    "serving.knative.dev/lastModifier",
];

/// A kind of route: what users wrote, and of the metadata what says whose record it is.
macro_rules! route {
    ($name:ident, $kind:ident) => {
        #[doc = concat!("What translations read of a ", stringify!($kind), ".")]
        pub fn $name(route: &$kind) -> $kind {
            $kind {
                metadata: identity(&route.metadata),
                spec: route.spec.clone(),
                status: None,
            }
        }
    };
}

route!(http_route, HttpRoute);
route!(grpc_route, GrpcRoute);
route!(tls_route, TlsRoute);
route!(tcp_route, TcpRoute);
route!(udp_route, UdpRoute);

fn identity(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp.clone(),
        // Says which Knative Ingress a route was made of.
        owner_references: meta.owner_references.clone(),
        ..ObjectMeta::default()
    }
}

/// A Revision, as backends see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RevisionView {
    pub(crate) name: Box<str>,
    pub(crate) labels: BTreeMap<String, String>,
    /// The annotation's value.
    pub(crate) session_affinity: Option<Box<str>>,
    pub(crate) container_concurrency: Option<i64>,
    pub(crate) timeout_seconds: Option<i64>,
    pub(crate) response_start_timeout_seconds: Option<i64>,
    pub(crate) idle_timeout_seconds: Option<i64>,
}

impl RevisionView {
    pub(crate) fn of(revision: &Revision) -> Self {
        let ObjectMeta {
            name,
            labels,
            annotations,
            ..
        } = &revision.metadata;
        let affinity = annotations
            .as_ref()
            .and_then(|annotations| annotations.get(annotation::SESSION_AFFINITY));
        let RevisionSpec {
            pod: _,
            container_concurrency,
            timeout_seconds,
            response_start_timeout_seconds,
            idle_timeout_seconds,
        } = revision.spec;
        Self {
            name: name.as_deref().unwrap_or_default().into(),
            labels: labels.clone().unwrap_or_default(),
            session_affinity: affinity.map(|value| value.as_str().into()),
            container_concurrency,
            timeout_seconds,
            response_start_timeout_seconds,
            idle_timeout_seconds,
        }
    }
}

/// A Service without its status and without what others keep with it.
pub(crate) fn service(service: &Service) -> Service {
    Service {
        metadata: metadata(&service.metadata),
        spec: service.spec.clone(),
        status: None,
    }
}

/// Label on an EndpointSlice: who writes it.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who makes slices from Services' selectors, and copies what their ports say.
const COPIERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslice-controller.suimon.dev",
];

/// An EndpointSlice without labels: whose it is must be known already.
///
/// A port's `appProtocol` stays where it was copied from the Service, and is empty if that had
/// none. Other slices have none: there the Service alone says how its pods are spoken to.
pub(crate) fn slice(slice: &EndpointSlice) -> EndpointSlice {
    let labels = slice.metadata.labels.as_ref();
    let manager = labels.and_then(|labels| labels.get(MANAGED_BY));
    let is_copied = manager.is_some_and(|manager| COPIERS.contains(&&**manager));
    let port = |port: &EndpointPort| EndpointPort {
        app_protocol: is_copied.then(|| port.app_protocol.clone().unwrap_or_default()),
        ..port.clone()
    };
    let ports = slice.ports.as_ref();
    EndpointSlice {
        metadata: ObjectMeta {
            name: slice.metadata.name.clone(),
            namespace: slice.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        address_type: slice.address_type.clone(),
        endpoints: slice.endpoints.clone(),
        ports: ports.map(|ports| ports.iter().map(port).collect()),
    }
}

/// A Knative Ingress without its status; as whom it claims its hosts must be known already.
pub fn ingress(ingress: &Ingress) -> Ingress {
    Ingress {
        metadata: metadata(&ingress.metadata),
        spec: ingress.spec.clone(),
        status: None,
    }
}

fn metadata(whole: &ObjectMeta) -> ObjectMeta {
    let annotations: BTreeMap<_, _> = whole
        .annotations
        .iter()
        .flatten()
        .filter(|(name, _)| !NOISE.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    ObjectMeta {
        name: whole.name.clone(),
        namespace: whole.namespace.clone(),
        uid: whole.uid.clone(),
        generation: whole.generation,
        creation_timestamp: whole.creation_timestamp.clone(),
        labels: whole.labels.clone().filter(|labels| !labels.is_empty()),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::json;

    use super::*;
    use crate::objects::{Dependency, Name, Objects};

    fn parsed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("it is one")
    }

    fn service_of(annotation: &str, value: &str) -> Service {
        parsed(json!({
            "metadata": {
                "namespace": "ns", "name": "a", "uid": "1", "resourceVersion": "7",
                "labels": { "app": "a" },
                "annotations": { annotation: value },
                "ownerReferences": [OwnerReference::default()],
            },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] },
            "status": { "loadBalancer": {} },
        }))
    }

    #[test]
    fn of_a_service_only_what_is_read_is_kept() {
        let whole = service_of("serving.knative.dev/creator", "jane");
        let expected: Service = parsed(json!({
            "metadata": {
                "namespace": "ns", "name": "a", "uid": "1", "labels": { "app": "a" },
            },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] },
        }));
        assert_eq!(service(&whole), expected);
    }

    #[test]
    fn a_service_has_changed_if_an_annotation_did_that_dialects_read() {
        let mut objects = Objects::new(Vec::new());
        let name = Name::new("ns", "a");
        let mut put = |annotation: &str, value: &str| {
            let service = service_of(annotation, value);
            objects.put_service(&name, Some(service.into()))
        };
        let changed = [Dependency::Service(name.clone())];
        assert_eq!(put("projectcontour.io/max-connections", "1"), changed);
        assert_eq!(put("projectcontour.io/max-connections", "2"), changed);
        assert_eq!(put("serving.knative.dev/creator", "jane"), changed);
        assert_eq!(put("serving.knative.dev/creator", "joe"), []);
    }

    #[test]
    fn a_revision_has_changed_if_its_limits_did_and_not_if_its_program_did() {
        let mut objects = Objects::new(Vec::new());
        let name = Name::new("ns", "a-00001");
        let mut put = |image: &str, concurrency: i64| {
            let revision: Revision = parsed(json!({
                "metadata": { "namespace": "ns", "name": "a-00001" },
                "spec": { "containers": [{ "image": image }], "containerConcurrency": concurrency },
            }));
            objects.put_revision(&name, Some(revision.into()))
        };
        let changed = [Dependency::Revision(name.clone())];
        assert_eq!(put("one", 1), changed);
        assert_eq!(put("two", 1), []);
        assert_eq!(put("two", 2), changed);
    }
}
