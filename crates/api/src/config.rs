//! Knative's ConfigMaps of the system namespace, parsed: one type per ConfigMap.
//!
//! A missing ConfigMap or key means Knative's default. All mistakes of one ConfigMap are
//! reported together, each naming its key; a caller that meets errors keeps the last good value
//! (admission refuses such a ConfigMap in the first place, see `admission`).

mod autoscaler;
mod defaults;
mod deployment;
mod domain;
mod features;
mod gc;
mod kourier;
mod leader_election;
mod logging;
mod network;
mod observability;
mod reader;
pub mod template;

pub use autoscaler::Autoscaler;
pub use defaults::Defaults;
pub use deployment::Deployment;
pub use domain::Domain;
pub use features::{Feature, Features, Flag};
pub use gc::Gc;
pub use kourier::Kourier;
pub use network::{HttpProtocol, Network};
pub use observability::{Observability, SpanTarget, Tracing};

use std::collections::BTreeMap;

/// Names of the ConfigMaps in the system namespace that Suimon reads.
pub mod name {
    pub const AUTOSCALER: &str = "config-autoscaler";
    pub const DEFAULTS: &str = "config-defaults";
    pub const NETWORK: &str = "config-network";
    pub const DOMAIN: &str = "config-domain";
    pub const FEATURES: &str = "config-features";
    pub const DEPLOYMENT: &str = "config-deployment";
    pub const GC: &str = "config-gc";
    pub const OBSERVABILITY: &str = "config-observability";
    pub const LOGGING: &str = "config-logging";
    pub const LEADER_ELECTION: &str = "config-leader-election";
    pub const TRACING: &str = "config-tracing";
    pub const KOURIER: &str = "config-kourier";
    pub const CERT_MANAGER: &str = "config-certmanager";

    /// All of them.
    pub const ALL: [&str; 13] = [
        AUTOSCALER,
        DEFAULTS,
        NETWORK,
        DOMAIN,
        FEATURES,
        DEPLOYMENT,
        GC,
        OBSERVABILITY,
        LOGGING,
        LEADER_ELECTION,
        TRACING,
        KOURIER,
        CERT_MANAGER,
    ];
}

/// One bad value of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// The key in the ConfigMap's `data`.
    pub key: String,
    /// What is wrong with its value and what would be right, naming the key: Knative's words.
    pub message: String,
}

/// What a look at a whole ConfigMap found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Values that make the ConfigMap unusable.
    pub errors: Vec<ConfigError>,
    /// Keys that are accepted but change nothing here, each with why.
    pub warnings: Vec<String>,
}

/// Judges the data of a ConfigMap of the system namespace. ConfigMaps of other names have no
/// findings: they are none of ours. `has_preamble`: whether the gateway was started with
/// `--proxy-protocol`.
pub fn check(name: &str, data: &BTreeMap<String, String>, has_preamble: bool) -> Findings {
    match name {
        name::AUTOSCALER => reader::check(data, Autoscaler::read),
        name::DEFAULTS => reader::check(data, Defaults::read),
        name::NETWORK => reader::check(data, Network::read),
        name::DOMAIN => {
            let errors = Domain::parse(data, "localhost").err().unwrap_or_default();
            Findings {
                errors,
                warnings: Vec::new(),
            }
        }
        name::FEATURES => reader::check(data, Features::read),
        name::DEPLOYMENT => reader::check(data, Deployment::read),
        name::GC => reader::check(data, Gc::read),
        name::OBSERVABILITY => reader::check(data, Observability::read),
        name::LOGGING => reader::check(data, logging::read),
        name::LEADER_ELECTION => reader::check(data, leader_election::read),
        // Knative has moved its keys to config-observability and left it empty.
        name::TRACING => reader::check(data, |_| ()),
        name::KOURIER => reader::check(data, |reader| kourier::read(reader, has_preamble)),
        name::CERT_MANAGER => reader::check(data, cert_manager),
        _ => Findings::default(),
    }
}

/// `config-certmanager`: whom Knative's controller asks for certificates through cert-manager.
fn cert_manager(reader: &reader::Reader<'_>) {
    for key in [
        "issuerRef",
        "clusterLocalIssuerRef",
        "systemInternalIssuerRef",
    ] {
        let why = "certificates come from the class that certificate-class of config-network \
                   names: the local authority, or a public one by ACME";
        reader.without_effect(key, why);
    }
}

#[cfg(test)]
mod tests;
