//! The revision's ServerlessService and Metric: how requests reach it and what is measured.
//!
//! Every gateway of ours is an activator and a way to the pods at once, so the mode moves no
//! endpoints; it says what Knative's would, and since when (`ActivatorEndpointsPopulated`) counts
//! towards the grace period of the last pod.

use std::time::Duration;

use api::autoscaling::v1alpha1::{Metric, MetricSpec, MetricStatus, PodAutoscaler};
use api::condition::{Conditions, READY, Truth, find};
use api::networking::v1alpha1::{
    ServerlessMode, ServerlessService, ServerlessServiceSpec, ServerlessServiceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use scaling::autoscaler::Spec;

use super::status::lasted;
use crate::object::{Ownership, Strings, Write, child_metadata, ownership};

/// The one annotation that Knative passes on.
const METRIC: &str = "autoscaling.knative.dev/metric";
const POPULATED: &str = "EndpointsPopulated";
const BY_ACTIVATOR: &str = "ActivatorEndpointsPopulated";

/// Knative's rule for who is in the path: the pods alone only while there are pods and room for
/// a burst beyond the load.
pub(super) fn mode(want: Option<u32>, excess_burst_capacity: Option<i64>) -> ServerlessMode {
    let has_pods = want.is_some_and(|want| want > 0);
    let has_room = excess_burst_capacity.is_some_and(|excess| excess >= 0);
    if has_pods && has_room {
        ServerlessMode::Serve
    } else {
        ServerlessMode::Proxy
    }
}

/// Activators that Knative would put into the path.
pub(super) fn activators(ready: u32, spec: &Spec, activator_capacity: f64) -> i32 {
    const FEWEST: f64 = 2.0;
    if spec.target_burst_capacity == 0.0 {
        return FEWEST as i32;
    }
    let load = f64::from(ready) * spec.total_value + spec.target_burst_capacity.max(0.0);
    (load / activator_capacity).ceil().max(FEWEST) as i32
}

/// The ServerlessService as it should be; `None` if it is.
pub(super) fn serverless_write(
    autoscaler: &PodAutoscaler,
    existing: Option<&ServerlessService>,
    mode: ServerlessMode,
    activators: i32,
) -> Option<Write<ServerlessService>> {
    let spec = ServerlessServiceSpec {
        mode: Some(mode),
        object_ref: autoscaler.spec.scale_target_ref.clone(),
        protocol_type: autoscaler.spec.protocol_type.clone(),
        num_activators: activators,
    };
    match existing {
        // One of an earlier parent is about to go; then we are called again.
        Some(existing) if existing.spec == spec || !is_ours(existing, autoscaler) => None,
        Some(existing) => Some(Write::Replace(ServerlessService {
            spec,
            ..existing.clone()
        })),
        None => {
            let labels = autoscaler.labels().clone();
            let mut annotations = autoscaler.annotations().clone();
            annotations.retain(|key, _| key == METRIC);
            let metadata = child_metadata(autoscaler, autoscaler.name_any(), labels, annotations);
            Some(Write::Create(ServerlessService {
                metadata,
                spec,
                status: None,
            }))
        }
    }
}

/// Whether a child belongs to this very PodAutoscaler.
pub(super) fn is_ours(child: &impl Resource, autoscaler: &PodAutoscaler) -> bool {
    ownership(child, autoscaler) == Ownership::Ours
}

/// What the ServerlessService reports. Its one Service is both of Knative's: routes name it, and
/// it selects the pods.
pub(super) fn serverless_status(
    serverless: &ServerlessService,
    ready: u32,
    now: &Time,
) -> ServerlessServiceStatus {
    let mut status = serverless.status.clone().unwrap_or_default();
    let stored = std::mem::take(&mut status.conditions);
    let mut conditions = Conditions::new(&stored, &[POPULATED], now.clone());
    if ready > 0 {
        conditions.mark_true(POPULATED);
    } else {
        conditions.mark_unknown(POPULATED, "NoHealthyBackends", "K8s Service is not ready");
    }
    let is_proxy = ready == 0 || serverless.spec.mode == Some(ServerlessMode::Proxy);
    let truth = if is_proxy { Truth::True } else { Truth::False };
    // Knative words both values alike.
    conditions.mark_info(
        BY_ACTIVATOR,
        truth,
        "ActivatorEndpointsPopulated",
        "Revision is backed by Activator",
    );
    ServerlessServiceStatus {
        observed_generation: serverless.metadata.generation,
        conditions: conditions.into_vec(),
        service_name: Some(serverless.name_any()),
        private_service_name: Some(serverless.name_any()),
        ..status
    }
}

/// How long every request has gone through an activator.
pub(super) fn proxied_for(serverless: Option<&ServerlessService>, now: &Time) -> Duration {
    let status = serverless.and_then(|it| it.status.as_ref());
    let condition = status.and_then(|status| find(&status.conditions, BY_ACTIVATOR));
    let condition = condition.filter(|condition| condition.is(Truth::True));
    condition.map_or(Duration::ZERO, |condition| lasted(condition, now))
}

/// The Metric as it should be; `None` if it is.
pub(super) fn metric_write(
    autoscaler: &PodAutoscaler,
    existing: Option<&Metric>,
    spec: &Spec,
) -> Option<Write<Metric>> {
    let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let spec = MetricSpec {
        stable_window: nanoseconds(spec.stable_window),
        panic_window: nanoseconds(spec.panic_window),
        // With the activator always in the path it alone is asked.
        scrape_target: if spec.target_burst_capacity < 0.0 {
            String::new()
        } else {
            autoscaler.name_any()
        },
    };
    match existing {
        Some(existing) if existing.spec == spec || !is_ours(existing, autoscaler) => None,
        Some(existing) => Some(Write::Replace(Metric {
            spec,
            ..existing.clone()
        })),
        None => Some(Write::Create(Metric {
            metadata: child_metadata(
                autoscaler,
                autoscaler.name_any(),
                autoscaler.labels().clone(),
                Strings::new(),
            ),
            spec,
            status: None,
        })),
    }
}

/// What the Metric reports: the gateways measure from the first request on.
pub(super) fn metric_status(metric: &Metric, now: &Time) -> MetricStatus {
    let mut status = metric.status.clone().unwrap_or_default();
    let stored = std::mem::take(&mut status.conditions);
    let mut conditions = Conditions::new(&stored, &[], now.clone());
    conditions.mark_true(READY);
    MetricStatus {
        observed_generation: metric.metadata.generation,
        conditions: conditions.into_vec(),
        ..status
    }
}
