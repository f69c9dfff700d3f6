//! The API's status of a pod, from what the node knows. Pure.
//!
//! Conditions of others (readiness gates, the gateway's drain report) are kept as they are.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::record::{Observed, Record, Role, State, Terminated};
use super::resize;

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// Whether a container that ended with this code is started again.
pub(crate) fn restarts(policy: Option<&str>, exit_code: i32) -> bool {
    match policy {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

/// The phase, by Kubernetes' rules.
pub(crate) fn phase(policy: Option<&str>, observed: &Observed) -> Phase {
    if observed.failed.is_some() {
        return Phase::Failed;
    }
    let init_failed = observed.containers.iter().any(|record| {
        record.role == Role::Init
            && record
                .exit_code()
                .is_some_and(|code| code != 0 && policy == Some("Never"))
    });
    if init_failed {
        return Phase::Failed;
    }
    let codes: Option<Vec<i32>> = observed.main().map(Record::exit_code).collect();
    if let Some(codes) =
        codes.filter(|codes| !codes.is_empty() && !codes.iter().any(|code| restarts(policy, *code)))
        && !observed.stopped
    {
        return if codes.iter().all(|code| *code == 0) {
            Phase::Succeeded
        } else {
            Phase::Failed
        };
    }
    if observed.main().any(Record::has_run) {
        Phase::Running
    } else {
        Phase::Pending
    }
}

/// The whole status. `pod` is the newest known object: times of unchanged conditions and the
/// conditions of others come from it.
pub(crate) fn status(pod: &Pod, observed: &Observed, now: &Time) -> PodStatus {
    let spec = pod.spec.as_ref();
    let phase = phase(
        spec.and_then(|spec| spec.restart_policy.as_deref()),
        observed,
    );
    let failed = observed.failed.as_ref();
    let ip = observed.pod_ip.map(|ip| ip.to_string());
    let statuses = |roles: &[Role]| {
        let records = observed.containers.iter();
        let records = records.filter(|record| roles.contains(&record.role));
        let statuses: Vec<_> = records.map(container_status).collect();
        Some(statuses).filter(|statuses| !statuses.is_empty())
    };
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason: failed.map(|verdict| verdict.reason.to_owned()),
        message: failed.map(|verdict| verdict.message.clone()),
        conditions: Some(conditions(pod, observed, phase, now)),
        host_ip: Some(observed.host_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: observed.host_ip.to_string(),
        }]),
        pod_ip: ip.clone(),
        pod_ips: ip.map(|ip| vec![PodIP { ip }]),
        qos_class: Some(qos_class(pod).to_owned()),
        start_time: Some(observed.start_time.clone()),
        observed_generation: pod.metadata.generation,
        init_container_statuses: statuses(&[Role::Init, Role::Sidecar]),
        container_statuses: statuses(&[Role::Main]),
        ephemeral_container_statuses: statuses(&[Role::Ephemeral]),
        ..PodStatus::default()
    }
}

