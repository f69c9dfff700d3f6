//! Eviction: a pod is deleted if its disruption budget can spare one.
//!
//! The budget's numbers are its controller's; an eviction takes one away and leaves the pod's name,
//! so that the controller does not count the pod as healthy before it is gone. The texts are
//! Kubernetes': `kubectl drain` tries again after 429.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::delete::DeleteOptions;
use super::{Api, Body, Call, Reply, metadata};
use crate::selector::Labels;
use crate::status::{Cause, Details, Status};

const ATTEMPTS: usize = 16;
/// Evictions of one budget that its controller has not seen yet.
const MOST_UNCONFIRMED: usize = 2000;
const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Whether a pod may go.
#[derive(Debug, PartialEq)]
enum Permit {
    /// It does not count for any budget.
    Free,
    /// It does: the budget's status changes so.
    Counted(Value),
}

impl Api {
    /// Evicts the pod that the call names.
    pub(crate) async fn evict(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let (eviction, _) = body.parse(Some("io.k8s.api.policy.v1.Eviction"))?;
        let named = metadata::text(&eviction, "name");
        if !named.is_empty() && named != call.name {
            return Err(Status::bad_request(
                "name in URL does not match name in Eviction object",
            ));
        }
        let mut delete = call.about(&call.namespace, &call.name);
        delete.subresource.clear();
        let options = DeleteOptions::of(&delete, &eviction["deleteOptions"])?;
        let dry_run = options.dry_run || call.options.dry_run;
        for _ in 0..ATTEMPTS {
            let stored = self.store.get(&delete.resource(), &delete.key());
            let pod = stored.ok_or_else(|| delete.not_found())?.value();
            let budget = if ignores_budgets(&pod) {
                None
            } else {
                self.budget(call, &pod)?
            };
            let permit = match &budget {
                Some(budget) => permit(&pod, budget, Timestamp::now())?,
                None => Permit::Free,
            };
            if let (Permit::Counted(change), Some(budget), false) = (permit, &budget, dry_run) {
                match self.count(budget, change).await {
                    // Somebody else took one in between.
                    Err(status) if status.reason == "Conflict" => continue,
                    counted => drop(counted?),
                }
            }
            if !dry_run {
                self.tell_disrupted(&delete).await?;
            }
            self.delete_with(&delete, &options).await?;
            let success = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
            return Ok(Reply::value(201, success));
        }
        Err(Status::conflict(
            call.named(&call.name),
            "the pod's disruption budget changed too often",
        ))
    }

    /// The budget that selects a pod.
    fn budget(&self, call: &Call, pod: &Value) -> Result<Option<Value>, Status> {
        let types = self.types();
        let Some(kind) = types.stored("policy", "poddisruptionbudgets") else {
            return Ok(None);
        };
        let all = self.select(&Call::internal(kind, &call.namespace, ""))?;
        let mut found = all
            .items
            .iter()
            .map(|object| object.value())
            .filter(|budget| {
                let selector = budget["spec"].get("selector");
                let labels = selector.and_then(|selector| Labels::from_selector(selector).ok());
                labels.is_some_and(|labels| labels.matches(pod))
            });
        let first = found.next();
        match found.next() {
            Some(_) => Err(Status::new(
                500,
                "InternalError",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )),
            None => Ok(first.map(|budget| (*budget).clone())),
        }
    }

    /// Takes one disruption from a budget, unless it has changed since it was read.
    async fn count(&self, budget: &Value, status: Value) -> Result<Reply, Status> {
        let name = metadata::text(budget, "name");
        let namespace = metadata::text(budget, "namespace");
        let types = self.types();
        let kind = types
            .stored("policy", "poddisruptionbudgets")
            .ok_or_else(Status::no_such_path)?;
        let mut call = Call::internal(kind, namespace, name);
        call.subresource = "status".to_owned();
        let revision = metadata::text(budget, "resourceVersion");
        let change = json!({ "metadata": { "resourceVersion": revision }, "status": status });
        self.patch(&call, &merge(&change)).await
    }

    /// Writes into the pod's status why it goes.
    async fn tell_disrupted(&self, delete: &Call) -> Result<(), Status> {
        let stored = self.store.get(&delete.resource(), &delete.key());
        let pod = stored.ok_or_else(|| delete.not_found())?.value();
        let mut conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions.retain(|condition| condition["type"] != "DisruptionTarget");
        conditions.push(json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastTransitionTime": metadata::timestamp(Timestamp::now()),
        }));
        let mut call = Call::internal(&delete.kind, &delete.namespace, &delete.name);
        call.subresource = "status".to_owned();
        let change = json!({
            "metadata": { "resourceVersion": metadata::text(&pod, "resourceVersion") },
            "status": { "conditions": conditions },
        });
        match self.patch(&call, &merge(&change)).await {
            // The node writes too; the condition is information and not worth a refusal.
            Err(status) if status.reason == "Conflict" => Ok(()),
            told => told.map(drop),
        }
    }
}

