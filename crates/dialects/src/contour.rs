//! Contour (`projectcontour.io`): HTTPProxy and what belongs to it → routes.
//!
//! An HTTPProxy with a virtual host is a root; it includes others, whose conditions are added to
//! its own. All routes of a host come from one root, so their order is decided here: exact paths,
//! regular expressions by length, prefixes by length, then a method, the number of headers and of
//! query parameters. A prefix is a text, not elements. Two roots with one host are both refused.
//!
//! What is wrong with an object is said in its condition `Valid`, with Contour's own types and
//! reasons. A route that cannot be read takes its whole object out of service; a Service that is
//! missing only itself. Fields that are not served are warnings of the same condition.

mod balance;
mod certificates;
mod child;
mod condition;
mod configuration;
mod cookie;
mod cors;
mod delegation;
mod endpoint;
mod extension;
mod guard;
mod header;
mod host;
mod ingress_route;
mod limit;
mod plan;
mod policy;
mod root;
mod route;
mod service;
mod spec;
mod status;
mod tcp;
mod tls;
mod walk;

use std::sync::Arc;

use crate::foreign::{Kind, Object, Role, no_keys};

/// As it stands in [`Origin`](routing::model::Origin)s.
const DIALECT: &str = "contour";
const GROUP: &str = "projectcontour.io";
/// Before HTTPProxy.
const OLD_GROUP: &str = "contour.heptio.com";

/// Every kind of this dialect.
pub(crate) static KINDS: &[&Kind] = &[
    &HTTP_PROXY,
    &DELEGATION,
    &OLD_DELEGATION,
    &EXTENSION_SERVICE,
    &CONFIGURATION,
    &DEPLOYMENT,
    &INGRESS_ROUTE,
];

/// Roots, and the objects that they include.
pub(crate) static HTTP_PROXY: Kind = Kind {
    dialect: DIALECT,
    group: GROUP,
    versions: &["v1"],
    kind: "HTTPProxy",
    plural: "httpproxies",
    short: &["proxy", "proxies"],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Root(root::translate),
    keys: proxy_keys,
};

/// Secrets that other namespaces may use.
pub(crate) static DELEGATION: Kind = Kind {
    dialect: DIALECT,
    group: GROUP,
    versions: &["v1"],
    kind: "TLSCertificateDelegation",
    plural: "tlscertificatedelegations",
    short: &["tlscerts"],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Part(delegation::judge),
    keys: delegation::keys,
};

/// The same of the time of IngressRoute.
pub(crate) static OLD_DELEGATION: Kind = Kind {
    group: OLD_GROUP,
    versions: &["v1beta1"],
    short: &[],
    ..DELEGATION
};

/// Services that decide about requests.
pub(crate) static EXTENSION_SERVICE: Kind = Kind {
    dialect: DIALECT,
    group: GROUP,
    versions: &["v1alpha1"],
    kind: "ExtensionService",
    plural: "extensionservices",
    short: &["extensionservice"],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Part(extension::judge),
    keys: no_keys,
};

/// Contour's own configuration.
pub(crate) static CONFIGURATION: Kind = Kind {
    dialect: DIALECT,
    group: GROUP,
    versions: &["v1alpha1"],
    kind: "ContourConfiguration",
    plural: "contourconfigurations",
    short: &["contourconfig"],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Part(configuration::judge),
    keys: no_keys,
};

/// How Contour itself is deployed, which says nothing to us.
pub(crate) static DEPLOYMENT: Kind = Kind {
    dialect: DIALECT,
    group: GROUP,
    versions: &["v1alpha1"],
    kind: "ContourDeployment",
    plural: "contourdeployments",
    short: &["contourdeploy"],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Part(configuration::judge_deployment),
    keys: no_keys,
};

/// What HTTPProxy was before it was HTTPProxy.
pub(crate) static INGRESS_ROUTE: Kind = Kind {
    dialect: DIALECT,
    group: OLD_GROUP,
    versions: &["v1beta1"],
    kind: "IngressRoute",
    plural: "ingressroutes",
    short: &[],
    is_cluster_scoped: false,
    has_status: true,
    role: Role::Root(ingress_route::translate),
    keys: ingress_route::keys,
};

/// The host of a root, and the objects that it includes.
fn proxy_keys(object: &Object) -> Vec<Arc<str>> {
    let spec = object.spec();
    let mut keys = Vec::new();
    if let Some(fqdn) = spec["virtualhost"]["fqdn"].as_str() {
        keys.push(fqdn_key(fqdn, spec::is_internal(object)));
    }
    let lists = [
        &spec["includes"],
        &spec["tcpproxy"]["include"],
        &spec["tcpproxy"]["includes"],
    ];
    for list in lists {
        let one = std::slice::from_ref(list);
        for include in list.as_array().map_or(one, Vec::as_slice) {
            let namespace = include["namespace"]
                .as_str()
                .filter(|text| !text.is_empty());
            let namespace = namespace.unwrap_or(&object.name.namespace);
            if let Some(name) = include["name"].as_str() {
                keys.push(include_key(namespace, name));
            }
        }
    }
    keys
}

fn fqdn_key(fqdn: &str, is_internal: bool) -> Arc<str> {
    let listeners = if is_internal { "internal" } else { "external" };
    format!("fqdn {listeners} {}", fqdn.to_ascii_lowercase()).into()
}

fn include_key(namespace: &str, name: &str) -> Arc<str> {
    format!("include {namespace}/{name}").into()
}

#[cfg(test)]
mod tests;
