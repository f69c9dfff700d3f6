//! The real kubectl against the API server.

use std::process::{Output, Stdio};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::Server;
use crate::server::{text, with_input};
use crate::serving::hello;

/// `None`, loudly, where kubectl is not installed.
pub(crate) async fn kubectl(
    server: &Server,
    arguments: &[&str],
    input: &str,
) -> anyhow::Result<Option<Output>> {
    kubectl_with(server, &[], arguments, input).await
}

/// The same with more variables in kubectl's environment.
pub(crate) async fn kubectl_with(
    server: &Server,
    environment: &[(&str, &str)],
    arguments: &[&str],
    input: &str,
) -> anyhow::Result<Option<Output>> {
    let mut command = Command::new("kubectl");
    command
        .envs(environment.iter().copied())
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(arguments);
    match with_input(command, input).await {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.to_string().contains("No such file") => {
            eprintln!("SKIPPED: kubectl is not on PATH, nothing of it was tested");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_gets_describes_waits_logs_and_deletes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let Some(applied) = kubectl(&server, &["apply", "-f", "-"], &hello("kube", "Kubectl")).await?
    else {
        return Ok(());
    };
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    let run = async |arguments: &[&str]| -> anyhow::Result<String> {
        let output = kubectl(&server, arguments, "")
            .await?
            .expect("kubectl was there a moment ago");
        anyhow::ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    };
    run(&[
        "wait",
        "--for=condition=Ready",
        "ksvc/kube",
        "--timeout=60s",
    ])
    .await?;
    let columns = |table: &str| {
        table
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let services = run(&["get", "ksvc"]).await?;
    assert_eq!(
        columns(&services),
        "NAME URL LATESTCREATED LATESTREADY READY REASON"
    );
    assert!(services.contains("kube-00001"), "{services}");
    let revisions = run(&["get", "revision"]).await?;
    assert_eq!(
        columns(&revisions),
        "NAME CONFIG NAME GENERATION READY REASON ACTUAL REPLICAS DESIRED REPLICAS"
    );
    for kinds in ["configuration", "route", "pod", "deployment", "service"] {
        let listed = run(&["get", kinds]).await?;
        assert!(listed.contains("kube"), "{kinds}: {listed}");
    }
    assert!(
        run(&["describe", "ksvc", "kube"])
            .await?
            .contains("RoutesReady")
    );
    let pods = run(&["get", "pods", "-o", "name"]).await?;
    let pod = pods.lines().next().unwrap_or_default().to_owned();
    assert!(run(&["logs", &pod]).await?.contains("listening on port"));
    assert!(
        run(&["apply", "-f", "-"]).await.is_err(),
        "an empty manifest is an error"
    );
    let again = kubectl(&server, &["apply", "-f", "-"], &hello("kube", "Again"))
        .await?
        .expect("kubectl");
    assert!(again.status.success(), "{}", text(&again.stderr));
    run(&[
        "wait",
        "--for=condition=Ready",
        "ksvc/kube",
        "--timeout=60s",
    ])
    .await?;
    run(&["delete", "ksvc", "kube"]).await?;
    server
        .eventually("children are collected", || async {
            let left = run(&[
                "get",
                "configuration,revision,route,pod,deployment",
                "-o",
                "name",
            ])
            .await?;
            Ok(left.trim().is_empty().then_some(()))
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_the_api_refuses() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let arguments = [
        "--server",
        &server.api,
        "--insecure-skip-tls-verify",
        "get",
        "pods",
    ];
    let mut command = Command::new("kubectl");
    command
        .env("KUBECONFIG", "/dev/null")
        .args(arguments)
        .args(["--username", "nobody", "--password", "none"]);
    let Ok(output) = with_input(command, "").await else {
        eprintln!("SKIPPED: kubectl is not on PATH, nothing of it was tested");
        return Ok(());
    };
    assert!(!output.status.success(), "{}", text(&output.stdout));
    Ok(())
}

/// One request through `kubectl port-forward`, over the protocol that `websockets` chooses.
async fn forwarded(server: &Server, pod: &str, websockets: &str) -> anyhow::Result<String> {
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .args(["port-forward", pod, ":8080"])
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let mut line = String::new();
    // It is kept: kubectl ends when nobody reads what it says.
    let mut said = BufReader::new(stdout);
    said.read_line(&mut line).await?;
    // "Forwarding from 127.0.0.1:PORT -> 8080"
    let address = line
        .strip_prefix("Forwarding from ")
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("kubectl said {line:?}"))?
        .parse()?;
    // More than one connection at a time over the one to the server.
    let (first, second) = tokio::join!(
        crate::get(address, "forwarded", "/"),
        crate::get(address, "forwarded", "/")
    );
    let (first, second) = (first?, second?);
    drop(said);
    anyhow::ensure!(first.status == 200 && second.status == 200, "{first:?}");
    Ok(first.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_forwards_ports_over_both_protocols() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let Some(applied) = kubectl(&server, &["apply", "-f", "-"], &hello("fwd", "Forward")).await?
    else {
        return Ok(());
    };
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    let ready = ["wait", "--for=condition=Ready", "ksvc/fwd", "--timeout=60s"];
    let ready = kubectl(&server, &ready, "").await?.context("kubectl")?;
    assert!(ready.status.success(), "{}", text(&ready.stderr));
    let pods = kubectl(&server, &["get", "pods", "-o", "name"], "")
        .await?
        .context("kubectl")?;
    let pods = text(&pods.stdout);
    let pod = pods.lines().next().context("a pod")?;
    for websockets in ["true", "false"] {
        let answer = forwarded(&server, pod, websockets).await?;
        assert!(answer.contains("Forward"), "{websockets}: {answer}");
    }
    Ok(())
}