fn merge(change: &Value) -> Body {
    Body {
        media_type: "application/merge-patch+json".into(),
        bytes: change.to_string().into(),
    }
}

/// Whether a pod is not worth a budget: it has ended, has not begun, or is on its way out.
fn ignores_budgets(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    matches!(phase, "Succeeded" | "Failed" | "Pending")
        || !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether the budget lets a pod go at `now`.
fn permit(pod: &Value, budget: &Value, now: Timestamp) -> Result<Permit, Status> {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
    let (healthy, needed) = (number("currentHealthy"), number("desiredHealthy"));
    let name = metadata::text(budget, "name");
    if !is_ready(pod) {
        let spared = match budget["spec"]["unhealthyPodEvictionPolicy"].as_str() {
            Some("AlwaysAllow") => true,
            _ => healthy >= needed && needed > 0,
        };
        if spared {
            return Ok(Permit::Free);
        }
    }
    let generation = budget["metadata"]["generation"].as_i64();
    if number("observedGeneration") < generation.unwrap_or_default() {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(violated(why, 10));
    }
    let mut disrupted = budget["status"]["disruptedPods"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    if disrupted.len() > MOST_UNCONFIRMED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::new(403, "Forbidden", why));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 1 {
        let why = format!(
            "The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
        );
        return Err(violated(why, 0));
    }
    let now = metadata::timestamp(now);
    disrupted.insert(metadata::text(pod, "name").to_owned(), json!(now));
    let mut change = json!({ "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted });
    if allowed == 1 {
        change["conditions"] = json!([{
            "type": "DisruptionAllowed",
            "status": "False",
            "reason": "InsufficientPods",
            "message": "",
            "lastTransitionTime": now,
            "observedGeneration": generation,
        }]);
    }
    Ok(Permit::Counted(change))
}

/// 429 in Kubernetes' words.
fn violated(why: String, retry_after_seconds: u32) -> Status {
    let mut status = Status::new(429, "TooManyRequests", VIOLATED);
    status.details = Some(Box::new(Details {
        causes: vec![Cause {
            reason: "DisruptionBudget".into(),
            message: why,
            field: String::new(),
        }],
        retry_after_seconds,
        ..Details::default()
    }));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: &str) -> Value {
        json!({
            "metadata": { "name": "p" },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        })
    }

    fn budget(allowed: i64, healthy: i64) -> Value {
        json!({
            "metadata": { "name": "b", "generation": 2 },
            "spec": {},
            "status": {
                "observedGeneration": 2, "disruptionsAllowed": allowed,
                "currentHealthy": healthy, "desiredHealthy": 2,
            },
        })
    }

    #[test]
    fn a_budget_spares_as_many_as_it_allows_and_says_what_it_needs() {
        let now = Timestamp::UNIX_EPOCH;
        let Ok(Permit::Counted(change)) = permit(&pod("True"), &budget(1, 3), now) else {
            panic!("one may go");
        };
        assert_eq!(change["disruptionsAllowed"], 0);
        assert_eq!(change["disruptedPods"]["p"], "1970-01-01T00:00:00Z");
        assert_eq!(change["conditions"][0]["reason"], "InsufficientPods");
        let refused = permit(&pod("True"), &budget(0, 2), now).expect_err("none may go");
        assert_eq!((refused.code, refused.message.as_str()), (429, VIOLATED));
        assert_eq!(
            refused.details.expect("details").causes[0].message,
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        let mut unseen = budget(1, 3);
        unseen["metadata"]["generation"] = json!(3);
        let refused = permit(&pod("True"), &unseen, now).expect_err("not seen yet");
        assert_eq!(refused.details.expect("details").retry_after_seconds, 10);
    }

    #[test]
    fn pods_that_are_not_ready_go_when_enough_others_are() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(permit(&pod("False"), &budget(0, 2), now), Ok(Permit::Free));
        assert!(permit(&pod("False"), &budget(0, 1), now).is_err());
        let mut always = budget(0, 0);
        always["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert_eq!(permit(&pod("False"), &always, now), Ok(Permit::Free));
        for phase in ["Pending", "Failed"] {
            assert!(ignores_budgets(&json!({ "status": { "phase": phase } })));
        }
        assert!(!ignores_budgets(&pod("False")));
    }
}
