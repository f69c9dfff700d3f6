//! How far the pod is that a revision wakes with.

use api::names::label;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use reconcile::{Change, Informer, Key};
use scaling::{RevisionId, Step, Wakes};

use super::pods::is_ready;
use crate::object::{is_deleting, label};

/// The revision as gateways call it.
pub(super) fn revision(key: &Key) -> RevisionId {
    RevisionId {
        namespace: key.namespace.as_str().into(),
        name: key.name.as_str().into(),
    }
}

/// Tells of every pod's steps.
pub(super) fn follow(pods: &Informer<Pod>, wakes: Wakes) {
    pods.on_change(move |change| {
        if let Change::Applied(pod) = change {
            tell(pod, &wakes);
        }
    });
}

fn tell(pod: &Pod, wakes: &Wakes) {
    let (Some(name), Some(namespace)) = (label(pod, label::REVISION), pod.namespace()) else {
        return;
    };
    if is_deleting(pod) {
        return;
    }
    let revision = revision(&Key::new(namespace, name));
    wakes.reached(&revision, Step::Create);
    if is_running(pod) {
        wakes.reached(&revision, Step::Start);
    }
    if is_ready(pod) {
        wakes.reached(&revision, Step::Ready);
    }
}

/// Whether its first container has been started.
fn is_running(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let mut states = containers.into_iter().flatten().map(|it| it.state.as_ref());
    states.any(|state| state.is_some_and(|state| state.running.is_some()))
}
