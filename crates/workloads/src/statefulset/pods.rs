//! The pods of a StatefulSet and the claims of their volumes; pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use reconcile::write::owner_reference;

use crate::history::REVISION_HASH;
use crate::template;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

fn claims(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    let claims = set
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_claim_templates.as_deref());
    claims.unwrap_or_default()
}

/// The pod of an ordinal: its name is its host name below the governing Service.
pub(super) fn new(
    set: &StatefulSet,
    template: &PodTemplateSpec,
    ordinal: i32,
    revision: &str,
) -> Pod {
    let mut pod = template::pod(template, set);
    let name = format!("{}-{ordinal}", set.name_any());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set
        .spec
        .as_ref()
        .and_then(|spec| spec.service_name.clone())
        .filter(|service| !service.is_empty());
    if !claims(set).is_empty() {
        let volumes = spec.volumes.get_or_insert_default();
        // A claim stands for the volume of its name, whatever the template says.
        volumes.retain(|volume| {
            claims(set)
                .iter()
                .all(|claim| claim.name_any() != volume.name)
        });
        volumes.extend(claims(set).iter().map(|claim| Volume {
            name: claim.name_any(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: format!("{}-{name}", claim.name_any()),
                read_only: None,
            }),
            ..Volume::default()
        }));
    }
    pod.metadata.name = Some(name);
    pod
}

/// The claims that the pod of this name needs.
pub(super) fn claims_of(set: &StatefulSet, pod: &str) -> Vec<PersistentVolumeClaim> {
    let spec = set.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let goes_with_set = policy.and_then(|policy| policy.when_deleted.as_deref()) == Some("Delete");
    let labels = spec.and_then(|spec| spec.selector.match_labels.clone());
    let claims = claims(set).iter().map(|claim| {
        let mut own = claim.metadata.labels.clone().unwrap_or_default();
        own.extend(labels.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(format!("{}-{pod}", claim.name_any())),
                namespace: set.namespace(),
                labels: Some(own),
                annotations: claim.metadata.annotations.clone(),
                owner_references: goes_with_set.then(|| vec![owner_reference(set)]),
                ..ObjectMeta::default()
            },
            spec: claim.spec.clone(),
            status: None,
        }
    });
    claims.collect()
}

/// Whether the claims of a pod go with it when the set shrinks.
pub(super) fn claims_go_with_pod(set: &StatefulSet) -> bool {
    let spec = set.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    policy.and_then(|policy| policy.when_scaled.as_deref()) == Some("Delete")
}
