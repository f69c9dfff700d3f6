//! ControllerRevisions: the templates that a StatefulSet or a DaemonSet had.
//!
//! Their content is a strategic merge patch of the owner, as `kubectl rollout undo` needs it.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::ResourceExt;
use reconcile::write::{self, Object, owner_reference};
use reconcile::{Error, Informer, Key};
use serde_json::{Value, json};

use crate::name;

/// Label of a revision and of the pods made from it.
pub(crate) const REVISION_HASH: &str = "controller-revision-hash";
const HASH: &str = "controller.kubernetes.io/hash";

/// What to do so that the newest revision is the template as it is now; pure.
#[derive(Debug)]
enum Step {
    Keep(Arc<ControllerRevision>),
    /// The template came back: it becomes the newest.
    Renumber(Arc<ControllerRevision>, i64),
    Create(Box<ControllerRevision>),
}

/// Ordered by number.
pub(crate) fn sorted(mut known: Vec<Arc<ControllerRevision>>) -> Vec<Arc<ControllerRevision>> {
    known.sort_by_key(|revision| (revision.revision, revision.name_any()));
    known
}

fn step<O: Object>(
    owner: &O,
    template: &PodTemplateSpec,
    known: &[Arc<ControllerRevision>],
) -> Step {
    let data = data(template);
    let newest = known.last().map_or(0, |revision| revision.revision);
    let same = known
        .iter()
        .rev()
        .find(|revision| content(revision) == Some(&data));
    match same {
        Some(revision) if revision.revision == newest => Step::Keep(Arc::clone(revision)),
        Some(revision) => Step::Renumber(Arc::clone(revision), newest + 1),
        None => Step::Create(Box::new(revision(owner, template, data, newest + 1))),
    }
}

/// Writes the newest revision and returns it. `known` are the owner's, ordered by number.
pub(crate) async fn sync<O: Object>(
    client: &kube::Client,
    revisions: &Informer<ControllerRevision>,
    owner: &O,
    template: &PodTemplateSpec,
    known: &[Arc<ControllerRevision>],
) -> Result<Arc<ControllerRevision>, Error> {
    let written = match step(owner, template, known) {
        Step::Keep(revision) => return Ok(revision),
        Step::Renumber(revision, number) => {
            let patch = json!({"metadata": {"uid": revision.uid()}, "revision": number});
            let key = Key::of(revision.as_ref());
            write::merge::<ControllerRevision>(client, &key, &patch).await?
        }
        Step::Create(revision) => match write::create_if_absent(client, revision.as_ref()).await? {
            Some(created) => created,
            // The cache is behind, or a namesake of another owner is still going.
            None => {
                let (key, what) = (Key::of(owner), revision.name_any());
                return Err(Error::Missing { key, what });
            }
        },
    };
    revisions.learn(written.clone());
    Ok(Arc::new(written))
}

/// Deletes revisions beyond the limit that no pod has, oldest first.
pub(crate) async fn truncate(
    client: &kube::Client,
    known: &[Arc<ControllerRevision>],
    live: &HashSet<String>,
    limit: i32,
) -> Result<(), Error> {
    for revision in outdated(known, live, limit) {
        let uid = revision.uid().unwrap_or_default();
        let key = Key::of(revision.as_ref());
        write::delete_exactly::<ControllerRevision>(client, &key, &uid).await?;
    }
    Ok(())
}

fn outdated(
    known: &[Arc<ControllerRevision>],
    live: &HashSet<String>,
    limit: i32,
) -> Vec<Arc<ControllerRevision>> {
    let dead: Vec<&Arc<ControllerRevision>> = known
        .iter()
        .filter(|revision| !live.contains(&revision.name_any()))
        .collect();
    let surplus = dead
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(0));
    dead.into_iter().take(surplus).cloned().collect()
}

/// The template of a revision.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = content(revision)?.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash in a revision's name.
pub(crate) fn hash(revision: &ControllerRevision) -> String {
    revision.labels().get(HASH).cloned().unwrap_or_default()
}

fn content(revision: &ControllerRevision) -> Option<&Value> {
    revision.data.as_ref().map(|data| &data.0)
}

fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn revision<O: Object>(
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    number: i64,
) -> ControllerRevision {
    // Equal templates of one owner share a revision, so its hash is free.
    let hash = name::hash(data.to_string().as_bytes());
    let labels = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.clone());
    let mut labels = labels.unwrap_or_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let mut annotations = owner.annotations().clone();
    annotations.remove(api::names::annotation::LAST_APPLIED);
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name_any())),
            namespace: owner.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::StatefulSet;

    fn pod_template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "image": image}]}}))
            .expect("a template")
    }

    #[test]
    fn a_template_that_comes_back_becomes_the_newest_again() {
        let set: StatefulSet =
            serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"}}))
                .expect("a StatefulSet");
        let made = |image: &str, known: &[Arc<ControllerRevision>]| match step(
            &set,
            &pod_template(image),
            known,
        ) {
            Step::Create(revision) => Arc::new(*revision),
            other => panic!("{other:?}"),
        };
        let first = made("v1", &[]);
        let second = made("v2", std::slice::from_ref(&first));
        assert_eq!((first.revision, second.revision), (1, 2));
        assert_eq!(template(&first), Some(pod_template("v1")));
        let known = [Arc::clone(&first), second];
        let back = step(&set, &pod_template("v1"), &known);
        assert!(
            matches!(back, Step::Renumber(revision, 3) if revision.name_any() == first.name_any())
        );
        assert!(matches!(
            step(&set, &pod_template("v2"), &known),
            Step::Keep(_)
        ));
        let live = [first.name_any()].into();
        assert_eq!(outdated(&known, &live, 0)[0].revision, 2);
        assert!(outdated(&known, &live, 1).is_empty());
    }
}
