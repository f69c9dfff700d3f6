//! The revision that a Configuration's newest generation stands for.

use api::names::{annotation, child_name, label};
use api::serving::v1::{Configuration, Revision, RevisionSpec, routing_state};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::object;

/// The name of the newest generation's revision.
pub(super) fn revision_name(configuration: &Configuration) -> String {
    let template = configuration.spec.template.metadata.as_ref();
    match template.and_then(|meta| meta.name.as_deref()) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => {
            let generation = configuration.metadata.generation.unwrap_or_default();
            child_name(&configuration.name_any(), &format!("-{generation:05}"))
        }
    }
}

/// The revision itself, born `pending`: no route has looked at it yet.
pub(super) fn revision(configuration: &Configuration, now: &Time) -> Revision {
    let template = configuration
        .spec
        .template
        .metadata
        .clone()
        .unwrap_or_default();
    let mut labels = template.labels.unwrap_or_default();
    let generation = configuration.metadata.generation.unwrap_or_default();
    labels.insert(label::CONFIGURATION.into(), configuration.name_any());
    labels.insert(
        label::CONFIGURATION_GENERATION.into(),
        generation.to_string(),
    );
    labels.insert(
        label::CONFIGURATION_UID.into(),
        configuration.uid().unwrap_or_default(),
    );
    labels.insert(label::ROUTING_STATE.into(), routing_state::PENDING.into());
    for key in [label::SERVICE, label::SERVICE_UID] {
        if let Some(value) = object::label(configuration, key) {
            labels.insert(key.into(), value.into());
        }
    }
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(annotation::ROUTING_STATE_MODIFIED.into(), timestamp(now));
    // Who last changed the Configuration made this revision.
    let creator = object::annotation(configuration, annotation::LAST_MODIFIER);
    if let Some(creator) = creator {
        annotations.insert(annotation::CREATOR.into(), creator.into());
    }
    let name = revision_name(configuration);
    Revision {
        metadata: object::child_metadata(configuration, name, labels, annotations),
        spec: RevisionSpec {
            ..configuration.spec.template.spec.clone()
        },
        status: None,
    }
}

/// A time as Knative writes it into annotations: RFC 3339, whole seconds.
pub(crate) fn timestamp(time: &Time) -> String {
    time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
