//! Commands in running containers through the real kubectl, in both runtimes and over both
//! protocols: exec, attach, cp.

use std::path::Path;

use anyhow::Context;

use crate::guest;
use crate::kubectl::kubectl;
use crate::server::text;
use crate::tools::{Containers, PROTOCOLS, Rig, pod};

/// Containers of one pod: name, script, more of the container.
const CONTAINERS: Containers = &[
    (
        "main",
        "trap 'exit 0' TERM; while :; do sleep 0.2; done",
        "",
    ),
    (
        "reader",
        "while read -r line; do echo \"got $line\"; done; echo end",
        "stdin: true, stdinOnce: true",
    ),
    (
        "term",
        "while read -r line; do eval \"$line\"; done",
        "stdin: true, tty: true",
    ),
];

async fn streams_and_exit_codes(rig: &Rig) -> anyhow::Result<()> {
    let both = rig.shell("echo out; echo err >&2; exit 7", "").await?;
    assert_eq!(both.status.code(), Some(7), "{both:?}");
    assert_eq!(text(&both.stdout), "out\n");
    assert_eq!(
        without_early_message(&text(&both.stderr)),
        "err\ncommand terminated with exit code 7\n"
    );
    let without_input = ["exec", "tools", "-c", "main", "--", "cat"];
    assert_eq!(rig.ok(&without_input).await?, "", "the input is empty");
    let killed = rig.shell("kill -9 $$", "").await?;
    assert_eq!(killed.status.code(), Some(137), "{killed:?}");
    // More than all buffers hold, both ways; the end of the input is passed on.
    let long = "0123456789".repeat(200_000);
    let counted = rig.shell("wc -c", &long).await?;
    assert_eq!(text(&counted.stdout).trim(), "2000000");
    let echoed = rig.shell("cat", &long).await?;
    assert!(text(&echoed.stdout) == long, "the same bytes come back");
    Ok(())
}

/// Without the line in which kubectl 1.30 to 1.33 tells that the server's first, empty message came
/// before it was ready. It does on a machine that is busy enough.
fn without_early_message(output: &str) -> String {
    let early = |line: &&str| !line.contains("Unknown stream id 1, discarding message");
    output.split_inclusive('\n').filter(early).collect()
}

async fn refusals(rig: &Rig) -> anyhow::Result<()> {
    let cases = [
        (["tools", "main", "no-such-command"], "no-such-command"),
        (
            ["tools", "nobody", "true"],
            "container nobody is not valid for pod tools",
        ),
        (["absent", "main", "true"], "pods \"absent\" not found"),
        (
            ["waiting", "main", "true"],
            "container not found (\"main\")",
        ),
    ];
    for ([pod, container, command], expected) in cases {
        let refused = rig
            .run(&["exec", pod, "-c", container, "--", command], "")
            .await?;
        let said = text(&refused.stderr);
        assert!(!refused.status.success(), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    Ok(())
}

async fn terminals(rig: &Rig) -> anyhow::Result<()> {
    // The size may arrive after the program has begun.
    let script = "until [ \"$(stty size)\" = \"33 101\" ]; do :; done; test -t 1 && echo sized";
    let said = rig
        .in_terminal(
            &format!("exec -it tools -c main -- sh -c '{script}; read -r word; echo \"<$word>\"'"),
            "typed\n",
        )
        .await?;
    assert!(
        said.contains("sized\r\n") && said.contains("<typed>"),
        "{said}"
    );
    Ok(())
}

/// Ends the containers that it attaches to, so it runs once per pod.
async fn attached(rig: &Rig) -> anyhow::Result<()> {
    let read = rig
        .run(&["attach", "-i", "tools", "-c", "reader"], "one\ntwo\n")
        .await?;
    let said = text(&read.stdout);
    assert!(read.status.success(), "{}", text(&read.stderr));
    assert!(said.contains("got one\ngot two\nend\n"), "{said}");
    let typed = "until [ \"$(stty size)\" = \"33 101\" ]; do :; done; echo sized; exit\n";
    let said = rig.in_terminal("attach -it tools -c term", typed).await?;
    assert!(said.contains("sized\r\n"), "{said}");
    let logs = rig
        .ok(&["logs", "tools", "-c", "reader", "--previous"])
        .await;
    let logs = match logs {
        Ok(logs) => logs,
        // It may still be waiting to be started again: then its last run is the newest.
        Err(_) => rig.ok(&["logs", "tools", "-c", "reader"]).await?,
    };
    assert!(
        logs.contains("got two"),
        "attaching takes nothing from the log: {logs}"
    );
    Ok(())
}

async fn copies(rig: &Rig, inside: &Path) -> anyhow::Result<()> {
    let here = tempfile::tempdir()?;
    let tree = here.path().join("tree");
    std::fs::create_dir_all(tree.join("deep"))?;
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(tree.join("deep/bytes"), &bytes)?;
    let (inside, tree) = (inside.display().to_string(), tree.display().to_string());
    let back = here.path().join("back").display().to_string();
    let there = format!("tools:{inside}/copy");
    rig.ok(&["cp", "-c", "main", &tree, &there]).await?;
    rig.ok(&["cp", "-c", "main", &there, &back]).await?;
    assert!(std::fs::read(here.path().join("back/deep/bytes"))? == bytes);
    rig.shell(&format!("rm -r {inside}/copy"), "").await?;
    Ok(())
}

async fn everything(oci: bool) -> anyhow::Result<()> {
    let Some(mut rig) = Rig::start(oci, CONTAINERS).await? else {
        return Ok(());
    };
    let waiting = pod("waiting", &CONTAINERS[..1], oci).replace(guest::IMAGE, "example.com/none");
    let made = kubectl(&rig.server, &["apply", "-f", "-"], &waiting).await?;
    assert!(made.is_some_and(|made| made.status.success()));
    let outside = tempfile::tempdir()?;
    let inside = if oci {
        Path::new("/data")
    } else {
        outside.path()
    };
    for protocol in PROTOCOLS {
        rig.protocol = protocol;
        let check = async {
            streams_and_exit_codes(&rig).await?;
            refusals(&rig).await?;
            terminals(&rig).await?;
            copies(&rig, inside).await?;
            attached(&rig).await
        };
        Box::pin(check)
            .await
            .with_context(|| format!("{protocol:?}"))?;
        // The containers that were attached to have ended and come back.
        let again = [
            "wait",
            "--for=condition=Ready",
            "pod/tools",
            "--timeout=60s",
        ];
        rig.server
            .eventually("the pod is whole again", || async {
                let pod = rig.server.object(&["pod", "tools"]).await?;
                let statuses = pod["status"]["containerStatuses"].as_array();
                let running = statuses
                    .into_iter()
                    .flatten()
                    .all(|status| !status["state"]["running"].is_null());
                Ok(running.then_some(()))
            })
            .await?;
        rig.ok(&again).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_programs_of_the_machine() -> anyhow::Result<()> {
    everything(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_containers() -> anyhow::Result<()> {
    everything(true).await
}
