//! Host names and URLs of a Route and its tags, from the templates of `config-network` and the
//! domains of `config-domain`.

use api::config::template::Values;
use api::names::{CLUSTER_DOMAIN, label};
use api::serving::v1::Route;
use kube::ResourceExt;

use super::Observed;
use crate::object::label;
use crate::settings::Config;

/// Where one name of a Route (its own, or a tag's) is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// `None` for the Route itself.
    pub(super) tag: Option<String>,
    /// Name of the placeholder Service, and first label of the hosts.
    pub(super) name: String,
    /// `<name>.<namespace>.svc.<cluster>`; always served on the cluster-local side.
    pub(super) local: String,
    /// The public host, unless the name is cluster-local.
    pub(super) public: Option<String>,
}

impl Name {
    /// The URL that the Route's status shows. `port` is the gateway's, if not the scheme's own.
    pub(super) fn url(&self, scheme: &str, port: Option<u16>) -> String {
        match (&self.public, port) {
            (Some(host), Some(port)) => format!("{scheme}://{host}:{port}"),
            (Some(host), None) => format!("{scheme}://{host}"),
            (None, _) => format!("{scheme}://{}", self.local),
        }
    }

    /// All ways to spell the local host inside the cluster, sorted.
    pub(super) fn local_hosts(&self) -> Vec<String> {
        let suffix = format!(".svc.{CLUSTER_DOMAIN}");
        let short = self.local.strip_suffix(&suffix).unwrap_or(&self.local);
        vec![short.to_owned(), format!("{short}.svc"), self.local.clone()]
    }
}

/// The names of a Route: its own first, then its tags in the order given.
///
/// # Errors
/// When a template yields no valid host name: which one, and for what.
pub(super) fn names(
    route: &Route,
    tags: &[&str],
    observed: &Observed,
    config: &Config,
) -> Result<Vec<Name>, String> {
    let mut names = vec![name(route, None, observed, config)?];
    for tag in tags {
        names.push(name(route, Some(tag), observed, config)?);
    }
    Ok(names)
}

/// The name that stands for a tag in hosts, and that its placeholder Service has.
///
/// # Errors
/// When the tag template yields no valid name.
pub(super) fn tagged(route: &Route, tag: &str, config: &Config) -> Result<String, String> {
    config.network.tagged(&Values {
        name: &route.name_any(),
        namespace: &route.namespace().unwrap_or_default(),
        tag,
        annotations: Some(route.annotations()),
        labels: Some(route.labels()),
        ..Values::default()
    })
}

fn name(
    route: &Route,
    tag: Option<&str>,
    observed: &Observed,
    config: &Config,
) -> Result<Name, String> {
    let (own, namespace) = (route.name_any(), route.namespace().unwrap_or_default());
    let values = Values {
        name: &own,
        namespace: &namespace,
        domain: config.domain.of(route.labels()),
        tag: tag.unwrap_or_default(),
        annotations: Some(route.annotations()),
        labels: Some(route.labels()),
    };
    let name = match tag {
        None => own.clone(),
        Some(tag) => tagged(route, tag, config)?,
    };
    let public = if is_local(&name, values.domain, observed) {
        None
    } else {
        let values = Values {
            name: &name,
            ..values
        };
        Some(config.network.host(&values)?)
    };
    Ok(Name {
        tag: tag.map(str::to_owned),
        local: format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"),
        name,
        public,
    })
}

/// Cluster-local by its domain, or because its placeholder Service carries the label (Knative's
/// way to hide single tags).
fn is_local(name: &str, domain: &str, observed: &Observed) -> bool {
    let cluster = format!("svc.{CLUSTER_DOMAIN}");
    let placeholder = observed.services.get(name);
    domain == cluster
        || domain.ends_with(&format!(".{cluster}"))
        || placeholder.is_some_and(|service| {
            label(service.as_ref(), label::VISIBILITY).is_some_and(|value| !value.is_empty())
        })
}
