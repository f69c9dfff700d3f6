//! The children of a Route, as it wants them: one KIngress, and a placeholder Service per name
//! so that `<name>.<namespace>` resolves inside the cluster.

use std::collections::BTreeMap;

use api::config::{Feature, HttpProtocol};
use api::names::{
    CLUSTER_DOMAIN, GATEWAY_LOCAL_SERVICE, INGRESS_CLASS, SYSTEM_NAMESPACE, annotation, child_name,
    label,
};
use api::networking::v1alpha1::{
    HeaderMatch, HttpIngressPath, HttpIngressRule, Ingress, IngressBackendSplit, IngressRule,
    IngressSpec,
};
use api::serving::v1::Route;
use k8s_openapi::api::core::v1::{Service as KubernetesService, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use super::host::Name;
use super::rollout::{self, Rollout};
use super::traffic::{Share, Target};
use crate::object::{self, child_metadata};
use crate::settings::Config;

const TAG_HEADER: &str = "Knative-Serving-Tag";
const DEFAULT_ROUTE_HEADER: &str = "Knative-Serving-Default-Route";
/// Ports of a revision's Service, by protocol.
const HTTP1_PORT: i32 = 80;
const H2C_PORT: i32 = 81;

/// The KIngress that serves `targets` under `names`.
pub(super) fn ingress(
    route: &Route,
    names: &[Name],
    targets: &[Target],
    rollout: &Rollout,
    config: &Config,
) -> Ingress {
    let mut labels = route.labels().clone();
    labels.insert(label::ROUTE.to_owned(), route.name_any());
    labels.insert(
        label::ROUTE_NAMESPACE.to_owned(),
        route.namespace().unwrap_or_default(),
    );
    let mut annotations = route.annotations().clone();
    annotations.remove(annotation::LAST_APPLIED);
    annotations.retain(|key, _| !annotation::ROLLOUT_DURATIONS.contains(&key.as_str()));
    annotations.insert(rollout::ANNOTATION.to_owned(), rollout.text());
    annotations.insert(
        annotation::INGRESS_CLASS.to_owned(),
        ingress_class(route, config),
    );
    let mut rules = Vec::new();
    for name in names {
        let paths = paths(route, name, targets, config);
        if paths.is_empty() {
            continue; // no share of the traffic goes to the main host: only its tags are served
        }
        let rule = |hosts: Vec<String>, visibility: &str| IngressRule {
            hosts,
            visibility: Some(visibility.to_owned()),
            http: Some(HttpIngressRule {
                paths: paths.clone(),
            }),
        };
        rules.push(rule(name.local_hosts(), "ClusterLocal"));
        if let Some(host) = &name.public {
            rules.push(rule(vec![host.clone()], "ExternalIP"));
        }
    }
    let name = child_name(&route.name_any(), "");
    Ingress {
        metadata: child_metadata(route, name, labels, annotations),
        spec: IngressSpec {
            http_option: Some(http_option(route, config).to_owned()),
            tls: Vec::new(),
            rules,
        },
        status: None,
    }
}

fn paths(route: &Route, name: &Name, targets: &[Target], config: &Config) -> Vec<HttpIngressPath> {
    let by_header = config.features.allowed(Feature::TagHeaderBasedRouting);
    let namespace = route.namespace().unwrap_or_default();
    let Some(tag) = &name.tag else {
        let splits = splits(&namespace, targets.iter().flat_map(|target| &target.shares));
        if splits.is_empty() {
            return Vec::new();
        }
        let mut paths = Vec::new();
        let mut main = HttpIngressPath {
            splits,
            ..HttpIngressPath::default()
        };
        if by_header {
            paths = tag_paths(&namespace, targets);
            let default_route = (DEFAULT_ROUTE_HEADER.to_owned(), "true".to_owned());
            main.append_headers = BTreeMap::from([default_route]);
        }
        paths.push(main);
        return paths;
    };
    let of_tag = targets
        .iter()
        .find(|target| target.tag.as_ref() == Some(tag));
    let path = of_tag.map(|target| HttpIngressPath {
        append_headers: if by_header {
            BTreeMap::from([(TAG_HEADER.to_owned(), tag.clone())])
        } else {
            BTreeMap::new()
        },
        splits: splits(&namespace, &target.tagged),
        ..HttpIngressPath::default()
    });
    path.into_iter().collect()
}

/// One path per tag, chosen by header at the main host.
fn tag_paths(namespace: &str, targets: &[Target]) -> Vec<HttpIngressPath> {
    let path = |target: &Target| {
        let exact = target.tag.clone()?;
        Some(HttpIngressPath {
            headers: BTreeMap::from([(TAG_HEADER.to_owned(), HeaderMatch { exact })]),
            splits: splits(namespace, &target.tagged),
            ..HttpIngressPath::default()
        })
    };
    targets.iter().filter_map(path).collect()
}

/// One split per revision, without those of zero percent.
fn splits<'a>(
    namespace: &str,
    shares: impl IntoIterator<Item = &'a Share>,
) -> Vec<IngressBackendSplit> {
    let mut splits: Vec<IngressBackendSplit> = Vec::new();
    for share in shares {
        if share.percent == 0 {
            continue;
        }
        let known = splits
            .iter_mut()
            .find(|split| split.service_name == share.revision);
        match known {
            Some(split) => split.percent = Some(split.percent.unwrap_or_default() + share.percent),
            None => splits.push(split(namespace, share)),
        }
    }
    splits
}

