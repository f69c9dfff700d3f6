//! Kinds at `v1`, and what several of them share.

mod backend_tls_policy;
mod gateway;
mod gateway_class;
mod grpc_route;
mod http_route;
mod listener_set;
mod reference_grant;
mod stream_route;
mod tcp_route;
mod tls_route;
mod udp_route;

pub use backend_tls_policy::{
    BackendTlsPolicy, BackendTlsPolicySpec, BackendTlsValidation, PolicyAncestorStatus,
    PolicyStatus, PolicyTarget, SubjectAltName,
};
pub use gateway::{
    AddressSpec, AllowedListeners, AllowedRoutes, Frontend, FrontendTls, FrontendValidation,
    Gateway, GatewayBackendTls, GatewayInfrastructure, GatewaySpec, GatewayStatus, GatewayTls,
    Listener, ListenerFilters, ListenerNamespaces, ListenerStatus, ListenerTls,
    LocalParametersReference, PortFrontend, RouteGroupKind, RouteNamespaces, StatusAddress,
};
pub use gateway_class::{
    GatewayClass, GatewayClassSpec, GatewayClassStatus, ParametersReference, SupportedFeature,
};
pub use grpc_route::{
    GrpcBackendRef, GrpcHeaderMatch, GrpcMethodMatch, GrpcRoute, GrpcRouteMatch, GrpcRouteRule,
    GrpcRouteSpec,
};
pub use http_route::{
    CookieConfig, HttpBackendRef, HttpHeaderMatch, HttpPathMatch, HttpQueryParamMatch, HttpRoute,
    HttpRouteMatch, HttpRouteRetry, HttpRouteRule, HttpRouteSpec, HttpRouteTimeouts, SessionCookie,
    SessionHeader, SessionPersistence,
};
pub use listener_set::{ListenerSet, ListenerSetSpec, ListenerSetStatus, ParentGatewayReference};
pub use reference_grant::{
    ReferenceGrant, ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo,
};
pub use stream_route::{BackendRef, StreamRule};
pub use tcp_route::{TcpRoute, TcpRouteSpec};
pub use tls_route::{TlsRoute, TlsRouteSpec};
pub use udp_route::{UdpRoute, UdpRouteSpec};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

pub(crate) fn gateway_group() -> String {
    super::GROUP.to_owned()
}

fn gateway_kind() -> String {
    "Gateway".to_owned()
}

fn service_kind() -> String {
    "Service".to_owned()
}

fn secret_kind() -> String {
    "Secret".to_owned()
}

fn one() -> i32 {
    1
}

/// What a route wants to be attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    #[serde(default = "gateway_group")]
    pub group: String,
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// The route's own namespace if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    /// Name of a listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Port of listeners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A backend without a share: of a mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendObjectReference {
    #[serde(default)]
    pub group: String,
    #[serde(default = "service_kind")]
    pub kind: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A Secret, or another object, that may be in another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretObjectReference {
    #[serde(default)]
    pub group: String,
    #[serde(default = "secret_kind")]
    pub kind: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// An object of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    pub group: String,
    pub kind: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What every kind of route reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// One entry per parent and controller; entries of other controllers are not ours to touch.
    pub parents: Vec<RouteParentStatus>,
}

/// What one controller says about a route at one parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    pub parent_ref: ParentReference,
    pub controller_name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
