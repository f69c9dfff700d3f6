//! Commands in running containers through the real kubectl, in both runtimes and over both
//! protocols: exec, attach, cp.

use std::path::Path;
use std::process::Output;

use anyhow::Context;
use tokio::process::Command;

use crate::kubectl::{kubectl, kubectl_with};
use crate::server::{text, with_input};
use crate::{Server, guest};

/// Chooses kubectl's protocol: WebSocket, then SPDY.
const PROTOCOLS: [(&str, &str); 2] = [
    ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true"),
    ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
];

/// Containers of one pod: name, script, more of the container.
const CONTAINERS: &[(&str, &str, &str)] = &[
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

/// A pod with the machine's shell and tools, which containers see through volumes.
fn pod(name: &str, containers: &[(&str, &str, &str)], oci: bool) -> String {
    let mounts = "volumeMounts: [{name: usr, mountPath: /usr}, {name: lib, mountPath: /lib}, \
         {name: lib64, mountPath: /lib64}, {name: bin, mountPath: /bin}, {name: data, mountPath: /data}]";
    let volumes = "volumes: [{name: usr, hostPath: {path: /usr}}, {name: lib, hostPath: {path: /lib}}, \
         {name: lib64, hostPath: {path: /lib64}}, {name: bin, hostPath: {path: /bin}}, {name: data, emptyDir: {}}]";
    let container = |(name, script, more): &(&str, &str, &str)| {
        let script = serde_json::Value::from(*script);
        let more = [*more, if oci { mounts } else { "" }]
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| format!(", {part}"))
            .collect::<String>();
        format!(
            "{{name: {name}, image: {}, imagePullPolicy: Never, command: [/bin/sh, -c, {script}]{more}}}",
            guest::IMAGE
        )
    };
    let containers = containers.iter().map(container).collect::<Vec<_>>();
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, \
         containers: [{}]{}}}}}\n",
        containers.join(", "),
        if oci {
            format!(", {volumes}")
        } else {
            String::new()
        }
    )
}

/// A server of one runtime with the pod `tools` that runs [`CONTAINERS`].
struct Rig {
    server: Server,
    protocol: (&'static str, &'static str),
}

impl Rig {
    async fn start(oci: bool) -> anyhow::Result<Option<Self>> {
        let server = if oci {
            let Some(server) = Server::start_with_containers().await? else {
                return Ok(None);
            };
            server
        } else {
            Server::start_with_processes().await?
        };
        guest::add_image(&server).await?;
        let tools = pod("tools", CONTAINERS, oci);
        let Some(applied) = kubectl(&server, &["apply", "-f", "-"], &tools).await? else {
            return Ok(None);
        };
        anyhow::ensure!(applied.status.success(), "{}", text(&applied.stderr));
        let rig = Self {
            server,
            protocol: PROTOCOLS[0],
        };
        rig.ok(&[
            "wait",
            "--for=condition=Ready",
            "pod/tools",
            "--timeout=60s",
        ])
        .await?;
        Ok(Some(rig))
    }

    async fn run(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let output = kubectl_with(&self.server, &[self.protocol], arguments, input).await?;
        output.context("kubectl was there a moment ago")
    }

    async fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments, "").await?;
        anyhow::ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    async fn shell(&self, script: &str, input: &str) -> anyhow::Result<Output> {
        let words = [
            "exec", "-i", "tools", "-c", "main", "--", "sh", "-c", script,
        ];
        self.run(&words, input).await
    }

    /// kubectl in a terminal of 33 lines and 101 columns, into which `typed` is typed.
    async fn in_terminal(&self, arguments: &str, typed: &str) -> anyhow::Result<String> {
        let mut command = Command::new("script");
        let kubectl = format!(
            "stty rows 33 cols 101; kubectl --kubeconfig {} {arguments}",
            self.server.kubeconfig().display()
        );
        command
            .env(self.protocol.0, self.protocol.1)
            .args(["-qec", &kubectl, "/dev/null"]);
        let output = with_input(command, typed).await?;
        let said = text(&output.stdout);
        anyhow::ensure!(output.status.success(), "{arguments}: {said}");
        Ok(said)
    }
}

async fn streams_and_exit_codes(rig: &Rig) -> anyhow::Result<()> {
    let both = rig.shell("echo out; echo err >&2; exit 7", "").await?;
    assert_eq!(both.status.code(), Some(7), "{both:?}");
    assert_eq!(text(&both.stdout), "out\n");
    assert_eq!(
        text(&both.stderr),
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
    let Some(mut rig) = Rig::start(oci).await? else {
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
