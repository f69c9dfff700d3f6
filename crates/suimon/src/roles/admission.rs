//! `api`'s rules as the API server's admission, and what Knative's webhook asks for a dry run: whether
//! the pod that an object describes could be created.

use std::collections::BTreeMap;

use api::names::SYSTEM_NAMESPACE;
use apiserver::admission::{AdmissionRequest, Operation, Rejection};

const WEBHOOK: &str = "validation.webhook.serving.knative.dev";
/// What the pod of a dry run is called.
const POD: &str = "dry-run-validation";

/// `api`'s rules as the API server's admission.
pub struct Admission {
    /// Whether the gateway was started with `--proxy-protocol`.
    pub has_preamble: bool,
}

impl apiserver::admission::Admission for Admission {
    fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Rejection> {
        let mut object = request.object.take();
        let result = {
            let config_map = |name: &str| {
                let map = request.get("", "configmaps", SYSTEM_NAMESPACE, name)?;
                serde_json::from_value::<BTreeMap<String, String>>(map.get("data")?.clone()).ok()
            };
            api::admission::admit(&mut api::admission::Request {
                operation: match request.operation {
                    Operation::Create => api::admission::Operation::Create,
                    Operation::Update => api::admission::Operation::Update,
                    Operation::Delete => api::admission::Operation::Delete,
                },
                group: request.group,
                kind: request.kind,
                subresource: request.subresource,
                namespace: request.namespace,
                name: request.name,
                user: &request.user.name,
                object: &mut object,
                old: request.old,
                has_preamble: self.has_preamble,
                config_map: &config_map,
            })
        };
        *request.object = object;
        match result {
            Ok(warnings) => {
                warnings
                    .into_iter()
                    .for_each(|warning| request.warn(warning));
                impossible_pod(request).map_or(Ok(()), Err)
            }
            Err(refused) => Err(Rejection::Denied {
                webhook: refused.webhook.to_owned(),
                message: refused.message,
            }),
        }
    }
}

/// Says why the pod of a Service's or Configuration's template could not be created. Only who asks
/// for a dry run is told here, as with Knative; others read it in the Revision's conditions.
fn impossible_pod(request: &AdmissionRequest<'_>) -> Option<Rejection> {
    let has_template = request.group == "serving.knative.dev"
        && matches!(request.kind, "Service" | "Configuration")
        && request.subresource.is_empty()
        && request.operation != Operation::Delete;
    if !request.dry_run || !has_template {
        return None;
    }
    let mut pod = serving::sample_pod(POD, request.namespace, &request.object["spec"]["template"])?;
    let errors = apiserver::validate::built_in("io.k8s.api.core.v1.Pod", &mut pod);
    if errors.is_empty() {
        return None;
    }
    let refused = apiserver::Status::invalid("", "Pod", POD, &errors);
    Some(Rejection::Denied {
        webhook: WEBHOOK.to_owned(),
        message: format!(
            "validation callback failed: dry run failed with {}: spec.template",
            refused.message
        ),
    })
}
