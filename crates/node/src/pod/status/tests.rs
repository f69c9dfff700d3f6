//! The status that Kubernetes would show for each state of a pod.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::*;

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).expect("a time"))
}

fn pod(policy: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "generation": 3},
        "spec": {"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]},
        "status": {"conditions": [
            {"type": "gateway.suimon.dev/Drained", "status": "True"},
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:05Z"},
        ]},
    }))
    .expect("a pod")
}

fn observed(pod: &Pod) -> Observed {
    Observed::new(pod, IpAddr::V4(Ipv4Addr::LOCALHOST), at(10))
}

fn ended(code: i32) -> Terminated {
    Terminated {
        exit_code: code,
        signal: None,
        reason: "Completed".to_owned(),
        message: String::new(),
        started_at: None,
        finished_at: at(11),
        container_id: None,
    }
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> &'a PodCondition {
    status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == type_)
        .expect("a condition")
}

#[test]
fn a_new_pod_is_pending_and_names_what_it_waits_for() {
    let pod = pod("Always");
    let status = status(&pod, &observed(&pod), &at(20));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(
        condition(&status, "Initialized").message.as_deref(),
        Some("containers with incomplete status: [i]")
    );
    assert_eq!(
        condition(&status, "Ready").message.as_deref(),
        Some("containers with unready status: [a b]")
    );
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn conditions_of_others_and_times_of_unchanged_conditions_are_kept() {
    let pod = pod("Always");
    let status = status(&pod, &observed(&pod), &at(20));
    assert_eq!(
        condition(&status, "gateway.suimon.dev/Drained").status,
        "True"
    );
    assert_eq!(
        condition(&status, "PodScheduled").last_transition_time,
        Some(at(5))
    );
    assert_eq!(
        condition(&status, "Ready").last_transition_time,
        Some(at(20))
    );
}

#[test]
fn a_pod_is_ready_when_all_containers_are_and_its_gates_are_open() {
    let mut pod = pod("Always");
    let mut observed = observed(&pod);
    observed.containers[0].end(ended(0));
    for record in &mut observed.containers[1..] {
        record.run(at(12), "process://1".to_owned());
        record.ready = true;
    }
    assert_eq!(
        condition(&status(&pod, &observed, &at(20)), "Ready").status,
        "True"
    );
    let gate = k8s_openapi::api::core::v1::PodReadinessGate {
        condition_type: "x".to_owned(),
    };
    pod.spec.as_mut().expect("a spec").readiness_gates = Some(vec![gate]);
    let gated = status(&pod, &observed, &at(20));
    assert_eq!(condition(&gated, "ContainersReady").status, "True");
    assert_eq!(
        condition(&gated, "Ready").reason.as_deref(),
        Some("ReadinessGatesNotReady")
    );
}

#[test]
fn the_phase_follows_the_restart_policy() {
    for (policy, codes, expected) in [
        ("Never", [0, 0], Phase::Succeeded),
        ("Never", [0, 1], Phase::Failed),
        ("OnFailure", [0, 0], Phase::Succeeded),
        ("OnFailure", [0, 1], Phase::Running),
        ("Always", [0, 0], Phase::Running),
    ] {
        let pod = pod(policy);
        let mut observed = observed(&pod);
        observed.containers[0].end(ended(0));
        for (record, code) in observed.containers[1..].iter_mut().zip(codes) {
            record.end(ended(code));
        }
        assert_eq!(
            phase(Some(policy), &observed),
            expected,
            "{policy} {codes:?}"
        );
    }
}

#[test]
fn a_failed_init_container_fails_the_pod_only_if_it_is_never_restarted() {
    let pod = pod("Never");
    let mut observed = observed(&pod);
    observed.containers[0].end(ended(1));
    assert_eq!(phase(Some("Never"), &observed), Phase::Failed);
    assert_eq!(phase(Some("Always"), &observed), Phase::Pending);
}

#[test]
fn a_restarted_container_keeps_how_it_ended_and_a_restarted_node_goes_on_counting() {
    let mut pod = pod("Always");
    let mut observed = observed(&pod);
    observed.containers[1].end(ended(7));
    observed.containers[1].wait("CrashLoopBackOff", "back-off");
    let status = status(&pod, &observed, &at(20));
    let first = &status.container_statuses.as_ref().expect("statuses")[0];
    let last = first
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    assert_eq!(last.map(|end| end.exit_code), Some(7));
    assert_eq!(
        first
            .state
            .as_ref()
            .and_then(|s| s.waiting.as_ref()?.reason.as_deref()),
        Some("CrashLoopBackOff")
    );
    pod.status = Some(status);
    let again = Observed::new(&pod, IpAddr::V4(Ipv4Addr::LOCALHOST), at(30));
    assert_eq!(again.containers[1].restarts, 1);
    assert_eq!(again.containers[2].restarts, 0);
}
