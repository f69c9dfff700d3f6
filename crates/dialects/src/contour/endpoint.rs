//! What is known of a service's endpoints besides what its route says about all of them: Contour's
//! own values; over those what policies say about the Service; over that the times of the route
//! and the annotations of the Service.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{BackendPolicy, Timeouts};

use super::balance::{self, Balancing};
use super::policy::Times;
use super::service::Target;
use crate::foreign::BackendSpec;
use crate::objects::Reader;
use crate::overlay;
use crate::shared::limits;

/// Contour's own default.
const CONNECT: Duration = Duration::from_secs(2);

/// What holds for every backend of this dialect.
pub(super) fn plain(target: &Target<'_>, idle: Option<Duration>) -> BackendPolicy {
    let limits = target.service.filter(|_| !target.is_plain);
    BackendPolicy {
        balancer: Balancing::default().balancer,
        limits: limits.map(balance::limits).unwrap_or_default(),
        connect_timeout: Some(CONNECT),
        idle_timeout: idle,
        ..BackendPolicy::default()
    }
}

/// The endpoints of a revision are chosen and limited by who counts its requests, unless users ask:
/// then there is no policy.
pub(super) fn said(target: &Target<'_>, times: &Times, reader: &Reader<'_>) -> BackendSpec {
    let idle = |idle| Timeouts {
        idle: Some(idle),
        ..Timeouts::default()
    };
    let usual = if target.is_plain {
        BackendSpec::default()
    } else {
        BackendSpec {
            policy: Some(Arc::new(plain(target, times.idle_connection))),
            timeouts: times.idle.map(idle),
            ..BackendSpec::default()
        }
    };
    let reference = &target.reference;
    let mut spec = overlay::endpoints(reader, &reference.service, reference.port, usual);
    if times.is_idle_written {
        spec.timeouts = match spec.timeouts {
            Some(said) => Some(Timeouts {
                idle: times.idle,
                ..said
            }),
            None => times.idle.map(idle),
        };
    }
    if let Some(policy) = &mut spec.policy {
        let policy = Arc::make_mut(policy);
        if times.is_connection_written {
            policy.idle_timeout = times.idle_connection;
        }
        if let Some(service) = target.service.filter(|_| !target.is_plain) {
            policy.limits = limits::or(&balance::written_limits(service), &policy.limits);
        }
    }
    spec
}
