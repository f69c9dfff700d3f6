//! The real kubectl against the API server.

use std::process::Output;

use tokio::process::Command;

use crate::Server;
use crate::server::{text, with_input};
use crate::serving::hello;

/// `None`, loudly, where kubectl is not installed.
async fn kubectl(
    server: &Server,
    arguments: &[&str],
    input: &str,
) -> anyhow::Result<Option<Output>> {
    let mut command = Command::new("kubectl");
    command
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
