//! Writes what is known of a pod to its object.
//!
//! Few writes: a pod that becomes ready within milliseconds gets one status, Running and Ready at
//! once. Every write carries the resource version that it was computed from, because others write
//! conditions of the same list.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::context::{Context, now};
use super::status::status;
use crate::backoff::Backoff;

/// How long the first status may wait for the pod to become ready, to save a write.
const SETTLE: Duration = Duration::from_millis(20);
/// Conflicts and failures of one write before the next change is waited for.
const TRIES: u32 = 8;

/// Writes the status whenever it changes.
pub(super) async fn follow(context: &Context) -> Infallible {
    let mut observed = context.observed.subscribe();
    let mut updates = context.updates.clone();
    let gated = context
        .pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.readiness_gates.is_some());
    let mut reporter = Reporter::default();
    // Not there in time is fine: then the first status says so.
    let sandbox = observed.wait_for(|observed| observed.pod_ip.is_some() || observed.is_settled());
    let _ = timeout(SETTLE, sandbox).await;
    // While the program starts. Nobody may see the pod Ready before its ports are known.
    reporter.publish_ports(context).await;
    let _ = timeout(
        SETTLE,
        observed.wait_for(super::record::Observed::is_settled),
    )
    .await;
    loop {
        observed.borrow_and_update();
        reporter.publish_ports(context).await;
        reporter.write(context).await;
        tokio::select! {
            // The sender lives in the context.
            _ = observed.changed() => {}
            Ok(()) = updates.changed(), if gated => {}
        }
    }
}

/// Writes the status once.
pub(super) async fn write(context: &Context) {
    let mut reporter = Reporter {
        ports_published: true,
        ..Reporter::default()
    };
    reporter.write(context).await;
}

/// Removes the object for good: its processes are gone.
pub(super) async fn delete(context: &Context) {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: context.pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let api = api(context);
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    for _ in 0..TRIES {
        match api.delete(&context.pod.name_any(), &params).await {
            Ok(_) => return,
            // Gone, or another pod of the same name.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => {
                tracing::warn!(pod = context.pod.name_any(), %error, "cannot delete an ended pod's object")
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// What was written last.
#[derive(Default)]
struct Reporter {
    latest: Option<Arc<Pod>>,
    written: Option<PodStatus>,
    ports_published: bool,
}

impl Reporter {
    /// Tells the world the host ports and, for a pod that nobody scheduled, the node.
    async fn publish_ports(&mut self, context: &Context) {
        let Some(sandbox) = context.sandbox.get().filter(|_| !self.ports_published) else {
            return;
        };
        let mut patch = json!({});
        if !sandbox.host_ports.is_empty() {
            let ports: BTreeMap<_, _> = sandbox
                .host_ports
                .iter()
                .map(|(port, host)| (port.to_string(), *host))
                .collect();
            let text = json!(ports).to_string();
            patch["metadata"]["annotations"] =
                json!({ (api::names::annotation::HOST_PORTS): text });
        }
        if patch == json!({}) || Box::pin(self.patch(context, patch, false)).await {
            self.ports_published = true;
        }
    }

    async fn write(&mut self, context: &Context) {
        for _ in 0..TRIES {
            let latest = self.latest(context);
            let status = status(&latest, &context.observed.borrow(), &now());
            if self.written.as_ref() == Some(&status) {
                return;
            }
            let mut patch = json!({ "status": status });
            patch["metadata"]["resourceVersion"] = json!(latest.metadata.resource_version);
            if Box::pin(self.patch(context, patch, true)).await {
                self.written = Some(status);
                return;
            }
            if self.is_gone(context) {
                return;
            }
        }
    }

    fn is_gone(&self, context: &Context) -> bool {
        context.updates.borrow().deleted
    }

    /// The newest object known: from the watch, or from an answer to a write of ours.
    fn latest(&self, context: &Context) -> Arc<Pod> {
        let seen = Arc::clone(&context.updates.borrow().pod);
        match &self.latest {
            Some(answered) if version(answered) > version(&seen) => Arc::clone(answered),
            _ => seen,
        }
    }

    /// `false` if it has to be tried again with what is then the latest object.
    async fn patch(&mut self, context: &Context, patch: Value, to_status: bool) -> bool {
        let name = context.pod.name_any();
        let api = api(context);
        let patch = Patch::Merge(patch);
        let params = PatchParams {
            field_manager: Some(reconcile::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let answer = match to_status {
            true => api.patch_status(&name, &params, &patch).await,
            false => api.patch(&name, &params, &patch).await,
        };
        let error = match answer {
            Ok(pod) => {
                self.latest = Some(Arc::new(pod));
                return true;
            }
            Err(error) => error,
        };
        match &error {
            kube::Error::Api(status) if status.code == 409 => match api.get_opt(&name).await {
                Ok(Some(pod)) if pod.metadata.uid == context.pod.metadata.uid => {
                    self.latest = Some(Arc::new(pod))
                }
                Ok(_) => return true,
                Err(error) => tracing::warn!(pod = name, %error, "cannot read a pod"),
            },
            // Nobody is left to tell.
            kube::Error::Api(status) if status.code == 404 => return true,
            error => {
                tracing::warn!(pod = name, %error, "cannot write a pod's status");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        false
    }
}

/// Resource versions of our API servers are numbers that grow; what is not one is older.
fn version(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

fn api(context: &Context) -> Api<Pod> {
    Api::namespaced(
        context.node.client.clone(),
        &context.pod.namespace().unwrap_or_default(),
    )
}
