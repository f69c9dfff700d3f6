//! What fits, and what is said of what does not.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::fit::{Surroundings, fits};
use super::ledger::Ledger;
use super::{is_gated, wants_node};

fn node(edit: impl FnOnce(&mut Value)) -> Node {
    let mut value = json!({
        "metadata": {"name": "here", "labels": {"kubernetes.io/hostname": "here", "zone": "a", "size": "8"}},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "4"}},
    });
    edit(&mut value);
    serde_json::from_value(value).expect("a Node")
}

fn pod(name: &str, spec: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let labels = json!({"app": name});
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": spec}),
    )
    .expect("a Pod")
}

fn asks(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

fn with(pods: &[Pod]) -> Ledger {
    let mut ledger = Ledger::new("here");
    for pod in pods {
        let mut pod = pod.clone();
        pod.spec.as_mut().expect("a spec").node_name = Some("here".to_owned());
        ledger.saw(&Arc::new(pod));
    }
    ledger
}

/// The message, empty if the pod fits.
fn judge(pod: &Pod, node: &Node, ledger: &Ledger) -> String {
    let around = Surroundings {
        node,
        ledger,
        namespace_labels: &|_| BTreeMap::new(),
        claim: &|_| None,
    };
    fits(pod, &around).map_or_else(|misfit| misfit.to_string(), |()| String::new())
}

fn check(spec: Value, edit: impl FnOnce(&mut Value), neighbors: &[Pod], expected: &str) {
    let message = judge(&pod("new", spec.clone()), &node(edit), &with(neighbors));
    if expected.is_empty() {
        assert_eq!(message, "", "{spec}");
    } else {
        let start = format!("0/1 nodes are available: {expected}. preemption: ");
        assert!(message.starts_with(&start), "{message:?} for {spec}");
    }
}

#[test]
fn resources_are_counted_against_what_others_asked_for() {
    let unchanged = |_: &mut Value| ();
    check(asks("2", "1Gi"), unchanged, &[], "");
    check(asks("3", "1Mi"), unchanged, &[], "1 Insufficient cpu");
    check(
        asks("2100m", "2Gi"),
        unchanged,
        &[],
        "1 Insufficient cpu, 1 Insufficient memory",
    );
    let other = pod("other", asks("1500m", "1Mi"));
    check(
        asks("500m", "1Mi"),
        unchanged,
        std::slice::from_ref(&other),
        "",
    );
    check(
        asks("501m", "1Mi"),
        unchanged,
        &[other],
        "1 Insufficient cpu",
    );
    let many: Vec<Pod> = (0..4).map(|n| pod(&n.to_string(), json!({}))).collect();
    check(json!({}), unchanged, &many, "1 Too many pods");
    let gpu =
        json!({"containers": [{"name": "c", "resources": {"limits": {"example.com/gpu": "1"}}}]});
    check(gpu, unchanged, &[], "1 Insufficient example.com/gpu");
}

#[test]
fn the_whole_message_is_kubernetes_own() {
    let message = judge(&pod("p", asks("9", "1")), &node(|_| ()), &with(&[]));
    assert_eq!(
        message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn init_containers_and_sidecars_count_as_in_kubernetes() {
    let one = |cpu: &str, always: bool| {
        let mut container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        if always {
            container["restartPolicy"] = "Always".into();
        }
        container
    };
    let spec = json!({
        "containers": [one("100m", false)],
        "initContainers": [one("50m", true), one("500m", false)],
        "overhead": {"cpu": "10m"},
    });
    assert_eq!(api::requests::of(&pod("p", spec))["cpu"], 560);
    let spec = json!({"containers": [one("700m", false)], "initContainers": [one("50m", true)]});
    assert_eq!(api::requests::of(&pod("p", spec))["cpu"], 750);
}

#[test]
fn cordons_taints_and_selectors_keep_pods_away() {
    let cordoned = |node: &mut Value| node["spec"] = json!({"unschedulable": true});
    check(json!({}), cordoned, &[], "1 node(s) were unschedulable");
    let tolerant = json!({"tolerations": [{"operator": "Exists"}]});
    check(tolerant, cordoned, &[], "");
    let tainted = |node: &mut Value| {
        node["spec"] = json!({"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]})
    };
    check(
        json!({}),
        tainted,
        &[],
        "1 node(s) had untolerated taint {a: b}",
    );
    let tolerant = json!({"tolerations": [{"key": "a", "value": "b", "effect": "NoSchedule"}]});
    check(tolerant, tainted, &[], "");
    let elsewhere = "1 node(s) didn't match Pod's node affinity/selector";
    let unchanged = |_: &mut Value| ();
    check(json!({"nodeSelector": {"zone": "a"}}), unchanged, &[], "");
    check(
        json!({"nodeSelector": {"zone": "b"}}),
        unchanged,
        &[],
        elsewhere,
    );
    let affinity = |key: &str, operator: &str, value: &str| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]}],
        }}}})
    };
    check(affinity("zone", "In", "a"), unchanged, &[], "");
    check(affinity("size", "Gt", "4"), unchanged, &[], "");
    check(affinity("size", "Lt", "4"), unchanged, &[], elsewhere);
    check(affinity("zone", "NotIn", "a"), unchanged, &[], elsewhere);
}

