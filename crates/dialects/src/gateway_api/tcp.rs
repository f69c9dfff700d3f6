//! TCPRoutes: everything that connects to a TCP listener, and what is inside the TLS that a listener ends.

use api::gateway::v1::TcpRoute;

use super::RouteTranslation;
use super::attach::Applicant;
use super::plan::RouteKind;
use super::streams::{self, Route};
use crate::objects::{Name, Objects};

/// Translates one TCPRoute.
pub fn translate_tcp(route: &TcpRoute, objects: &Objects) -> RouteTranslation {
    let name = Name::of(&route.metadata);
    streams::translate(
        &Route {
            applicant: Applicant {
                kind: RouteKind::Tcp,
                name: &name,
                parents: &route.spec.parent_refs,
                hostnames: &[],
                defaults: route.spec.use_default_gateways.as_deref(),
            },
            metadata: &route.metadata,
            rules: &route.spec.rules,
        },
        objects,
    )
}
