//! The revision's Kubernetes Service: the name under which everything reaches its pods.

use std::collections::BTreeMap;

use api::autoscaling::v1alpha1::PodAutoscaler;
use api::names::{USER_PORT, annotation, label};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use reconcile::write::owner_reference;

/// Kubernetes' name for HTTP/2 without TLS.
const H2C: &str = "kubernetes.io/h2c";

/// The Service of a PodAutoscaler whose scale target selects pods by `selector`.
pub(super) fn service(autoscaler: &PodAutoscaler, selector: BTreeMap<String, String>) -> Service {
    let name = autoscaler.name_any();
    let mut labels = autoscaler.labels().clone();
    labels.insert(label::REVISION.to_owned(), name.clone());
    labels.insert(label::POD_AUTOSCALER.to_owned(), name.clone());
    let mut annotations = autoscaler.annotations().clone();
    annotations.remove(annotation::LAST_APPLIED);
    Service {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: autoscaler.namespace(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![owner_reference(autoscaler)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(vec![port(&autoscaler.spec.protocol_type)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The labels by which a Deployment selects its pods; `None` if it says more than labels can.
pub(super) fn selector(deployment: &Deployment) -> Option<BTreeMap<String, String>> {
    let selector = &deployment.spec.as_ref()?.selector;
    selector.match_labels.clone()
}

/// Knative's ports: 80 for HTTP/1.1, 81 for HTTP/2.
fn port(protocol: &str) -> ServicePort {
    let is_http2 = protocol == "h2c";
    ServicePort {
        name: Some(if is_http2 { "http2" } else { "http" }.to_owned()),
        port: if is_http2 { 81 } else { 80 },
        target_port: Some(IntOrString::String(USER_PORT.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: is_http2.then(|| H2C.to_owned()),
        ..ServicePort::default()
    }
}

/// Whether an existing Service says what we want; fields that we leave open do not matter.
pub(super) fn is_current(existing: &Service, wanted: &Service) -> bool {
    let (Some(existing_spec), Some(wanted_spec)) = (&existing.spec, &wanted.spec) else {
        return false;
    };
    let ports = |spec: &ServiceSpec| {
        let ports = spec.ports.iter().flatten();
        let said = ports.map(|port| {
            let target = port.target_port.clone();
            (
                port.name.clone(),
                port.port,
                target,
                port.app_protocol.clone(),
            )
        });
        said.collect::<Vec<_>>()
    };
    let has_labels = wanted
        .labels()
        .iter()
        .all(|(key, value)| existing.labels().get(key) == Some(value));
    has_labels
        && existing_spec.selector == wanted_spec.selector
        && ports(existing_spec) == ports(wanted_spec)
}
