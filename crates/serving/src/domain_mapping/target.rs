//! What a DomainMapping points at: an object with an address inside the cluster.

use api::names::CLUSTER_DOMAIN;
use api::serving::v1beta1::{DomainMapping, Reference};

/// Terms of the index, before `/<name>`.
pub(super) const SERVICE: &str = "service.serving.knative.dev";
pub(super) const ROUTE: &str = "route.serving.knative.dev";
pub(super) const KUBERNETES_SERVICE: &str = "service";

/// The kinds that can be targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Service,
    Route,
    KubernetesService,
}

/// The kind that a reference means; `None` for one that has no address here.
pub(super) fn kind(reference: &Reference) -> Option<Kind> {
    let version = reference.api_version.as_deref().unwrap_or_default();
    let of_version = version.rsplit_once('/').map_or("", |(group, _)| group);
    let group = reference.group.as_deref().unwrap_or(of_version);
    match (group, reference.kind.as_str()) {
        ("serving.knative.dev", "Service") => Some(Kind::Service),
        ("serving.knative.dev", "Route") => Some(Kind::Route),
        ("", "Service") => Some(Kind::KubernetesService),
        _ => None,
    }
}

/// The term under which a mapping is found when its target changes.
pub(crate) fn mentions(mapping: &DomainMapping) -> Vec<String> {
    let reference = &mapping.spec.reference;
    let prefix = match kind(reference) {
        Some(Kind::Service) => SERVICE,
        Some(Kind::Route) => ROUTE,
        Some(Kind::KubernetesService) => KUBERNETES_SERVICE,
        None => return Vec::new(),
    };
    vec![format!("{prefix}/{}", reference.name)]
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    /// Host that the target knows itself by.
    pub(super) host: String,
    /// Kubernetes Service in the mapping's namespace.
    pub(super) service: String,
}

/// The Service behind a URL of the cluster.
///
/// # Errors
/// Why requests cannot be sent there, as the condition says it.
pub(super) fn backend(url: &str, namespace: &str) -> Result<Backend, String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(format!("resolved URI {url:?} contains a path"));
    }
    let suffix = format!(".svc.{CLUSTER_DOMAIN}");
    let names = host
        .strip_suffix(&suffix)
        .and_then(|names| names.split_once('.'))
        .filter(|(_, space)| !space.contains('.'));
    match names {
        None => Err(format!(
            "resolved URI {url:?} must be of the form {{name}}.{{namespace}}{suffix}"
        )),
        Some((_, space)) if space != namespace => Err(format!(
            "resolved URI {url:?} must be in same namespace as DomainMapping"
        )),
        Some((service, _)) => Ok(Backend {
            host: host.to_owned(),
            service: service.to_owned(),
        }),
    }
}
