//! What an autoscaler's status says: conditions and metrics, in Kubernetes' words; pure.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus,
    MetricTarget, MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::usage::{Proposal, Resource};

/// The conditions, in their order.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) list: Vec<HorizontalPodAutoscalerCondition>,
}

impl Conditions {
    pub(super) fn of(list: Vec<HorizontalPodAutoscalerCondition>) -> Self {
        Self { list }
    }

    /// Sets one; its time changes only with its status.
    pub(super) fn set(&mut self, type_: &str, holds: bool, reason: &str, message: String) {
        let status = if holds { "True" } else { "False" };
        let index = self
            .list
            .iter()
            .position(|condition| condition.type_ == type_);
        let since = index
            .map(|index| &self.list[index])
            .filter(|old| old.status == status)
            .and_then(|old| old.last_transition_time.clone());
        let condition = HorizontalPodAutoscalerCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or_else(reconcile::now)),
        };
        match index {
            Some(index) => self.list[index] = condition,
            None => self.list.push(condition),
        }
    }
}

/// What a metric looks at; other metrics than those of resources are refused.
pub(super) fn resource(metric: &MetricSpec) -> Result<(Resource<'_>, &MetricTarget), String> {
    let found = match (
        metric.type_.as_str(),
        &metric.resource,
        &metric.container_resource,
    ) {
        ("Resource", Some(source), _) => {
            let name = source.name.as_str();
            (
                Resource {
                    name,
                    container: None,
                },
                &source.target,
            )
        }
        ("ContainerResource", _, Some(source)) => {
            let container = Some(source.container.as_str());
            let name = source.name.as_str();
            (Resource { name, container }, &source.target)
        }
        (other, ..) => {
            return Err(format!(
                "metrics of type {other} are not served here, use Resource or ContainerResource"
            ));
        }
    };
    match found.0.name {
        "cpu" | "memory" => Ok(found),
        other => Err(format!(
            "resource {other} is not measured here, use cpu or memory"
        )),
    }
}

/// Reason and message of a metric that could not be judged.
pub(super) fn failure(metric: &MetricSpec, error: String) -> (&'static str, String) {
    let reason = match metric.type_.as_str() {
        "Resource" => "FailedGetResourceMetric",
        "ContainerResource" => "FailedGetContainerResourceMetric",
        "Pods" => "FailedGetPodsMetric",
        "Object" => "FailedGetObjectMetric",
        "External" => "FailedGetExternalMetric",
        _ => "InvalidMetricSourceType",
    };
    let message = match resource(metric) {
        Ok((resource, target)) if target.type_ == "Utilization" => {
            format!("failed to get {} utilization: {error}", resource.name)
        }
        Ok((resource, _)) => format!(
            "failed to get {} resource metric value: {error}",
            resource.name
        ),
        Err(_) => error,
    };
    (reason, message)
}

/// What conditions and Events call a metric.
pub(super) fn words(metric: &MetricSpec, proposal: &Proposal) -> String {
    let name = match resource(metric) {
        Ok((
            Resource {
                name,
                container: Some(_),
            },
            _,
        )) => format!("{name} container resource"),
        Ok((
            Resource {
                name,
                container: None,
            },
            _,
        )) => format!("{name} resource"),
        Err(_) => return String::new(),
    };
    match proposal.utilization {
        Some(_) => format!("{name} utilization (percentage of request)"),
        None => name,
    }
}

/// The metric as it is now.
pub(super) fn metric(metric: &MetricSpec, proposal: &Proposal) -> MetricStatus {
    let mut status = MetricStatus {
        type_: metric.type_.clone(),
        ..MetricStatus::default()
    };
    let Ok((resource, _)) = resource(metric) else {
        return status;
    };
    let current = MetricValueStatus {
        average_utilization: proposal
            .utilization
            .map(|percent| i32::try_from(percent).unwrap_or(i32::MAX)),
        average_value: Some(amount(proposal.average)),
        value: None,
    };
    match resource.container {
        Some(container) => {
            status.container_resource = Some(ContainerResourceMetricStatus {
                container: container.to_owned(),
                name: resource.name.to_owned(),
                current,
            });
        }
        None => {
            status.resource = Some(ResourceMetricStatus {
                name: resource.name.to_owned(),
                current,
            });
        }
    }
    status
}

fn amount(milli: i64) -> Quantity {
    match milli % 1000 {
        0 => Quantity((milli / 1000).to_string()),
        _ => Quantity(format!("{milli}m")),
    }
}
