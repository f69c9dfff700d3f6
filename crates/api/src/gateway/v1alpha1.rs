//! Experimental kinds (`gateway.networking.x-k8s.io/v1alpha1`).

mod backend;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::v1::{
    GatewayClassStatus, ParametersReference, PolicyStatus, PolicyTarget, SessionPersistence,
};

pub use backend::{
    Backend, BackendPort, BackendSpec, BackendTls, EndpointSelector, ExternalHostname,
};

/// Their API group.
pub const GROUP: &str = "gateway.networking.x-k8s.io";

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.x-k8s.io",
    version = "v1alpha1",
    kind = "XBackendTrafficPolicy",
    root = "BackendTrafficPolicy",
    plural = "xbackendtrafficpolicies",
    schema = "disabled",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
/// Services, and how requests are sent to them whatever route they come by.
pub struct BackendTrafficPolicySpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<PolicyTarget>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_constraint: Option<RetryConstraint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.x-k8s.io",
    version = "v1alpha1",
    kind = "XTelemetryPolicy",
    root = "TelemetryPolicy",
    plural = "xtelemetrypolicies",
    schema = "disabled",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
/// Gateways, and what is told of their requests.
pub struct TelemetryPolicySpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<PolicyTarget>,
    #[serde(default)]
    pub tracing: Tracing,
}

/// Traces of requests. Its other fields are set with the mode `Enabled` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// `Enabled`, `Disabled`, or `ImplementationDefault`, as if it were absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.x-k8s.io",
    version = "v1alpha1",
    kind = "XMesh",
    root = "Mesh",
    plural = "xmeshes",
    schema = "disabled",
    status = "GatewayClassStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
/// Who serves routes whose parent is a Service.
pub struct MeshSpec {
    pub controller_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<ParametersReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// How many requests may be further tries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryConstraint {
    #[serde(default)]
    pub budget: RetryBudget,
    /// So many always may.
    #[serde(default)]
    pub min_retry_rate: RequestRate,
}

/// A share of the requests of a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    #[serde(default = "twenty")]
    pub percent: i32,
    #[serde(default = "ten_seconds")]
    pub interval: String,
}

/// So many in a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestRate {
    #[serde(default = "ten")]
    pub count: i32,
    #[serde(default = "one_second")]
    pub interval: String,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: twenty(),
            interval: ten_seconds(),
        }
    }
}

impl Default for RequestRate {
    fn default() -> Self {
        Self {
            count: ten(),
            interval: one_second(),
        }
    }
}

fn twenty() -> i32 {
    20
}

fn ten() -> i32 {
    10
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

fn one_second() -> String {
    "1s".to_owned()
}
