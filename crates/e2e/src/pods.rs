//! What users ask of running pods beside commands: logs, forwarded ports, proxies, eviction,
//! figures; through the real kubectl.

use std::process::Stdio;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::kubectl::kubectl;
use crate::server::text;
use crate::tools::{Containers, Rig};
use crate::{Server, guest};

const TALKERS: Containers = &[
    (
        "main",
        "echo one; echo two >&2; sleep 0.3; echo three; trap 'exit 0' TERM; while :; do sleep 0.2; done",
        "",
    ),
    ("other", "echo other; while :; do sleep 0.2; done", ""),
    // (The two outputs are separate streams: only a pause puts them in order.)
    // Its second run stays, so that the first is the previous one.
    (
        "again",
        "if [ -e $MARK ]; then echo second; while :; do sleep 0.2; done; fi; echo first; : > $MARK",
        "env: [{name: MARK, value: MARK_FILE}]",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reads_logs_as_it_asks_for_them() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mark = directory.path().join("mark").display().to_string();
    let containers: Vec<_> = TALKERS
        .iter()
        .map(|(name, script, more)| {
            (
                *name,
                *script,
                more.replace("MARK_FILE", &mark).leak() as &str,
            )
        })
        .collect();
    let Some(rig) = Rig::start(false, containers.leak()).await? else {
        return Ok(());
    };
    let main = ["logs", "tools", "-c", "main"];
    let logs = async |more: &[&str]| rig.ok(&[&main, more].concat()).await;
    rig.server
        .eventually("everything is said", || async {
            let all = rig.ok(&["logs", "tools", "--all-containers"]).await?;
            let last = ["three", "other", "second"];
            Ok(last.iter().all(|last| all.contains(last)).then_some(()))
        })
        .await?;
    assert_eq!(logs(&["--tail=1"]).await?, "three\n");
    assert_eq!(logs(&["--tail=0"]).await?, "");
    assert_eq!(logs(&["--limit-bytes=5"]).await?.len(), 5);
    assert_eq!(logs(&["--since=1h"]).await?.lines().count(), 3);
    assert_eq!(logs(&["--since-time=2999-01-01T00:00:00Z"]).await?, "");
    for line in logs(&["--timestamps"]).await?.lines() {
        let (time, _) = line.split_once(' ').context("a time and a text")?;
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    }
    let again = ["logs", "tools", "-c", "again"];
    assert_eq!(rig.ok(&again).await?, "second\n");
    let previous = rig.ok(&[&again[..], &["--previous"]].concat()).await?;
    assert_eq!(previous, "first\n");
    let prefixed = rig
        .ok(&["logs", "tools", "--all-containers", "--prefix"])
        .await?;
    assert!(prefixed.contains("[pod/tools/other] other"), "{prefixed}");
    let refusals = [
        (
            &["logs", "tools", "-c", "nobody"][..],
            "container nobody is not valid for pod tools",
        ),
        (
            &["logs", "tools", "-c", "other", "--previous"],
            "previous terminated container \"other\" in pod \"tools\" not found",
        ),
        (&["logs", "absent"], "pods \"absent\" not found"),
        (
            &[
                "get",
                "--raw",
                "/api/v1/namespaces/default/pods/tools/log?container=main&tailLines=-1",
            ],
            "tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            &["get", "--raw", "/api/v1/namespaces/default/pods/tools/log"],
            "a container name must be specified for pod tools, choose one of: [main other again]",
        ),
    ];
    for (arguments, expected) in refusals {
        let refused = rig.run(arguments, "").await?;
        let said = text(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains(expected),
            "{said}"
        );
    }
    // Following ends with the container, and has everything that was said until then.
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(rig.server.kubeconfig())
        .args([&main[..], &["--follow"]].concat())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut said = BufReader::new(stdout).lines();
    for _ in 0..3 {
        said.next_line().await?.context("what was said before")?;
    }
    rig.ok(&["delete", "pod", "tools", "--wait=false"]).await?;
    assert_eq!(said.next_line().await?, None);
    assert!(child.wait().await?.success());
    Ok(())
}

/// The guest as a pod with a Service; `oci` as in [`Rig::start`].
async fn web(oci: bool) -> anyhow::Result<Option<Rig>> {
    let Some(rig) = Rig::start(oci, &[("main", "while :; do sleep 0.2; done", "")]).await? else {
        return Ok(None);
    };
    let objects = format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: web, labels: {{app: web}}}}, spec: {{containers: [{{\
           name: web, image: {}, imagePullPolicy: Never, env: [{{name: PORT, value: '8080'}}], \
           ports: [{{name: http, containerPort: 8080}}], readinessProbe: {{tcpSocket: {{port: 8080}}}}}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{selector: {{app: web}}, \
           ports: [{{name: http, port: 80, targetPort: http}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: empty}}, spec: {{selector: {{app: none}}, \
           ports: [{{name: http, port: 80, targetPort: http}}]}}}}\n",
        guest::IMAGE
    );
    let applied = rig.run(&["apply", "-f", "-"], &objects).await?;
    anyhow::ensure!(applied.status.success(), "{}", text(&applied.stderr));
    rig.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])
        .await?;
    Ok(Some(rig))
}

