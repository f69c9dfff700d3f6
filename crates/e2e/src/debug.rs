//! `kubectl debug` in both runtimes, and the pages of the node and the server that people look at
//! when something is wrong.

use crate::guest;
use crate::server::text;
use crate::tools::{Containers, Rig};

const ONE: Containers = &[(
    "main",
    "trap 'exit 0' TERM; while :; do sleep 0.2; done",
    "",
)];

/// The flags that all calls share: the image is in the store.
fn debug<'a>(what: &'a str, more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let image = ["debug", what, "--image", guest::IMAGE];
    let shell = ["--image-pull-policy=Never", "--", "/bin/sh", "-c", script];
    // What comes after `--` is the command.
    [&image[..], more, &shell].concat()
}

async fn said(rig: &Rig, pod: &str, container: &str, words: &str) -> anyhow::Result<String> {
    let what = format!("{container} says {words}");
    rig.server
        .eventually(&what, || async {
            let logs = rig.run(&["logs", pod, "-c", container], "").await?;
            let logs = text(&logs.stdout);
            Ok(logs.contains(words).then_some(logs))
        })
        .await
}

async fn a_running_pod_is_looked_at(oci: bool) -> anyhow::Result<()> {
    let Some(rig) = Rig::start(oci, ONE).await? else {
        return Ok(());
    };
    let flags = ["--container=look", "--target=main", "--attach=false"];
    let script = "echo seen; while :; do sleep 0.2; done";
    rig.ok(&debug("tools", &flags, script)).await?;
    said(&rig, "tools", "look", "seen").await?;
    let inside = ["exec", "tools", "-c", "look", "--", "/bin/sh", "-c"];
    let found = rig.ok(&[&inside[..], &["echo in"]].concat()).await?;
    assert_eq!(found, "in\n");
    if oci {
        // Process 1 of what it sees is the target's.
        let first = rig
            .ok(&[&inside[..], &["tr '\\0' ' ' < /proc/1/cmdline"]].concat())
            .await?;
        assert!(first.contains("trap"), "{first}");
    }
    // Input and output of one that is attached to.
    let talk = debug(
        "tools",
        &["--container=talk", "-i"],
        "read line; echo got $line",
    );
    let talked = rig.run(&talk, "words\n").await?;
    let output = text(&talked.stdout);
    assert!(output.contains("got words"), "{talked:?}");
    rig.server
        .eventually("the one has ended and the other runs on", || async {
            let pod = rig.server.object(&["pod", "tools"]).await?;
            let status = &pod["status"];
            let known = &status["ephemeralContainerStatuses"];
            let runs = known[0]["state"]["running"].is_object();
            let ended = known[1]["state"]["terminated"]["exitCode"] == 0;
            let whole =
                status["phase"] == "Running" && status["containerStatuses"][0]["ready"] == true;
            Ok((runs && ended && whole && known[1]["restartCount"] == 0).then_some(()))
        })
        .await?;
    rig.ok(&["delete", "pod", "tools", "--timeout=30s"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_of_processes_is_looked_at_with_kubectl_debug() -> anyhow::Result<()> {
    a_running_pod_is_looked_at(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_of_containers_is_looked_at_with_kubectl_debug() -> anyhow::Result<()> {
    a_running_pod_is_looked_at(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_pod_shares_its_processes_and_a_node_shows_the_machine() -> anyhow::Result<()> {
    let Some(rig) = Rig::start(true, ONE).await? else {
        return Ok(());
    };
    // Which profile is the default, and whether it shares processes, depends on the client.
    let flags = [
        "--copy-to=twin",
        "--share-processes",
        "--container=look",
        "--attach=false",
    ];
    // (The brackets keep it from finding itself.)
    let script = "until cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q '[e]xit 0'; \
        do sleep 0.2; done; echo found";
    rig.ok(&debug("tools", &flags, script)).await?;
    said(&rig, "twin", "look", "found").await?;
    // What holds the shared processes has nothing that a container could take from it.
    let script = "tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/status";
    let inside = ["exec", "twin", "-c", "main", "--", "/bin/sh", "-c", script];
    let first = rig.ok(&inside).await?;
    let nobody = ["65535"; 4].join("\t");
    for line in [
        format!("Uid:\t{nobody}"),
        "CapPrm:\t0000000000000000".to_owned(),
        "CapBnd:\t0000000000000000".to_owned(),
    ] {
        let has = first.lines().any(|found| found == line);
        assert!(first.starts_with("pause ") && has, "{line} in {first}");
    }
    let script =
        "echo the machine is $(cat /host/proc/sys/kernel/ostype), first is $(cat /proc/1/comm)";
    let made = rig
        .ok(&debug("node/suimon", &["--attach=false"], script))
        .await?;
    let pod = made
        .split_whitespace()
        .find(|word| word.starts_with("node-debugger-"))
        .unwrap_or_default();
    let logs = said(&rig, pod, "debugger", "the machine is Linux").await?;
    let first = std::fs::read_to_string("/proc/1/comm")?;
    assert!(
        logs.contains(&format!("first is {}", first.trim())),
        "{logs}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_a_kubelets_pages() -> anyhow::Result<()> {
    let Some(rig) = Rig::start(false, ONE).await? else {
        return Ok(());
    };
    let page = async |path: &str| {
        rig.ok(&[
            "get",
            "--raw",
            &format!("/api/v1/nodes/suimon/proxy/{path}"),
        ])
        .await
    };
    assert_eq!(page("healthz").await?, "ok");
    let pods: serde_json::Value = serde_json::from_str(&page("pods").await?)?;
    assert_eq!(pods["items"][0]["metadata"]["name"], "tools");
    assert!(page("metrics").await?.contains("kubelet_running_pods 1"));
    let used = "pod_memory_working_set_bytes{namespace=\"default\",pod=\"tools\"}";
    assert!(page("metrics/resource").await?.contains(used));
    let summary: serde_json::Value = serde_json::from_str(&page("stats/summary").await?)?;
    assert_eq!(summary["pods"][0]["podRef"]["name"], "tools");
    assert!(page("logs/pods/").await?.contains("default_tools_"));
    let refused = rig
        .run(&["get", "--raw", "/api/v1/nodes/suimon/proxy/spec"], "")
        .await?;
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("has no page"),
        "{refused:?}"
    );
    let metrics = rig.ok(&["get", "--raw", "/metrics"]).await?;
    assert!(metrics.contains("apiserver_request_total{"), "{metrics}");
    Ok(())
}
