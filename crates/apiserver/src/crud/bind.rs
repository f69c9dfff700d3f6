//! `pods/binding`: a scheduler gives a pod its node. The texts are Kubernetes'.

use serde_json::{Value, json};

use super::{Api, Body, Call, Reply, metadata};
use crate::status::{Fault, FieldError, Status};

impl Api {
    /// Assigns the pod that the call names to the node in the body.
    pub(crate) async fn bind(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let (binding, _) = body.parse(Some("io.k8s.api.core.v1.Binding"))?;
        let named = metadata::text(&binding, "name");
        if !named.is_empty() && named != call.name {
            return Err(Status::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        let errors = check(&binding);
        if !errors.is_empty() {
            return Err(Status::invalid("", "Binding", &call.name, &errors));
        }
        let mut pod_call = call.about(&call.namespace, &call.name);
        pod_call.subresource.clear();
        let stored = self.store.get(&pod_call.resource(), &pod_call.key());
        let pod = stored.ok_or_else(|| pod_call.not_found())?.value();
        if let Some(why) = obstacle(&call.name, &pod) {
            return Err(Status::conflict(call.named(&call.name), &why));
        }
        // Of this very pod, as it was judged here.
        let given = |field: &str, own: &str| match metadata::text(&binding, field) {
            "" => metadata::text(&pod, own).to_owned(),
            given => given.to_owned(),
        };
        let mut change = json!({
            "metadata": {
                "uid": given("uid", "uid"),
                "resourceVersion": given("resourceVersion", "resourceVersion"),
            },
            "spec": { "nodeName": binding["target"]["name"] },
        });
        if let Some(annotations) = binding["metadata"].get("annotations") {
            change["metadata"]["annotations"] = annotations.clone();
        }
        let merge = Body {
            media_type: "application/merge-patch+json".into(),
            bytes: change.to_string().into(),
        };
        self.patch(&pod_call, &merge).await?;
        let success =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
        Ok(Reply::value(201, success))
    }
}

/// Findings about a binding alone.
fn check(binding: &Value) -> Vec<FieldError> {
    let target = |field: &str| binding["target"][field].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if !["", "Node"].contains(&target("kind")) {
        errors.push(FieldError::with_value(
            Fault::NotSupported,
            "target.kind",
            format!("\"{}\"", target("kind")),
            "supported values: \"Node\", \"<empty>\"",
        ));
    }
    if target("name").is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    errors
}

/// Why a pod cannot be given a node.
fn obstacle(name: &str, pod: &Value) -> Option<String> {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Some(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !node.is_empty() {
        return Some(format!("pod {name} is already assigned to node \"{node}\""));
    }
    let gates = pod["spec"]["schedulingGates"].as_array();
    gates
        .is_some_and(|gates| !gates.is_empty())
        .then(|| format!("pod {name} has non-empty .spec.schedulingGates"))
}
