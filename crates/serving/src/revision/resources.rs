//! The children of a Revision, as it wants them.

use std::collections::BTreeMap;

use api::autoscaling::v1alpha1::{PodAutoscaler, PodAutoscalerSpec, Reachability, ScaleTargetRef};
use api::caching::v1alpha1::{Image, ImageSpec};
use api::names::{annotation, child_name, label};
use api::serving::v1::{Revision, routing_state};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::pod;
use crate::digest::Pinned;
use crate::object::{self, Strings};
use crate::settings::Config;

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
const INITIAL_SCALE: [&str; 2] = [
    "autoscaling.knative.dev/initial-scale",
    "autoscaling.knative.dev/initialScale",
];
const PROGRESS_DEADLINE: [&str; 2] = [
    "serving.knative.dev/progress-deadline",
    "serving.knative.dev/progressDeadline",
];

/// Name of the Deployment of a revision.
pub(super) fn deployment_name(revision: &Revision) -> String {
    child_name(&revision.name_any(), "-deployment")
}

/// The Deployment. `replicas` is only its start: the autoscaler owns it afterwards.
pub(super) fn deployment(revision: &Revision, images: &Pinned, config: &Config) -> Deployment {
    let labels = labels(revision);
    let annotations = annotations(revision);
    let selector = [label::REVISION_UID].map(|key| (key.to_owned(), labels[key].clone()));
    let mut pod_annotations = annotations.clone();
    if let Some((_, container)) = pod::serving_container(revision) {
        pod_annotations.insert(DEFAULT_CONTAINER.to_owned(), container.name.clone());
    }
    let none_missing = RollingUpdateDeployment {
        max_unavailable: Some(IntOrString::Int(0)),
        max_surge: None,
    };
    let spec = DeploymentSpec {
        replicas: Some(initial_scale(revision, config)),
        selector: LabelSelector {
            match_labels: Some(BTreeMap::from(selector)),
            match_expressions: None,
        },
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(none_missing),
        }),
        revision_history_limit: Some(0),
        progress_deadline_seconds: Some(progress_deadline(revision, config)),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels.clone()),
                annotations: Some(pod_annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(pod::spec(revision, images, config)),
        },
        ..DeploymentSpec::default()
    };
    let name = deployment_name(revision);
    Deployment {
        metadata: object::child_metadata(revision, name, labels, annotations),
        spec: Some(spec),
        status: None,
    }
}

/// The PodAutoscaler. `cannot_start` means that its pods fail for reasons that more of them
/// would not change, so nothing should hold them up.
pub(super) fn autoscaler(revision: &Revision, cannot_start: bool) -> PodAutoscaler {
    let reachability = match object::label(revision, label::ROUTING_STATE) {
        _ if cannot_start => Reachability::Unreachable,
        Some(routing_state::ACTIVE) => Reachability::Reachable,
        Some(routing_state::RESERVE) => Reachability::Unreachable,
        _ => Reachability::Unknown,
    };
    let metadata = object::child_metadata(
        revision,
        revision.name_any(),
        labels(revision),
        annotations(revision),
    );
    PodAutoscaler {
        metadata,
        spec: PodAutoscalerSpec {
            container_concurrency: revision.spec.container_concurrency.unwrap_or_default(),
            scale_target_ref: ScaleTargetRef {
                api_version: Some("apps/v1".to_owned()),
                kind: Some("Deployment".to_owned()),
                name: deployment_name(revision),
            },
            reachability: Some(reachability),
            protocol_type: pod::protocol(revision).to_owned(),
        },
        status: None,
    }
}

/// An Image for each container: an invitation to fetch it in advance, as Knative leaves one.
pub(super) fn images(revision: &Revision, pinned: &Pinned) -> Vec<Image> {
    let pod = &revision.spec.pod;
    let init = pod.init_containers.iter().flatten();
    let of_init = init.zip(&pinned.init_containers);
    let containers = pod.containers.iter().zip(&pinned.containers);
    of_init
        .chain(containers)
        .map(|(container, pinned)| {
            let written = container.image.clone().unwrap_or_default();
            let mut annotations = annotations(revision);
            annotations.retain(|key, _| !key.starts_with("autoscaling.knative.dev/"));
            Image {
                metadata: object::child_metadata(
                    revision,
                    image_name(revision, &container.name),
                    labels(revision),
                    annotations,
                ),
                spec: ImageSpec {
                    image: pinned.image_digest.clone().unwrap_or(written),
                    service_account_name: pod.service_account_name.clone(),
                    image_pull_secrets: pod.image_pull_secrets.clone().unwrap_or_default(),
                },
                status: None,
            }
        })
        .collect()
}

/// Name of the Image of a container.
pub(super) fn image_name(revision: &Revision, container: &str) -> String {
    let cache = child_name(&revision.name_any(), "-cache");
    child_name(&cache, &format!("-{container}"))
}

/// Replicas that must be ready once before the revision is Ready.
pub(super) fn initial_scale(revision: &Revision, config: &Config) -> i32 {
    let asked = INITIAL_SCALE
        .iter()
        .find_map(|key| object::annotation(revision, key));
    match asked.and_then(|text| text.parse().ok()) {
        Some(0) if !config.autoscaler.allow_zero_initial_scale => config.autoscaler.initial_scale,
        Some(scale) if scale >= 0 => scale,
        _ => config.autoscaler.initial_scale,
    }
}

fn progress_deadline(revision: &Revision, config: &Config) -> i32 {
    let asked = PROGRESS_DEADLINE
        .iter()
        .find_map(|key| object::annotation(revision, key));
    let asked = asked.and_then(|text| api::duration::parse(text).ok());
    let deadline = asked.unwrap_or(config.deployment.progress_deadline);
    i32::try_from(deadline.as_secs()).unwrap_or(i32::MAX)
}

/// The revision's labels without those that change while it lives.
fn labels(revision: &Revision) -> Strings {
    let mut labels = revision.labels().clone();
    labels.retain(|key, _| key != label::ROUTE && key != label::ROUTING_STATE);
    labels.insert(label::REVISION.to_owned(), revision.name_any());
    labels.insert(
        label::REVISION_UID.to_owned(),
        revision.uid().unwrap_or_default(),
    );
    labels
        .entry("app".to_owned())
        .or_insert_with(|| revision.name_any());
    labels
}

/// The revision's annotations without those that change while it lives.
fn annotations(revision: &Revision) -> Strings {
    const OF_ROUTING: [&str; 3] = [
        annotation::ROUTES,
        annotation::ROUTING_STATE_MODIFIED,
        annotation::LAST_APPLIED,
    ];
    let mut annotations = revision.annotations().clone();
    annotations.retain(|key, _| !OF_ROUTING.contains(&key.as_str()));
    annotations
}
