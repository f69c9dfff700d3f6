//! Istio (`networking.istio.io`, `security.istio.io`, …) → routes, sockets, certificates, policies.
//!
//! Roots are Gateways, which claim ports and names, and VirtualServices, whose rules are served
//! where the Gateways that they name say. Everything else is read by those. Precedence is Istio's:
//! the oldest VirtualService of a host first, rules as written, what matches everything last. There
//! is one gateway, which stands for `istio: ingressgateway` in the root namespace `istio-system`;
//! what sidecars would do for a workload is done by the gateway in front of it.

pub(crate) mod authorization;
mod client_tls;
mod compare;
pub(crate) mod conditions;
pub(crate) mod custom;
mod delegate;
mod destination;
pub(crate) mod destination_rule;
mod gateway;
mod headers;
mod http;
mod kinds;
mod matches;
pub mod mesh;
mod names;
mod parts;
mod patterns;
mod place;
mod reach;
mod resilience;
pub(crate) mod security;
mod service_entry;
mod sni;
mod tcp;
pub(crate) mod telemetry;
mod tls;
mod tokens;
mod traffic;
pub(crate) mod values;
mod virtual_service;

pub use kinds::KINDS;
pub(crate) use kinds::{AUTHORIZATION_POLICY, DESTINATION_RULE, REQUEST_AUTHENTICATION, TELEMETRY};
pub(crate) use names::{fqdn, of_service, service as service_of};

/// Namespace of policies for the whole mesh, and the one that the gateway counts as being in.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// Labels that objects select Istio's gateways and Knative's activator by; we are all of them.
pub(crate) const GATEWAY_LABELS: [(&str, &str); 6] = [
    ("istio", "ingressgateway"),
    ("app", "istio-ingressgateway"),
    ("istio", "ingress"),
    ("app", "istio-ingress"),
    ("app", "activator"),
    ("app.kubernetes.io/name", "istio-ingressgateway"),
];

/// Whether a label is the gateway's.
pub(crate) fn is_gateway_label(key: &str, value: &str) -> bool {
    GATEWAY_LABELS.contains(&(key, value))
}

#[cfg(test)]
mod tests;