fn split(namespace: &str, share: &Share) -> IngressBackendSplit {
    let port = if share.h2c { H2C_PORT } else { HTTP1_PORT };
    IngressBackendSplit {
        service_namespace: namespace.to_owned(),
        service_name: share.revision.clone(),
        service_port: IntOrString::Int(port),
        percent: Some(share.percent),
        append_headers: BTreeMap::from([
            ("Knative-Serving-Namespace".to_owned(), namespace.to_owned()),
            (
                "Knative-Serving-Revision".to_owned(),
                share.revision.clone(),
            ),
        ]),
    }
}

/// The class of the KIngress: the Route's annotation, else the cluster's.
pub(crate) fn ingress_class(route: &impl Resource, config: &Config) -> String {
    let keys = [
        annotation::INGRESS_CLASS,
        "networking.knative.dev/ingress-class",
    ];
    let asked = keys.iter().find_map(|key| object::annotation(route, key));
    asked.unwrap_or(&config.network.ingress_class).to_owned()
}

/// What plain HTTP does: the annotation, else the cluster's setting.
pub(crate) fn http_option(route: &impl Resource, config: &Config) -> &'static str {
    let keys = [
        annotation::HTTP_PROTOCOL,
        "networking.knative.dev/httpOption",
    ];
    let asked = keys.iter().find_map(|key| object::annotation(route, key));
    let redirected = match asked {
        Some(asked) => asked.eq_ignore_ascii_case("redirected"),
        None => config.network.http_protocol == HttpProtocol::Redirected,
    };
    if redirected { "Redirected" } else { "Enabled" }
}

/// The gateway's name inside the cluster: what its KIngress reports, and until then the Service
/// of our own gateway if the KIngress is of our class.
///
/// # Errors
/// When the gateway is known only by something that no placeholder can point at.
pub(super) fn gateway(ingress: Option<&Ingress>, class: &str) -> Result<Option<String>, String> {
    let status = ingress.and_then(|ingress| ingress.status.as_ref());
    let balancer = status.and_then(|status| status.private_load_balancer.as_ref());
    let Some(address) = balancer.and_then(|balancer| balancer.ingress.first()) else {
        let own = format!("{GATEWAY_LOCAL_SERVICE}.{SYSTEM_NAMESPACE}.svc.{CLUSTER_DOMAIN}");
        return Ok((class == INGRESS_CLASS).then_some(own));
    };
    if let Some(domain) = address.domain_internal.as_ref().or(address.domain.as_ref()) {
        return Ok(Some(domain.clone()));
    }
    Err(format!(
        "the gateway of class {class} reports neither domainInternal nor domain, \
         so names inside the cluster cannot point at it"
    ))
}

/// The placeholder of one name. Without a known gateway it points at itself, as Knative's does.
/// It has the Route's labels and annotations, but the visibility: that is asked for name by name.
pub(super) fn placeholder(route: &Route, name: &Name, gateway: Option<&str>) -> KubernetesService {
    let mut labels = route.labels().clone();
    labels.remove(label::VISIBILITY);
    labels.insert(label::ROUTE.to_owned(), route.name_any());
    let mut annotations = route.annotations().clone();
    annotations.remove(annotation::LAST_APPLIED);
    let port = ServicePort {
        name: Some("http2".to_owned()),
        port: 80,
        target_port: Some(IntOrString::Int(80)),
        ..ServicePort::default()
    };
    KubernetesService {
        metadata: child_metadata(route, name.name.clone(), labels, annotations),
        spec: Some(ServiceSpec {
            type_: Some("ExternalName".to_owned()),
            external_name: Some(gateway.unwrap_or(&name.local).to_owned()),
            session_affinity: Some("None".to_owned()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