/// What kubectl says when somebody connects to a forwarded port where nobody listens.
async fn refused(rig: &Rig, websockets: &str) -> anyhow::Result<String> {
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(rig.server.kubeconfig())
        .args(["port-forward", "pod/web", ":9"])
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut said = BufReader::new(stdout);
    let mut line = String::new();
    said.read_line(&mut line).await?;
    let address = line
        .strip_prefix("Forwarding from ")
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("kubectl said {line:?}"))?;
    let mut stream = TcpStream::connect(address).await?;
    let mut rest = Vec::new();
    // Closed, politely or not, without a byte.
    let _ = stream.read_to_end(&mut rest).await;
    anyhow::ensure!(rest.is_empty(), "{rest:?}");
    let stderr = child.stderr.take().context("standard error is piped")?;
    let mut lines = BufReader::new(stderr).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("error forwarding port 9") {
            return Ok(line);
        }
    }
    anyhow::bail!("kubectl did not tell")
}

async fn proxies_and_ports(oci: bool) -> anyhow::Result<()> {
    let Some(rig) = web(oci).await? else {
        return Ok(());
    };
    for websockets in ["true", "false"] {
        let told = refused(&rig, websockets).await?;
        let expected = if oci {
            "refused"
        } else {
            "does not name this port"
        };
        assert!(told.contains(expected), "{told}");
    }
    let raw = async |path: &str| {
        let path = format!("/api/v1/namespaces/default/{path}");
        rig.run(&["get", "--raw", &path], "").await
    };
    for path in [
        "pods/web/proxy/anything",
        "pods/web:8080/proxy/",
        "pods/http:web:8080/proxy",
        "services/web/proxy/",
        "services/web:http/proxy/a/b?c=d",
        "services/web:80/proxy/",
    ] {
        let answer = raw(path).await?;
        assert_eq!(text(&answer.stdout), "guest\n", "{path}: {answer:?}");
    }
    let cases = [
        (
            "pods/web:8080/proxy/file/absent",
            "the server could not find the requested resource",
        ),
        ("pods/web:x/proxy/", "invalid port \"x\""),
        ("pods/https:web:8080/proxy/", "use `kubectl port-forward`"),
        (
            "services/empty/proxy/",
            "no endpoints available for service \"empty\"",
        ),
        (
            "services/web:nothing/proxy/",
            "no service port \"nothing\" found for service \"web\"",
        ),
        ("services/absent/proxy/", "\"absent\" not found"),
    ];
    for (path, expected) in cases {
        let refused = raw(path).await?;
        let said = text(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains(expected),
            "{path}: {said}"
        );
    }
    figures(&rig).await
}