#[test]
fn host_ports_and_missing_claims_keep_pods_waiting() {
    let port = |number: i32, address: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": number, "hostIP": address}]}]});
    let taken = "1 node(s) didn't have free ports for the requested pod ports";
    let neighbors = [pod("other", port(80, "127.0.0.1"))];
    check(port(81, ""), |_| (), &neighbors, "");
    check(port(80, "127.0.0.2"), |_| (), &neighbors, "");
    check(port(80, ""), |_| (), &neighbors, taken);
    let claim = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    check(
        claim,
        |_| (),
        &[],
        "persistentvolumeclaim \"data\" not found",
    );
}

#[test]
fn pods_want_and_refuse_neighbors() {
    let term = |app: &str, key: &str| json!([{"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]);
    let near = |app: &str| json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term(app, "zone")}}});
    let far = |app: &str, key: &str| json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term(app, key)}}});
    let db = || pod("db", json!({}));
    check(near("db"), |_| (), &[db()], "");
    check(
        near("db"),
        |_| (),
        &[],
        "1 node(s) didn't match pod affinity rules",
    );
    check(near("new"), |_| (), &[], "");
    check(
        far("db", "zone"),
        |_| (),
        &[db()],
        "1 node(s) didn't match pod anti-affinity rules",
    );
    check(far("db", "rack"), |_| (), &[db()], "");
    check(
        json!({}),
        |_| (),
        &[pod("db", far("new", "zone"))],
        "1 node(s) didn't satisfy existing pods anti-affinity rules",
    );
}

#[test]
fn more_domains_than_there_are_limit_the_pods_here() {
    let spread = |key: &str| {
        json!({"topologySpreadConstraints": [{
            "topologyKey": key, "maxSkew": 1, "minDomains": 2, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        }]})
    };
    check(spread("zone"), |_| (), &[], "");
    check(
        spread("zone"),
        |_| (),
        &[pod("other", json!({}))],
        "1 node(s) didn't match pod topology spread constraints",
    );
    check(
        spread("rack"),
        |_| (),
        &[],
        "1 node(s) didn't match pod topology spread constraints (missing required label)",
    );
}

#[tokio::test(start_paused = true)]
async fn room_is_kept_for_a_pod_until_it_is_seen_or_lost() {
    let node = node(|_| ());
    let mut ledger = with(&[]);
    ledger.reserve(&pod("a", asks("2", "1Mi")));
    let other = pod("b", asks("1", "1Mi"));
    assert_ne!(judge(&other, &node, &ledger), "");
    assert_eq!(
        judge(&pod("a", asks("2", "1Mi")), &node, &ledger),
        "",
        "its own room is its own"
    );
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    ledger.reserve(&pod("c", json!({})));
    assert_eq!(judge(&other, &node, &ledger), "");
}

#[test]
fn only_pods_without_node_and_of_this_scheduler_are_placed() {
    assert!(wants_node(&pod("p", json!({}))));
    assert!(!wants_node(&pod("p", json!({"nodeName": "other"}))));
    assert!(!wants_node(&pod("p", json!({"schedulerName": "mine"}))));
    assert!(is_gated(&pod(
        "p",
        json!({"schedulingGates": [{"name": "g"}]})
    )));
}
