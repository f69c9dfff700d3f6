//! UDPRoutes: the datagrams that come to a UDP listener, by client.

use api::gateway::v1::UdpRoute;

use super::RouteTranslation;
use super::attach::Applicant;
use super::plan::RouteKind;
use super::streams::{self, Route};
use crate::objects::{Name, Objects};

/// Translates one UDPRoute.
pub fn translate_udp(route: &UdpRoute, objects: &Objects) -> RouteTranslation {
    let name = Name::of(&route.metadata);
    streams::translate(
        &Route {
            applicant: Applicant {
                kind: RouteKind::Udp,
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
