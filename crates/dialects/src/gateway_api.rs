//! Gateway API (`gateway.networking.k8s.io`) → binds, routes and what is said about them.
//!
//! A Gateway becomes a [`Plan`] of its listeners and one bind per address and port; a route is
//! translated against the plans of the Gateways that it names. What the fields do not say: a
//! request belongs to the listener with the most specific hostname of its port and to no other,
//! rules of all routes of a host are tried together in the API's order, and a backend that cannot
//! be used takes its share of the requests and answers them 500.

mod attach;
mod backend_tls;
mod backends;
mod class;
mod features;
mod filters;
mod gates;
mod gateway;
mod grpc;
mod http;
mod known;
mod mesh;
mod options;
mod plan;
mod policies;
mod rules;
mod secure;
mod session;
mod sets;
mod shared;
mod status;
mod streams;
mod tcp;
mod telemetry;
mod tls;
mod traffic;
mod udp;
mod variant;
mod xbackend;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gateway::v1::ParentReference;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Route, RouteId, Stream, StreamId};

use crate::backend::BackendRef;
use crate::foreign::BackendSpec;
use crate::objects::{Dependency, Name};

pub(crate) use attach::covers;
pub(crate) use backend_tls::VERSIONS;
pub use class::{Adopt, class_status, mesh_status};
pub use features::{CONSUMER_ROUTES, FEATURES, MESH_FEATURES};
pub use gates::GatePlan;
pub use gateway::{Assigned, GatewayTranslation, translate_gateway};
pub use grpc::translate_grpc;
pub use http::translate_http;
pub use known::AuthoritiesState;
pub(crate) use known::Known;
pub use mesh::{Itself, ServiceBind, no_other, service_itself};
pub(crate) use options::{CURVES, MAX_VERSION, MIN_VERSION, SUITES, version_text};
pub use plan::{Finding, ListenerPlan, Plan, Protocol, RouteKind, TlsMode};
pub use policies::{Policy, PolicyKey, PolicyKind, PolicyOutcome, judge_policy, policy_status};
pub use sets::{gateway_of, listener_set_status};
pub use status::{BindFailure, gateway_status, route_status};
pub use tcp::translate_tcp;
pub use tls::translate_tls;
pub use udp::translate_udp;
pub(crate) use variant::spec;
pub(crate) use xbackend::is_ours as is_xbackend;
pub use xbackend::service_name as xbackend_service;

/// The records of one route.
#[derive(Clone, Debug, Default)]
pub struct RouteTranslation {
    pub routes: Vec<(RouteId, Arc<Route>)>,
    /// Of routes for TLS connections.
    pub tls: Vec<(TlsId, Arc<TlsHost>)>,
    /// Of routes for whatever comes to a bind.
    pub streams: Vec<(StreamId, Arc<Stream>)>,
    /// At the Services that are parents. The same bind may be another route's, too.
    pub binds: Vec<ServiceBind>,
    /// What the records send to.
    pub backends: BTreeSet<BackendRef>,
    /// How some of them differ from what their Services say.
    pub specs: BTreeMap<BackendRef, Arc<BackendSpec>>,
    /// One for each parent that is a Gateway of ours or a Service, in the order of the route.
    pub parents: Vec<ParentOutcome>,
    /// Listeners that the route is attached to, by Gateway.
    pub attached: BTreeSet<(Name, Arc<str>)>,
    /// The same, by ListenerSet.
    pub attached_sets: BTreeSet<(Name, Arc<str>)>,
    /// Services that policies name, with each Gateway whose requests this route sends there.
    pub governed: BTreeSet<(Name, Name)>,
    /// What must be watched: a change may change this translation.
    pub reads: BTreeSet<Dependency>,
}

/// What became of a route at one parent.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentOutcome {
    pub parent: ParentReference,
    /// Of the Gateway's class, or our own: whose entry in the status it is.
    pub controller: Arc<str>,
    /// Why it is not accepted.
    pub refused: Option<Finding>,
    /// Why some backend cannot be used.
    pub unresolved: Option<Finding>,
    /// What is served otherwise than written, though the route is accepted.
    pub partial: Option<Finding>,
}

#[cfg(test)]
pub(crate) mod tests;
