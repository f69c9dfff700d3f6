//! `pods/eviction`: a delete that disruption budgets may hold back (`kubectl drain`).
//!
//! What a budget allows is counted from the pods that are stored now, and one lock makes counting
//! and deleting one step, so two evictions at once cannot both take the last allowed place.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Api, Body, Call, Reply, metadata};
use crate::selector::Labels;
use crate::status::{Cause, Status};
use crate::store::Scope;

const DEFINITION: &str = "io.k8s.api.policy.v1.Eviction";
const BUDGETS: &str = "poddisruptionbudgets.policy";

impl Api {
    /// Deletes a pod, if its disruption budget allows that.
    pub(crate) async fn evict(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let (eviction, _) = body.parse(Some(DEFINITION))?;
        let named = metadata::text(&eviction, "name");
        if !named.is_empty() && named != call.name {
            return Err(super::create::name_mismatch(named, &call.name));
        }
        let _one = self.evictions.lock().await;
        let pod = self
            .store
            .get(&call.resource(), &call.key())
            .ok_or_else(|| call.not_found())?
            .value();
        if counts(&pod) {
            self.check_budget(call, &pod)?;
        }
        let options = &eviction["deleteOptions"];
        let body = if options.is_object() {
            Body {
                media_type: "application/json".into(),
                bytes: options.to_string().into(),
            }
        } else {
            Body::default()
        };
        let mut delete = call.about(&call.namespace, &call.name);
        delete.subresource.clear();
        self.delete(&delete, &body).await?;
        let done =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
        Ok(Reply::value(201, done))
    }

    fn check_budget(&self, call: &Call, pod: &Value) -> Result<(), Status> {
        let scope = Scope::Namespace(call.namespace.as_str().into());
        let (_, budgets) = self.store.list(BUDGETS, &scope);
        let mut budgets = budgets
            .iter()
            .map(|budget| budget.value())
            .filter(|budget| {
                let selector = &budget["spec"]["selector"];
                selector.is_object()
                    && Labels::from_selector(selector).is_ok_and(|labels| labels.matches(pod))
            });
        let Some(budget) = budgets.next() else {
            return Ok(());
        };
        if budgets.next().is_some() {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        let (healthy, wanted) = self.health(&budget, &scope);
        let unready_may_go = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        // One that is not ready takes nothing away while enough others are.
        if healthy > wanted || !ready(pod) && (unready_may_go || healthy >= wanted) {
            return Ok(());
        }
        let text = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut status = Status::too_many_requests(text);
        if let Some(details) = &mut status.details {
            details.retry_after_seconds = 10;
            details.causes.push(Cause {
                reason: "DisruptionBudget".into(),
                message: format!(
                    "The disruption budget {} needs {wanted} healthy pods and has {healthy} currently",
                    metadata::text(&budget, "name")
                ),
                field: String::new(),
            });
        }
        Err(status)
    }

    /// Healthy pods of a budget, and how many it needs.
    fn health(&self, budget: &Value, scope: &Scope) -> (i64, i64) {
        let Ok(labels) = Labels::from_selector(&budget["spec"]["selector"]) else {
            return (0, 0);
        };
        let (_, pods) = self.store.list("pods", scope);
        let pods: Vec<Arc<Value>> = pods
            .iter()
            .map(|pod| pod.value())
            .filter(|pod| labels.matches(pod) && counts(pod))
            .collect();
        let healthy = pods.iter().filter(|pod| ready(pod)).count();
        let expected = self.expected(&pods);
        let spec = &budget["spec"];
        let wanted = match (spec.get("minAvailable"), spec.get("maxUnavailable")) {
            (Some(least), _) => share(least, expected),
            (None, Some(most)) => expected - share(most, expected),
            (None, None) => 0,
        };
        (i64::try_from(healthy).unwrap_or(i64::MAX), wanted.max(0))
    }

    /// How many pods there should be: what their controllers want, and those without one.
    fn expected(&self, pods: &[Arc<Value>]) -> i64 {
        let mut controllers: BTreeMap<&str, i64> = BTreeMap::new();
        let mut alone = 0;
        for pod in pods {
            let owners = pod["metadata"]["ownerReferences"].as_array();
            let owner = owners
                .into_iter()
                .flatten()
                .find(|owner| owner["controller"] == true);
            let uid = owner.and_then(|owner| owner["uid"].as_str());
            let wanted = uid
                .and_then(|uid| self.store.by_uid(uid))
                .and_then(|(resource, key)| self.store.get(&resource, &key))
                .and_then(|owner| owner.value()["spec"]["replicas"].as_i64());
            match (uid, wanted) {
                (Some(uid), Some(wanted)) => {
                    controllers.insert(uid, wanted);
                }
                _ => alone += 1,
            }
        }
        alone + controllers.values().sum::<i64>()
    }
}

/// Whether a budget counts a pod: one that has ended or is ending takes no place.
fn counts(pod: &Value) -> bool {
    let ended = matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    !ended && pod["metadata"]["deletionTimestamp"].is_null()
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A number, or a percentage of `all` rounded up.
fn share(value: &Value, all: i64) -> i64 {
    if let Some(number) = value.as_i64() {
        return number;
    }
    let percent = value.as_str().and_then(|text| text.strip_suffix('%'));
    let percent: i64 = percent.and_then(|text| text.parse().ok()).unwrap_or(0);
    (percent.saturating_mul(all) + 99) / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crud::resource_id;

    #[test]
    fn shares_are_numbers_or_percentages_rounded_up() {
        assert_eq!(share(&json!(2), 10), 2);
        assert_eq!(share(&json!("50%"), 3), 2);
        assert_eq!(share(&json!("100%"), 3), 3);
        assert_eq!(share(&json!("x"), 3), 0);
        assert_eq!(resource_id("policy", "poddisruptionbudgets"), BUDGETS);
    }
}