/// One finding: status, reason and message.
type Finding = (bool, Option<&'static str>, Option<String>);

fn conditions(pod: &Pod, observed: &Observed, phase: Phase, now: &Time) -> Vec<PodCondition> {
    let before = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let initialized = initialized(observed);
    let containers_ready = containers_ready(observed, phase);
    let ready = ready(pod, before, &containers_ready);
    let ours = [
        ("PodScheduled", (true, None, None)),
        ("Initialized", initialized),
        ("ContainersReady", containers_ready),
        ("Ready", ready),
    ];
    let resizing = observed.resize_refused.clone();
    let resizing = resizing.map(|refused| {
        let (type_, reason) = refused.condition();
        (type_, (true, Some(reason), Some(refused.why)))
    });
    let mut conditions: Vec<_> = before
        .iter()
        .filter(|c| {
            !resize::CONDITIONS.contains(&c.type_.as_str())
                && !ours.iter().any(|(type_, _)| *type_ == c.type_)
        })
        .cloned()
        .collect();
    conditions.extend(
        ours.into_iter()
            .chain(resizing)
            .map(|(type_, (holds, reason, message))| {
                let status = if holds { "True" } else { "False" };
                let same = before
                    .iter()
                    .find(|c| c.type_ == type_ && c.status == status);
                PodCondition {
                    type_: type_.to_owned(),
                    status: status.to_owned(),
                    reason: reason.map(str::to_owned),
                    message,
                    last_transition_time: same
                        .and_then(|c| c.last_transition_time.clone())
                        .or_else(|| Some(now.clone())),
                    ..PodCondition::default()
                }
            }),
    );
    conditions
}

fn initialized(observed: &Observed) -> Finding {
    let incomplete: Vec<_> = observed
        .containers
        .iter()
        .filter(|record| match record.role {
            Role::Sidecar => !record.started,
            Role::Init => record.exit_code() != Some(0),
            Role::Main | Role::Ephemeral => false,
        })
        .map(|record| record.name.as_str())
        .collect();
    if incomplete.is_empty() || observed.main().any(Record::has_run) {
        return (true, None, None);
    }
    let message = format!(
        "containers with incomplete status: [{}]",
        incomplete.join(" ")
    );
    (false, Some("ContainersNotInitialized"), Some(message))
}

fn containers_ready(observed: &Observed, phase: Phase) -> Finding {
    if phase == Phase::Succeeded {
        return (false, Some("PodCompleted"), None);
    }
    let unready: Vec<_> = observed
        .serving()
        .filter(|record| !record.ready)
        .map(|record| record.name.as_str())
        .collect();
    if unready.is_empty() {
        return (true, None, None);
    }
    if observed.stopped {
        return (
            false,
            Some("NodeStopped"),
            Some("the node was stopped".to_owned()),
        );
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    (false, Some("ContainersNotReady"), Some(message))
}

fn ready(pod: &Pod, before: &[PodCondition], containers_ready: &Finding) -> Finding {
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    let closed: Vec<_> = gates
        .filter(|gate| {
            !before
                .iter()
                .any(|c| c.type_ == gate.condition_type && c.status == "True")
        })
        .map(|gate| gate.condition_type.as_str())
        .collect();
    if !containers_ready.0 || closed.is_empty() {
        return containers_ready.clone();
    }
    let message = format!(
        "the status of pod readiness gate {} is not True",
        closed.join(", ")
    );
    (false, Some("ReadinessGatesNotReady"), Some(message))
}

fn container_status(record: &Record) -> ContainerStatus {
    // Nobody waits for an ephemeral container: as with the kubelet it is never ready.
    let ephemeral = record.role == Role::Ephemeral;
    let prepared = record.role == Role::Init && record.exit_code() == Some(0);
    let some = |set: &Option<std::collections::BTreeMap<_, _>>| {
        set.as_ref().is_some_and(|set| !set.is_empty())
    };
    let resources = record.resources.as_ref();
    let resources = resources.filter(|all| some(&all.limits) || some(&all.requests));
    ContainerStatus {
        name: record.name.clone(),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        container_id: record.container_id.clone(),
        ready: !ephemeral && (record.ready || prepared),
        started: Some(record.started).filter(|_| !ephemeral),
        restart_count: record.restarts,
        allocated_resources: resources.and_then(|resources| resources.requests.clone()),
        resources: resources.cloned(),
        state: Some(state(&record.state)),
        last_state: Some(
            record
                .last
                .as_ref()
                .map_or_else(ContainerState::default, |end| ContainerState {
                    terminated: Some(terminated(end)),
                    ..ContainerState::default()
                }),
        ),
        ..ContainerStatus::default()
    }
}

fn state(state: &State) -> ContainerState {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    match state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: text(reason),
                message: text(message),
            }),
            ..ContainerState::default()
        },
        State::Running { started_at } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(started_at.clone()),
            }),
            ..ContainerState::default()
        },
        State::Terminated(end) => ContainerState {
            terminated: Some(terminated(end)),
            ..ContainerState::default()
        },
    }
}

fn terminated(end: &Terminated) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: end.exit_code,
        signal: end.signal,
        reason: Some(end.reason.clone()),
        message: Some(end.message.clone()).filter(|message| !message.is_empty()),
        started_at: end.started_at.clone(),
        finished_at: Some(end.finished_at.clone()),
        container_id: end.container_id.clone(),
    }
}

/// Kubernetes' three classes, from CPU and memory of every container.
fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else {
        return "BestEffort";
    };
    let resources: Vec<_> = spec
        .containers
        .iter()
        .map(|c| c.resources.clone().unwrap_or_default())
        .collect();
    let names = ["cpu", "memory"];
    let asked = |r: &k8s_openapi::api::core::v1::ResourceRequirements, name: &str| {
        r.requests
            .as_ref()
            .is_some_and(|set| set.contains_key(name))
            || r.limits.as_ref().is_some_and(|set| set.contains_key(name))
    };
    if !resources
        .iter()
        .any(|r| names.iter().any(|name| asked(r, name)))
    {
        return "BestEffort";
    }
    let guaranteed = resources.iter().all(|r| {
        names.iter().all(|name| {
            let limit = r.limits.as_ref().and_then(|set| set.get(*name));
            let request = r.requests.as_ref().and_then(|set| set.get(*name));
            limit.is_some() && (request.is_none() || request == limit)
        })
    });
    if guaranteed {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests;
