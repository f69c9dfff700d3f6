//! Apache APISIX (`apisix.apache.org`, v2 and v2beta3) → routes.
//!
//! Rules of that gateway, not ours: the host decides first and is fallen through, then an exact
//! path before the longest prefix, then `priority`; a path is exact unless it ends with `*`; each
//! of connecting, sending and reading has 60 s; upgrades are off; a redirect is 302. A rule whose
//! access cannot be checked as written is answered 503: open it must not be.

mod access;
mod answer;
mod backend;
mod consumer;
mod edit;
pub(crate) mod extension;
mod global;
mod grpc_web;
mod health;
mod instance;
mod limit;
mod matching;
mod plugin;
mod real_ip;
mod redirect;
pub(crate) mod route_policy;
mod rule;
mod split;
mod stream;
mod tls;
mod upstream;
mod vars;

use crate::foreign::{Kind, Role, no_keys};

/// In the order in which they are documented.
pub(crate) static KINDS: [&Kind; 13] = [
    &ROUTE,
    &UPSTREAM,
    &TLS,
    &PLUGIN_CONFIG,
    &CONSUMER,
    &GLOBAL_RULE,
    &CLUSTER_CONFIG,
    &GATEWAY_PROXY,
    &HTTP_ROUTE_POLICY,
    &GATEWAY_PLUGIN_CONFIG,
    &GATEWAY_CONSUMER,
    &BACKEND_TRAFFIC_POLICY,
    &L4_ROUTE_POLICY,
];

/// Kinds of its own implementation of Gateway API.
const fn of_gateways(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        versions: &["v1alpha1"],
        ..self::kind(kind, plural, &[], Role::Part(instance::refuse))
    }
}

static GATEWAY_PROXY: Kind = Kind {
    role: Role::Part(global::judge),
    ..of_gateways("GatewayProxy", "gatewayproxies")
};
static HTTP_ROUTE_POLICY: Kind = Kind {
    role: Role::Part(route_policy::judge),
    keys: route_policy::keys,
    ..of_gateways("HTTPRoutePolicy", "httproutepolicies")
};
static GATEWAY_PLUGIN_CONFIG: Kind = Kind {
    role: Role::Part(extension::judge),
    ..of_gateways("PluginConfig", "pluginconfigs")
};
static GATEWAY_CONSUMER: Kind = of_gateways("Consumer", "consumers");
static BACKEND_TRAFFIC_POLICY: Kind = of_gateways("BackendTrafficPolicy", "backendtrafficpolicies");
static L4_ROUTE_POLICY: Kind = of_gateways("L4RoutePolicy", "l4routepolicies");

const fn kind(
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    role: Role,
) -> Kind {
    Kind {
        dialect: "apisix",
        group: "apisix.apache.org",
        versions: &["v2", "v2beta3"],
        kind,
        plural,
        short,
        is_cluster_scoped: false,
        has_status: true,
        role,
        keys: no_keys,
    }
}

static ROUTE: Kind = Kind {
    keys: matching::keys,
    ..kind(
        "ApisixRoute",
        "apisixroutes",
        &["ar"],
        Role::Root(rule::translate),
    )
};
static UPSTREAM: Kind = kind(
    "ApisixUpstream",
    "apisixupstreams",
    &["au"],
    Role::Part(upstream::judge),
);
static TLS: Kind = kind(
    "ApisixTls",
    "apisixtlses",
    &["atls"],
    Role::Root(tls::translate),
);
static PLUGIN_CONFIG: Kind = kind(
    "ApisixPluginConfig",
    "apisixpluginconfigs",
    &["apc"],
    Role::Part(plugin::judge),
);
static CONSUMER: Kind = kind(
    "ApisixConsumer",
    "apisixconsumers",
    &["ac"],
    Role::Part(consumer::judge),
);
static GLOBAL_RULE: Kind = kind(
    "ApisixGlobalRule",
    "apisixglobalrules",
    &["agr"],
    Role::Part(plugin::judge),
);
static CLUSTER_CONFIG: Kind = Kind {
    is_cluster_scoped: true,
    ..kind(
        "ApisixClusterConfig",
        "apisixclusterconfigs",
        &["acc"],
        Role::Part(instance::refuse_cluster),
    )
};

#[cfg(test)]
mod tests;
