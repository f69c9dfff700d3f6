//! Gateway API (`gateway.networking.k8s.io`): its kinds, and the words of its statuses.
//!
//! One Rust type per kind holds what every served version says: versions differ in name only.
//! Values that newer releases may extend stay text here, so that an object of a newer release is
//! read and judged, not lost; the schemas say what is allowed today.

pub mod filter;
pub mod reason;
pub mod v1;
pub mod v1alpha1;

/// The API group.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The release whose fields and rules are served.
pub const BUNDLE_VERSION: &str = "v1.7.0";
/// Controller name of the GatewayClasses that are ours by name.
pub const CONTROLLER: &str = "suimon.dev/gateway-controller";
/// The GatewayClass and the XMesh that are there from the start.
pub const CLASS: &str = "suimon";

/// Kinds of the API that somebody here acts on, or says in their status why not; what else there
/// will be is only stored.
const SERVED: [&str; 14] = [
    "GatewayClass",
    "Gateway",
    "ListenerSet",
    "HTTPRoute",
    "GRPCRoute",
    "TLSRoute",
    "TCPRoute",
    "UDPRoute",
    "ReferenceGrant",
    "BackendTLSPolicy",
    "XBackend",
    "XBackendTrafficPolicy",
    "XMesh",
    "XTelemetryPolicy",
];

/// What the user of a kind is told that is stored but not served; its status says nothing.
pub fn not_served(group: &str, kind: &str) -> Option<String> {
    let is_ours = [GROUP, v1alpha1::GROUP].contains(&group);
    (is_ours && !SERVED.contains(&kind)).then(|| {
        format!(
            "{kind} is stored, but this version of Suimon does not act on it; it serves {}",
            SERVED.join(", ")
        )
    })
}
