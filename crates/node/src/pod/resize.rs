//! CPU and memory that a running pod gets or gives back (`pods/resize`).
//!
//! The limits of a running container change in place; it is started again only if its
//! `resizePolicy` says so. What the node has no room for, and what cannot be done, is told in the
//! pod's conditions and tried again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tokio::time::Instant;

use super::context::Context;
use super::record::Role;
use super::stop;
use crate::event;
use crate::room::NoRoom;
use crate::runtime::Sandbox;

/// A change that was refused is tried again after this long: memory may be free by then.
const AGAIN: Duration = Duration::from_secs(10);

/// What a pod's conditions say of changes that are not done: those that wait, those that failed.
pub(crate) const CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// Why a pod does not have what its object says, told in its status until it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    stage: Stage,
    pub(crate) why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The node may have room later.
    Deferred,
    /// The node can never have it.
    Infeasible,
    /// There is room; the runtime did not do it.
    Error,
}

impl Refused {
    /// Type and reason of the condition (KEP-1287).
    pub(crate) fn condition(&self) -> (&'static str, &'static str) {
        let [pending, in_progress] = CONDITIONS;
        match self.stage {
            Stage::Deferred => (pending, "Deferred"),
            Stage::Infeasible => (pending, "Infeasible"),
            Stage::Error => (in_progress, "Error"),
        }
    }
}

impl From<NoRoom> for Refused {
    fn from(error: NoRoom) -> Self {
        match error {
            NoRoom::Now(why) => Self {
                stage: Stage::Deferred,
                why,
            },
            NoRoom::Ever(why) => Self {
                stage: Stage::Infeasible,
                why,
            },
        }
    }
}

/// Follows the resources in the pod's object, for as long as it is polled.
pub(super) async fn follow(context: &Context, sandbox: &Sandbox) -> Infallible {
    let mut updates = context.updates.clone();
    loop {
        let pod = updates.borrow_and_update().pod.clone();
        let refused = apply(context, sandbox, &pod).await;
        let again = refused.is_some();
        context.observed.send_if_modified(|observed| {
            let news = observed.resize_refused != refused;
            observed.resize_refused = refused;
            news
        });
        let changed = async {
            if updates.changed().await.is_err() {
                // The manager is gone: the node stops.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

/// Gives each container what the object says. Why not, if that is not possible.
async fn apply(context: &Context, sandbox: &Sandbox, pod: &Pod) -> Option<Refused> {
    let Ok(runtime) = &context.runtime else {
        return None;
    };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if let Err(full) = context.node.room.change(uid, api::requests::of(pod)) {
        return Some(full.into());
    }
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let mut refused = None;
    for (index, wanted) in init.chain(&spec.containers).enumerate() {
        let known = {
            let observed = context.observed.borrow();
            let record = observed.containers.get(index)?;
            let concerned = record.name == wanted.name && record.role != Role::Init;
            concerned.then(|| record.resources.clone())
        };
        let Some(known) = known.filter(|known| *known != wanted.resources) else {
            continue;
        };
        match runtime.resize(sandbox, wanted) {
            Err(why) => {
                refused = Some(Refused {
                    stage: Stage::Error,
                    why: format!("container {:?}: {why}", wanted.name),
                });
            }
            Ok(()) => {
                context.record(index, |record| record.resources = wanted.resources.clone());
                if restarts(wanted, known.as_ref()) {
                    restart(context, wanted).await;
                }
            }
        }
    }
    refused
}

/// Whether the container wants to be started again for what changed.
fn restarts(container: &Container, before: Option<&ResourceRequirements>) -> bool {
    let of = |resources: Option<&ResourceRequirements>, name: &str| {
        let resources = resources?;
        let get = |set: &Option<BTreeMap<String, Quantity>>| {
            set.as_ref().and_then(|set| set.get(name)).cloned()
        };
        Some((get(&resources.requests), get(&resources.limits)))
    };
    let policies = container.resize_policy.iter().flatten();
    policies
        .filter(|policy| policy.restart_policy == "RestartContainer")
        .any(|policy| {
            let name = &policy.resource_name;
            of(before, name) != of(container.resources.as_ref(), name)
        })
}

async fn restart(context: &Context, container: &Container) {
    let Some(run) = context.running(&container.name) else {
        return;
    };
    let text = format!("Container {} resize requires restart", container.name);
    event::normal(context, "Killing", &text).await;
    let deadline = Instant::now() + stop::grace(&context.pod);
    stop::container(context, &run, deadline).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_started_again_only_for_what_its_policy_names() {
        let of = |cpu: &str, memory: &str| -> Container {
            serde_json::from_value(json!({
                "name": "c",
                "resizePolicy": [
                    { "resourceName": "memory", "restartPolicy": "RestartContainer" },
                    { "resourceName": "cpu", "restartPolicy": "NotRequired" },
                ],
                "resources": { "limits": { "cpu": cpu, "memory": memory } },
            }))
            .expect("a container")
        };
        let before = of("1", "1Mi").resources;
        assert!(!restarts(&of("2", "1Mi"), before.as_ref()));
        assert!(restarts(&of("1", "2Mi"), before.as_ref()));
        assert!(restarts(&of("1", "2Mi"), None));
    }
}
