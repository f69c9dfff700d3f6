//! Gloo Edge (`gateway.solo.io`, `gloo.solo.io`): VirtualService and what belongs to it → routes.
//!
//! Routes match in the order in which they are written; a route that delegates has those of its
//! route tables in its place. A child's path must begin with its parent's whole prefix, and it must
//! repeat its parent's other conditions, or it is left out with a warning. A mistake in a route
//! itself rejects the whole VirtualService. Prefixes are texts, wildcards any number of labels.
//!
//! Status is the state that Gloo writes under the namespace of its controller.

mod action;
pub(crate) mod attached;
mod auth_config;
mod extauth;
mod filter;
mod gateway;
mod inja;
mod jwt;
mod limit;
mod matcher;
mod oauth;
mod options;
mod part;
mod policy;
mod root;
mod select;
mod status;
pub(crate) mod target;
mod tcp;
mod tls;
mod transform;
mod upgrades;
mod upstream;
mod walk;

use std::sync::Arc;

use serde_json::Value;

use crate::fields::Fields;
use crate::foreign::{Kind, Object, Role, no_keys};
use crate::objects::Name;

/// As it stands in [`Origin`](routing::model::Origin)s.
const DIALECT: &str = "gloo";
const GATEWAY_GROUP: &str = "gateway.solo.io";

/// Every kind of this dialect.
pub(crate) static KINDS: &[&Kind] = &[
    &VIRTUAL_SERVICE,
    &ROUTE_TABLE,
    &GATEWAY,
    &ROUTE_OPTION,
    &VIRTUAL_HOST_OPTION,
    &LISTENER_OPTION,
    &HTTP_LISTENER_OPTION,
    &UPSTREAM,
    &UPSTREAM_GROUP,
    &SETTINGS,
    &AUTH_CONFIG,
];

const fn kind(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    role: Role,
    keys: fn(&Object) -> Vec<Arc<str>>,
) -> Kind {
    Kind {
        dialect: DIALECT,
        group,
        versions: &["v1"],
        kind,
        plural,
        short,
        is_cluster_scoped: false,
        has_status: true,
        role,
        keys,
    }
}

/// Roots.
pub(crate) static VIRTUAL_SERVICE: Kind = kind(
    GATEWAY_GROUP,
    "VirtualService",
    "virtualservices",
    &["vs"],
    Role::Root(root::translate),
    root::keys,
);

/// Routes that others delegate to.
pub(crate) static ROUTE_TABLE: Kind = kind(
    GATEWAY_GROUP,
    "RouteTable",
    "routetables",
    &["rt"],
    Role::Part(part::judge_table),
    part::labels,
);

/// Where VirtualServices are served.
pub(crate) static GATEWAY: Kind = kind(
    GATEWAY_GROUP,
    "Gateway",
    "gateways",
    &["gw"],
    Role::Root(gateway::translate),
    no_keys,
);

/// Who may pass, by reference.
pub(crate) static AUTH_CONFIG: Kind = kind(
    "enterprise.gloo.solo.io",
    "AuthConfig",
    "authconfigs",
    &["ac"],
    Role::Part(auth_config::judge),
    no_keys,
);

/// Options of routes, by reference and by what they name.
pub(crate) static ROUTE_OPTION: Kind = kind(
    GATEWAY_GROUP,
    "RouteOption",
    "routeoptions",
    &["rtopts"],
    Role::Part(part::judge_route_option),
    target::keys,
);

/// Options of virtual hosts, by reference and by what they name.
pub(crate) static VIRTUAL_HOST_OPTION: Kind = kind(
    GATEWAY_GROUP,
    "VirtualHostOption",
    "virtualhostoptions",
    &["vhopts"],
    Role::Part(part::judge_host_option),
    target::keys,
);

/// Options of listeners, which have no effect here.
pub(crate) static LISTENER_OPTION: Kind = kind(
    GATEWAY_GROUP,
    "ListenerOption",
    "listeneroptions",
    &["lisopts"],
    Role::Part(part::judge_listener_option),
    no_keys,
);

/// The same for HTTP.
pub(crate) static HTTP_LISTENER_OPTION: Kind = kind(
    GATEWAY_GROUP,
    "HttpListenerOption",
    "httplisteneroptions",
    &["hlisopts"],
    Role::Part(part::judge_listener_option),
    no_keys,
);

/// What routes send to.
pub(crate) static UPSTREAM: Kind = kind(
    "gloo.solo.io",
    "Upstream",
    "upstreams",
    &["us"],
    Role::Part(upstream::judge),
    no_keys,
);

/// Several of them, with weights.
pub(crate) static UPSTREAM_GROUP: Kind = kind(
    "gloo.solo.io",
    "UpstreamGroup",
    "upstreamgroups",
    &["ug"],
    Role::Part(upstream::judge_group),
    no_keys,
);

/// What holds for the whole gateway; of it, who is asked for authorization.
pub(crate) static SETTINGS: Kind = kind(
    "gloo.solo.io",
    "Settings",
    "settings",
    &["st"],
    Role::Part(extauth::judge),
    no_keys,
);

/// A reference, of the object's own namespace unless it says another.
fn reference(fields: &Fields<'_>, namespace: &str) -> Name {
    let of = fields.text("namespace").unwrap_or(namespace);
    Name::new(of, fields.str("name").unwrap_or_default())
}

/// Flags and numbers may be wrapped, as in protocol buffers.
fn unwrapped(value: &Value) -> &Value {
    value.get("value").unwrap_or(value)
}

#[cfg(test)]
mod tests;
