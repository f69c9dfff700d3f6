//! What a Job's `podFailurePolicy` makes of a failed pod; pure.

use k8s_openapi::api::batch::v1::{
    Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// What follows from a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the back-off limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The whole Job has failed, with this message.
    FailJob(String),
}

/// The action of the first rule that matches.
pub(super) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let policy = job
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_failure_policy.as_ref());
    let rules = policy.map(|policy| policy.rules.as_slice());
    for (number, rule) in rules.unwrap_or_default().iter().enumerate() {
        let codes = rule.on_exit_codes.as_ref();
        let found = codes
            .and_then(|codes| of_exit_codes(pod, codes))
            .or_else(|| of_conditions(pod, rule.on_pod_conditions.as_deref()?));
        let Some(found) = found else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => {
                Verdict::FailJob(format!("{found} matching FailJob rule at index {number}"))
            }
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn of_exit_codes(pod: &Pod, codes: &PodFailurePolicyOnExitCodesRequirement) -> Option<String> {
    let status = pod.status.as_ref()?;
    let statuses = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    for container in statuses {
        let wanted = codes.container_name.as_ref();
        let ended = container
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref());
        let Some(ended) = ended.filter(|_| wanted.is_none_or(|name| *name == container.name))
        else {
            continue;
        };
        // Success is no failure, whatever the values say.
        let listed = codes.values.contains(&ended.exit_code);
        if ended.exit_code != 0 && listed == (codes.operator == "In") {
            return Some(format!(
                "Container {} for pod {} failed with exit code {}",
                container.name,
                reconcile::Key::of(pod),
                ended.exit_code
            ));
        }
    }
    None
}

fn of_conditions(pod: &Pod, patterns: &[PodFailurePolicyOnPodConditionsPattern]) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|condition| {
        patterns.iter().any(|pattern| {
            let status = pattern.status.as_deref().unwrap_or("True");
            pattern.type_ == condition.type_ && status == condition.status
        })
    })?;
    let namespace = pod.namespace().unwrap_or_default();
    Some(format!(
        "Pod {namespace}/{} has condition {}",
        pod.name_any(),
        found.type_
    ))
}
