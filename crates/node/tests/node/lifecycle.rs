//! A pod's life: start, status, restart, failure, deletion, and the node's own end.

use k8s_openapi::api::core::v1::{ConfigMap, Node as NodeObject, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::harness::{Server, container, get, guest, host_port, is_true, phase, shell, waiting};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_becomes_ready_with_its_own_port_address_and_environment() {
    let server = Server::start().await;
    server.create("hello", guest()).await;
    let pod = server.until_ready("hello").await;
    let port = host_port(&pod, 8080);
    assert_eq!(get(port, "/").await.expect("answered"), "hello");
    assert_eq!(
        get(port, "/env/PORT").await.expect("answered"),
        port.to_string()
    );
    assert_eq!(get(port, "/env/HOSTNAME").await.expect("answered"), "hello");
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(spec.node_name.as_deref(), Some("here"));
    let status = pod.status.as_ref().expect("a status");
    assert_eq!(
        (phase(&pod), status.pod_ip.as_deref()),
        ("Running", Some("127.0.0.1"))
    );
    for condition in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        assert!(is_true(&pod, condition), "{condition}");
    }
    let container = container(&pod).expect("a container");
    assert!(container.ready && container.started == Some(true) && container.restart_count == 0);
    assert!(
        container
            .image_id
            .starts_with("docker.io/library/guest@sha256:"),
        "{}",
        container.image_id
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_with_the_same_container_port_run_side_by_side() {
    let server = Server::start().await;
    server.create("a", guest()).await;
    server.create("b", guest()).await;
    let ports = [
        host_port(&server.until_ready("a").await, 8080),
        host_port(&server.until_ready("b").await, 8080),
    ];
    assert_ne!(ports[0], ports[1]);
    for port in ports {
        assert_eq!(get(port, "/").await.expect("answered"), "hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environment_comes_from_every_source_and_references_are_expanded() {
    let server = Server::start().await;
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"A": "1", "B": "2"}}))
            .expect("a map");
    let maps: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    maps.create(&PostParams::default(), &map)
        .await
        .expect("created");
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "data": {"key": "c2VjcmV0"}}))
            .expect("a secret");
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "default");
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .expect("created");
    let mut container = guest();
    container["envFrom"] = json!([{"prefix": "M_", "configMapRef": {"name": "m"}}]);
    container["env"] = json!([
        {"name": "PORT", "value": "8080"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "OPTIONAL", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": true}}},
        {"name": "ALL", "value": "$(M_A)$(M_B)-$(SECRET)-$(NAME)-$(NONE)"},
    ]);
    server.create("env", container).await;
    let port = host_port(&server.until_ready("env").await, 8080);
    assert_eq!(
        get(port, "/env/ALL").await.expect("answered"),
        "12-secret-env-$(NONE)"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_told_and_the_pod_starts_once_it_is_there() {
    let server = Server::start().await;
    let mut container = guest();
    container["envFrom"] = json!([{"configMapRef": {"name": "late"}}]);
    server.create("waits", container).await;
    let pod = server
        .until("waits", |pod| {
            waiting(pod).is_some_and(|(reason, _)| reason == "CreateContainerConfigError")
        })
        .await;
    assert!(
        waiting(&pod)
            .expect("waiting")
            .1
            .contains("configmap \"late\" not found")
    );
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "late"}})).expect("a map");
    let maps: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    maps.create(&PostParams::default(), &map)
        .await
        .expect("created");
    server.until_ready("waits").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_says_how_to_add_it_and_is_taken_when_it_was_added() {
    let server = Server::start().await;
    let mut container = guest();
    container["image"] = json!("localhost:1/later");
    server.create("waits", container).await;
    let pod = server
        .until("waits", |pod| {
            waiting(pod)
                .is_some_and(|(reason, _)| reason == "ErrImagePull" || reason == "ImagePullBackOff")
        })
        .await;
    let message = waiting(&pod).expect("waiting").1;
    assert!(
        message.contains("suimon image add localhost:1/later --binary PATH"),
        "{message}"
    );
    server
        .images
        .add_binary(
            "localhost:1/later",
            env!("CARGO_BIN_EXE_node-test-guest").as_ref(),
        )
        .expect("added");
    server.until_ready("waits").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_process_runtime_cannot_do_is_refused_with_the_way_out() {
    let server = Server::start().await;
    let pod = json!({
        "metadata": {"name": "volume"},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "guest", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        },
    });
    server.create_pod(pod).await;
    let pod = server
        .until("volume", |pod| {
            waiting(pod).is_some_and(|(_, message)| !message.is_empty())
        })
        .await;
    let (reason, message) = waiting(&pod).expect("waiting");
    assert_eq!(reason, "CreateContainerConfigError");
    assert!(
        message.contains("volume mounts need the oci runtime"),
        "{message}"
    );
    server.create_pod(json!({"metadata": {"name": "class"}, "spec": {"runtimeClassName": "other", "containers": [{"name": "c", "image": "guest"}]}})).await;
    let pod = server
        .until("class", |pod| {
            waiting(pod).is_some_and(|(_, message)| !message.is_empty())
        })
        .await;
    assert!(
        waiting(&pod)
            .expect("waiting")
            .1
            .contains("\"other\" is not available")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_exits_is_restarted_and_then_backed_off_with_its_last_words() {
    let server = Server::start().await;
    let mut container = shell("echo last words; exit 3");
    container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    server.create("crash", container).await;
    let pod = server
        .until("crash", |pod| {
            waiting(pod).is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
        })
        .await;
    let status = self::container(&pod).expect("a container");
    let last = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .expect("an end");
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert_eq!(last.message.as_deref(), Some("last words\n"));
    assert_eq!(status.restart_count, 1);
    assert!(!is_true(&pod, "Ready"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_cannot_be_executed_ends_with_start_error() {
    let server = Server::start().await;
    server
        .create(
            "bad",
            json!({"image": "sh", "command": ["/no/such/program"]}),
        )
        .await;
    let pod = server
        .until("bad", |pod| {
            waiting(pod).is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
        })
        .await;
    let last = container(&pod)
        .and_then(|c| c.last_state.clone()?.terminated)
        .expect("an end");
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (128, Some("StartError"))
    );
    assert!(
        last.message
            .expect("a message")
            .contains("/no/such/program: No such file")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_are_never_restarted_succeed_or_fail() {
    let server = Server::start().await;
    for (name, code, expected) in [("good", 0, "Succeeded"), ("bad", 1, "Failed")] {
        let container = crate::harness::with_name(shell(&format!("exit {code}")));
        let pod = json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container]}});
        server.create_pod(pod).await;
        server.until(name, |pod| phase(pod) == expected).await;
        server.delete(name).await;
        server.until_gone(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_run_one_after_the_other_before_the_containers() {
    let server = Server::start().await;
    let file = server.dir.path().join("order");
    let step = |name: &str| json!({"name": name, "image": "sh", "args": ["-c", format!("echo {name} >> {}", file.display())]});
    let pod = json!({
        "metadata": {"name": "ordered"},
        "spec": {"restartPolicy": "Never", "initContainers": [step("one"), step("two")], "containers": [step("main")]},
    });
    server.create_pod(pod).await;
    let pod = server
        .until("ordered", |pod| phase(pod) == "Succeeded")
        .await;
    assert_eq!(
        std::fs::read_to_string(&file).expect("written"),
        "one\ntwo\nmain\n"
    );
    assert_eq!(
        pod.status
            .expect("a status")
            .init_container_statuses
            .expect("statuses")
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_gets_its_hook_then_sigterm_and_is_gone_with_its_files() {
    let server = Server::start().await;
    let file = server.dir.path().join("ended");
    let script = format!(
        "trap 'echo term >> {0}; exit 0' TERM; echo up; while :; do sleep 0.01; done",
        file.display()
    );
    let mut container = shell(&script);
    let hook = format!("echo hook >> {}", file.display());
    container["lifecycle"] = json!({"preStop": {"exec": {"command": ["/bin/sh", "-c", hook]}}});
    server.create("ends", container).await;
    let pod = server.until("ends", |pod| phase(pod) == "Running").await;
    // The trap is set once the first line is in the log.
    let mut logs = Box::pin(
        server
            .node
            .logs(
                "default",
                "ends",
                None,
                &node::LogOptions {
                    follow: true,
                    ..Default::default()
                },
            )
            .expect("logs"),
    );
    futures::StreamExt::next(&mut logs)
        .await
        .expect("a line")
        .expect("readable");
    server.delete("ends").await;
    server.until_gone("ends").await;
    assert_eq!(
        std::fs::read_to_string(&file).expect("written"),
        "hook\nterm\n"
    );
    let files = server
        .dir
        .path()
        .join("node/pods")
        .join(pod.metadata.uid.expect("a uid"));
    assert!(!files.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let server = Server::start().await;
    let container =
        crate::harness::with_name(shell("trap '' TERM; echo up; while :; do sleep 0.01; done"));
    let pod = json!({"metadata": {"name": "stubborn"}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}});
    server.create_pod(pod).await;
    server.until_ready("stubborn").await;
    server.delete("stubborn").await;
    server.until_gone("stubborn").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_a_revision_hears_of_its_end_only_once_it_is_drained() {
    let server = Server::start().await;
    let pod = json!({
        "metadata": {"name": "drains", "labels": {"serving.knative.dev/revision": "r"}},
        "spec": {"terminationGracePeriodSeconds": 300, "containers": [crate::harness::with_name(guest())]},
    });
    server.create_pod(pod).await;
    let port = host_port(&server.until_ready("drains").await, 8080);
    server.delete("drains").await;
    server
        .until("drains", |pod| pod.metadata.deletion_timestamp.is_some())
        .await;
    assert_eq!(get(port, "/").await.expect("still answered"), "hello");
    let conditions =
        json!({"status": {"conditions": [{"type": api::names::POD_DRAINED, "status": "True"}]}});
    server
        .pods()
        .patch_status("drains", &PatchParams::default(), &Patch::Merge(conditions))
        .await
        .expect("patched");
    server.until_gone("drains").await;
    assert!(get(port, "/").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_node_owned_pods_are_replaced_and_others_run_again() {
    let server = Server::start().await;
    // Any object that exists will do: the node does not care who owns a pod.
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "r"}})).expect("a map");
    let maps: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    let uid = maps
        .create(&PostParams::default(), &map)
        .await
        .expect("created")
        .metadata
        .uid;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "r", "uid": uid, "controller": true}]);
    server.create_pod(json!({"metadata": {"name": "owned", "ownerReferences": owner}, "spec": {"containers": [crate::harness::with_name(guest())]}})).await;
    server.create("alone", guest()).await;
    server.until_ready("owned").await;
    server.until_ready("alone").await;
    let server = server.restart().await;
    server.until_gone("owned").await;
    let pod = server
        .until("alone", |pod| {
            is_true(pod, "Ready") && container(pod).is_some_and(|c| c.restart_count == 1)
        })
        .await;
    assert_eq!(
        get(host_port(&pod, 8080), "/").await.expect("answered"),
        "hello"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_object_says_what_the_machine_has_and_that_it_is_ready() {
    let server = Server::start().await;
    let nodes: Api<NodeObject> = Api::all(server.client.clone());
    let status = nodes
        .get("here")
        .await
        .expect("a node")
        .status
        .expect("a status");
    let capacity = status.capacity.expect("a capacity");
    assert!(
        capacity.contains_key("cpu")
            && capacity.contains_key("memory")
            && capacity.contains_key("pods")
    );
    assert!(
        status
            .conditions
            .expect("conditions")
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    );
}
