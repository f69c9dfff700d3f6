//! The Service that finds the pods of an XBackend: without an address of its own, since only its
//! EndpointSlices are wanted.

use api::gateway::v1alpha1::Backend;
use dialects::gateway_api;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The Service of an XBackend; `None` if it selects no pods.
pub(crate) fn service(backend: &Backend) -> Option<Service> {
    let selector = backend
        .spec
        .endpoint_selector
        .as_ref()?
        .match_labels
        .clone();
    let number = backend.spec.port.number.filter(|number| *number > 0)?;
    if selector.is_empty() {
        return None;
    }
    // Routes for datagrams lead to XBackends as well.
    let port = |protocol: &str| ServicePort {
        name: Some(protocol.to_ascii_lowercase()),
        port: number,
        protocol: Some(protocol.to_owned()),
        target_port: Some(IntOrString::Int(number)),
        ..ServicePort::default()
    };
    let name = gateway_api::xbackend_service(backend);
    Some(Service {
        metadata: ObjectMeta {
            name: Some(name.name.to_string()),
            namespace: Some(name.namespace.to_string()),
            owner_references: Some(vec![reconcile::write::owner_reference(backend)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector),
            ports: Some(vec![port("TCP"), port("UDP")]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}