/// `kubectl top`.
async fn figures(rig: &Rig) -> anyhow::Result<()> {
    let node = rig.ok(&["top", "node"]).await?;
    assert!(node.contains("suimon") && node.contains('%'), "{node}");
    let pods = rig.ok(&["top", "pod", "--containers"]).await?;
    let web = pods.lines().find(|line| line.starts_with("web"));
    let columns: Vec<_> = web.context("a line")?.split_whitespace().collect();
    assert!(
        columns[2].ends_with('m') && columns[3].ends_with("Mi"),
        "{pods}"
    );
    let memory: u64 = columns[3].trim_end_matches("Mi").parse()?;
    assert!(memory < 1024, "{pods}");
    // Less than what the table shows, perhaps, but something.
    let path = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/web";
    let measured: serde_json::Value =
        serde_json::from_str(&rig.ok(&["get", "--raw", path]).await?)?;
    let memory = measured["containers"][0]["usage"]["memory"].as_str();
    assert!(
        memory.is_some_and(|memory| memory.starts_with(|digit| matches!(digit, '1'..='9'))),
        "{measured}"
    );
    let one = rig
        .ok(&["top", "pod", "-l", "app=web", "--no-headers"])
        .await?;
    assert_eq!(one.lines().count(), 1, "{one}");
    let absent = rig.run(&["top", "pod", "absent"], "").await?;
    assert!(text(&absent.stderr).contains("not found"), "{absent:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_and_figures_of_programs_of_the_machine() -> anyhow::Result<()> {
    proxies_and_ports(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_and_figures_of_containers() -> anyhow::Result<()> {
    proxies_and_ports(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_the_disruption_budget() -> anyhow::Result<()> {
    let server = Server::start_with_processes().await?;
    guest::add_image(&server).await?;
    let objects = format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{replicas: 2, \
           selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, \
           spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: web, image: {}, imagePullPolicy: Never, \
           env: [{{name: PORT, value: '8080'}}], ports: [{{containerPort: 8080}}]}}]}}}}}}}}\n---\n\
         {{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {{name: web}}, \
           spec: {{minAvailable: 2, selector: {{matchLabels: {{app: web}}}}}}}}\n",
        guest::IMAGE
    );
    let run = async |arguments: &[&str], input: &str| -> anyhow::Result<_> {
        kubectl(&server, arguments, input).await
    };
    let Some(applied) = run(&["apply", "-f", "-"], &objects).await? else {
        return Ok(());
    };
    assert!(applied.status.success(), "{applied:?}");
    server
        .eventually("the budget has seen two healthy pods", || async {
            let budget = server.object(&["pdb", "web"]).await?;
            Ok((budget["status"]["currentHealthy"] == 2).then_some(()))
        })
        .await?;
    let drain = [
        "drain",
        "suimon",
        "--ignore-daemonsets",
        "--force",
        "--timeout=4s",
    ];
    let blocked = run(&drain, "").await?.context("kubectl")?;
    let said = text(&blocked.stderr);
    assert!(!blocked.status.success(), "{said}");
    assert!(
        said.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{said}"
    );
    let spare = r#"{"spec":{"minAvailable":0}}"#;
    let patched = run(&["patch", "pdb", "web", "--type=merge", "-p", spare], "").await?;
    assert!(patched.is_some_and(|patched| patched.status.success()));
    let drained = run(&[&drain[..4], &["--timeout=60s"]].concat(), "").await?;
    let drained = drained.context("kubectl")?;
    assert!(drained.status.success(), "{}", text(&drained.stderr));
    let pods = server.object(&["pods", "-l", "app=web"]).await?;
    let bound = pods["items"].as_array().into_iter().flatten();
    let bound = bound.filter(|pod| !pod["spec"]["nodeName"].is_null());
    assert_eq!(bound.count(), 0, "new pods wait for a node: {pods}");
    let back = run(&["uncordon", "suimon"], "").await?;
    assert!(back.is_some_and(|back| back.status.success()));
    server
        .eventually("the pods run again", || async {
            let budget = server.object(&["pdb", "web"]).await?;
            Ok((budget["status"]["currentHealthy"] == 2).then_some(()))
        })
        .await
}
