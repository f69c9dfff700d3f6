//! The children of a DomainMapping, as it wants them.

use std::collections::BTreeMap;

use api::names::{annotation, child_name};
use api::networking::v1alpha1::{
    ClusterDomainClaim, ClusterDomainClaimSpec, HttpIngressPath, HttpIngressRule, Ingress,
    IngressBackendSplit, IngressRule, IngressSpec, IngressTls,
};
use api::serving::v1beta1::DomainMapping;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::target::Backend;
use crate::object::child_metadata;
use crate::route::{http_option, ingress_class};
use crate::settings::Config;

const MAPPING_UID: &str = "serving.knative.dev/domainMappingUID";
const MAPPING_NAMESPACE: &str = "serving.knative.dev/domainMappingNamespace";
/// Tells the program the host that the client asked for.
const ORIGINAL_HOST: &str = "K-Original-Host";

/// The claim of the domain for the mapping's namespace.
pub(super) fn claim(mapping: &DomainMapping) -> ClusterDomainClaim {
    let spec = ClusterDomainClaimSpec {
        namespace: mapping.namespace().unwrap_or_default(),
    };
    ClusterDomainClaim::new(&mapping.name_any(), spec)
}

/// The KIngress: the domain goes to the target, under the target's own host.
pub(super) fn ingress_to(
    mapping: &DomainMapping,
    backend: &Backend,
    tls: Vec<IngressTls>,
    config: &Config,
) -> Ingress {
    let split = IngressBackendSplit {
        service_namespace: mapping.namespace().unwrap_or_default(),
        service_name: backend.service.clone(),
        service_port: IntOrString::Int(80),
        percent: Some(100),
        append_headers: BTreeMap::new(),
    };
    let path = HttpIngressPath {
        rewrite_host: Some(backend.host.clone()),
        splits: vec![split],
        ..HttpIngressPath::default()
    };
    ingress(mapping, vec![path], tls, config)
}

/// The KIngress: the domain does what the target's host in the cluster does.
pub(super) fn ingress_like(
    mapping: &DomainMapping,
    backend: &Backend,
    paths: &[HttpIngressPath],
    tls: Vec<IngressTls>,
    config: &Config,
) -> Ingress {
    let mut paths = paths.to_vec();
    for path in &mut paths {
        path.rewrite_host = None;
    }
    let mut ingress = ingress(mapping, paths, tls, config);
    let annotations = ingress.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::TARGET_HOST.to_owned(), backend.host.clone());
    ingress
}

fn ingress(
    mapping: &DomainMapping,
    mut paths: Vec<HttpIngressPath>,
    tls: Vec<IngressTls>,
    config: &Config,
) -> Ingress {
    let domain = mapping.name_any();
    for split in paths.iter_mut().flat_map(|path| &mut path.splits) {
        let original = (ORIGINAL_HOST.to_owned(), domain.clone());
        split.append_headers.extend([original]);
    }
    let mut labels = mapping.labels().clone();
    labels.insert(MAPPING_UID.to_owned(), mapping.uid().unwrap_or_default());
    labels.insert(
        MAPPING_NAMESPACE.to_owned(),
        mapping.namespace().unwrap_or_default(),
    );
    let mut annotations = mapping.annotations().clone();
    annotations.remove(annotation::LAST_APPLIED);
    annotations.remove(annotation::TARGET_HOST);
    annotations.insert(
        annotation::INGRESS_CLASS.to_owned(),
        ingress_class(mapping, config),
    );
    let rule = IngressRule {
        hosts: vec![domain.clone()],
        visibility: Some("ExternalIP".to_owned()),
        http: Some(HttpIngressRule { paths }),
    };
    Ingress {
        metadata: child_metadata(mapping, child_name(&domain, ""), labels, annotations),
        spec: IngressSpec {
            http_option: Some(http_option(mapping, config).to_owned()),
            tls,
            rules: vec![rule],
        },
        status: None,
    }
}

/// The certificate that the user brings.
pub(super) fn own_tls(mapping: &DomainMapping) -> Vec<IngressTls> {
    let tls = mapping.spec.tls.iter().map(|tls| IngressTls {
        hosts: vec![mapping.name_any()],
        secret_name: Some(tls.secret_name.clone()),
        secret_namespace: mapping.namespace(),
    });
    tls.collect()
}
