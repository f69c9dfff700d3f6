//! Kubernetes' own workloads, with the real kubectl.

use serde_json::{Value, json};

use crate::Server;
use crate::guest::{self, IMAGE};
use crate::kubectl::kubectl;
use crate::server::text;

/// Runs kubectl, which must succeed; `None` where it is not installed.
async fn run(server: &Server, arguments: &[&str], input: &str) -> anyhow::Result<Option<String>> {
    let Some(output) = kubectl(server, arguments, input).await? else {
        return Ok(None);
    };
    anyhow::ensure!(
        output.status.success(),
        "kubectl {arguments:?}: {}",
        text(&output.stderr)
    );
    Ok(Some(text(&output.stdout)))
}

/// The same, where it was there a moment ago.
async fn must(server: &Server, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(server, arguments, "").await?;
    output.ok_or_else(|| anyhow::anyhow!("kubectl is gone"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_are_followed_paused_and_undone() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    let image = format!("--image={IMAGE}");
    if run(
        &server,
        &["create", "deployment", "web", &image, "--port=8080"],
        "",
    )
    .await?
    .is_none()
    {
        return Ok(());
    }
    let status = ["rollout", "status", "deployment/web", "--timeout=80s"];
    assert!(
        must(&server, &status)
            .await?
            .contains("successfully rolled out")
    );
    let who = async || -> anyhow::Result<Value> {
        let web = server.object(&["deployment", "web"]).await?;
        Ok(web["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].clone())
    };
    must(&server, &["set", "env", "deployment/web", "WHO=two"]).await?;
    assert!(
        must(&server, &status)
            .await?
            .contains("successfully rolled out")
    );
    let history = must(&server, &["rollout", "history", "deployment/web"]).await?;
    assert!(
        history.contains("REVISION")
            && history
                .lines()
                .filter(|line| line.starts_with(['1', '2']))
                .count()
                == 2,
        "{history}"
    );
    let shown = must(
        &server,
        &["rollout", "history", "deployment/web", "--revision=2"],
    )
    .await?;
    assert!(shown.contains("WHO:") && shown.contains("two"), "{shown}");

    must(&server, &["rollout", "undo", "deployment/web"]).await?;
    assert!(
        must(&server, &status)
            .await?
            .contains("successfully rolled out")
    );
    assert_eq!(who().await?, Value::Null);
    let history = must(&server, &["rollout", "history", "deployment/web"]).await?;
    assert!(
        history.lines().any(|line| line.starts_with('3')),
        "{history}"
    );

    must(&server, &["rollout", "pause", "deployment/web"]).await?;
    must(&server, &["set", "env", "deployment/web", "WHO=three"]).await?;
    let paused = server
        .eventually("a paused rollout", || async {
            let web = server.object(&["deployment", "web"]).await?;
            let conditions = web["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let paused = conditions
                .iter()
                .any(|condition| condition["reason"] == "DeploymentPaused");
            Ok(paused.then_some(web))
        })
        .await?;
    assert_eq!(
        paused["status"]["updatedReplicas"].as_i64().unwrap_or(0),
        0,
        "{paused}"
    );
    must(&server, &["rollout", "resume", "deployment/web"]).await?;
    assert!(
        must(&server, &status)
            .await?
            .contains("successfully rolled out")
    );
    assert_eq!(who().await?, "three");
    Ok(())
}

/// A Job that succeeds, one that fails, a StatefulSet and a DaemonSet.
fn manifest() -> Value {
    let once = |path: &str| {
        json!({"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": IMAGE, "args": ["exists", path]}],
        }})
    };
    let serving = |app: &str| {
        json!({
            "metadata": {"labels": {"app": app}},
            "spec": {"containers": [{"name": "c", "image": IMAGE, "ports": [{"containerPort": 8080}]}]},
        })
    };
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"},
            "spec": {"completions": 3, "parallelism": 2, "completionMode": "Indexed", "template": once("/")},
        },
        {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "bad"},
            "spec": {"backoffLimit": 0, "template": once("/absent")},
        },
        {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"replicas": 2, "serviceName": "db", "selector": selector("db"), "template": serving("db")},
        },
        {
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"},
            "spec": {"selector": selector("agent"), "template": serving("agent")},
        },
    ]})
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_stateful_sets_and_daemon_sets_come_and_go() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    let manifest = manifest().to_string();
    if run(&server, &["apply", "-f", "-"], &manifest)
        .await?
        .is_none()
    {
        return Ok(());
    }
    must(
        &server,
        &[
            "wait",
            "--for=condition=complete",
            "job/work",
            "--timeout=80s",
        ],
    )
    .await?;
    let work = server.object(&["job", "work"]).await?;
    assert_eq!(work["status"]["completedIndexes"], "0-2", "{work}");
    must(
        &server,
        &["wait", "--for=condition=failed", "job/bad", "--timeout=80s"],
    )
    .await?;
    must(
        &server,
        &["rollout", "status", "statefulset/db", "--timeout=80s"],
    )
    .await?;
    must(
        &server,
        &["rollout", "status", "daemonset/agent", "--timeout=80s"],
    )
    .await?;
    must(
        &server,
        &["set", "env", "statefulset/db", "daemonset/agent", "A=b"],
    )
    .await?;
    must(
        &server,
        &["rollout", "status", "statefulset/db", "--timeout=80s"],
    )
    .await?;
    must(&server, &["rollout", "undo", "statefulset/db"]).await?;
    must(
        &server,
        &["rollout", "status", "statefulset/db", "--timeout=80s"],
    )
    .await?;
    must(
        &server,
        &["rollout", "status", "daemonset/agent", "--timeout=80s"],
    )
    .await?;
    let history = must(&server, &["rollout", "history", "daemonset/agent"]).await?;
    assert!(
        history.lines().any(|line| line.starts_with('2')),
        "{history}"
    );

    must(&server, &["delete", "job,statefulset,daemonset", "--all"]).await?;
    server
        .eventually("nothing is left", || async {
            let left = must(
                &server,
                &["get", "pods,controllerrevisions,jobs", "-o", "name"],
            )
            .await?;
            Ok(left.trim().is_empty().then_some(()))
        })
        .await
}
