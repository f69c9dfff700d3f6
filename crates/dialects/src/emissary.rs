//! Ambassador / Emissary-ingress (`getambassador.io`, v3alpha1 and v2) → routes.
//!
//! Rules of that gateway, not ours: Mappings with the same method, path, headers, query, host and
//! precedence are one group, and its weights split between Mappings, so that each keeps its own
//! rewrite, timeout and headers; the matched prefix becomes `/`; a request has 3 s; plain HTTP is
//! sent to HTTPS unless the Host says otherwise; upgrades are off. A group is emitted by its first
//! Mapping by name. Everything else of the dialect is read by Mappings and Hosts.

mod auth;
mod cluster;
mod door;
mod endpoint;
mod glob;
mod group;
mod headers;
mod host;
mod instance;
mod limit;
mod logging;
mod mapping;
mod matching;
mod member;
mod module;
mod policy;
mod refused;
mod rewrite;
mod service;
mod sole;
mod spots;
mod tcp;
mod tls;
mod tracing;

use crate::foreign::{Kind, Role, no_keys};

/// In the order in which they are documented.
pub(crate) static KINDS: [&Kind; 14] = [
    &MAPPING,
    &HOST,
    &LISTENER,
    &TLS_CONTEXT,
    &MODULE,
    &AUTH_SERVICE,
    &SERVICE_RESOLVER,
    &ENDPOINT_RESOLVER,
    &TCP_MAPPING,
    &RATE_LIMIT_SERVICE,
    &LOG_SERVICE,
    &TRACING_SERVICE,
    &CONSUL_RESOLVER,
    &DEV_PORTAL,
];

const fn kind(kind: &'static str, plural: &'static str, role: Role) -> Kind {
    Kind {
        dialect: "emissary",
        group: "getambassador.io",
        versions: &["v3alpha1", "v2"],
        kind,
        plural,
        short: &[],
        is_cluster_scoped: false,
        has_status: false,
        role,
        keys: no_keys,
    }
}

static MAPPING: Kind = Kind {
    has_status: true,
    keys: matching::keys,
    ..kind("Mapping", "mappings", Role::Root(mapping::translate))
};
static HOST: Kind = Kind {
    has_status: true,
    keys: host::keys,
    ..kind("Host", "hosts", Role::Root(host::translate))
};
static LISTENER: Kind = kind("Listener", "listeners", Role::Root(door::translate));
static TLS_CONTEXT: Kind = Kind {
    keys: tls::keys,
    ..kind("TLSContext", "tlscontexts", Role::Root(tls::translate))
};
static MODULE: Kind = kind("Module", "modules", Role::Part(module::judge));
static AUTH_SERVICE: Kind = kind("AuthService", "authservices", Role::Part(auth::judge));
static SERVICE_RESOLVER: Kind = kind(
    "KubernetesServiceResolver",
    "kubernetesserviceresolvers",
    Role::Part(refused::resolver),
);
static ENDPOINT_RESOLVER: Kind = kind(
    "KubernetesEndpointResolver",
    "kubernetesendpointresolvers",
    Role::Part(refused::resolver),
);
static TCP_MAPPING: Kind = Kind {
    keys: tcp::keys,
    ..kind("TCPMapping", "tcpmappings", Role::Root(tcp::translate))
};
static RATE_LIMIT_SERVICE: Kind = kind(
    "RateLimitService",
    "ratelimitservices",
    Role::Part(limit::judge),
);
static LOG_SERVICE: Kind = kind("LogService", "logservices", Role::Part(logging::judge));
static TRACING_SERVICE: Kind = kind(
    "TracingService",
    "tracingservices",
    Role::Part(tracing::judge),
);
static CONSUL_RESOLVER: Kind = kind(
    "ConsulResolver",
    "consulresolvers",
    Role::Part(refused::judge),
);
static DEV_PORTAL: Kind = kind("DevPortal", "devportals", Role::Part(refused::judge));

#[cfg(test)]
mod tests;
