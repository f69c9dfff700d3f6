//! Pods with a shell and tools, and kubectl that works on them, in either runtime.

use std::process::Output;

use anyhow::Context;
use tokio::process::Command;

use crate::kubectl::{kubectl, kubectl_with};
use crate::server::{text, with_input};
use crate::{Server, guest};

/// Chooses kubectl's protocol: WebSocket, then SPDY.
pub(crate) const PROTOCOLS: [(&str, &str); 2] = [
    ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true"),
    ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"),
];

/// Containers of a pod: name, script, more of the container.
pub(crate) type Containers = &'static [(&'static str, &'static str, &'static str)];

/// A pod with the machine's shell and tools, which containers see through volumes.
pub(crate) fn pod(name: &str, containers: Containers, oci: bool) -> String {
    let mounts = "volumeMounts: [{name: usr, mountPath: /usr}, {name: lib, mountPath: /lib}, \
         {name: lib64, mountPath: /lib64}, {name: bin, mountPath: /bin}, {name: data, mountPath: /data}]";
    let volumes = "volumes: [{name: usr, hostPath: {path: /usr}}, {name: lib, hostPath: {path: /lib}}, \
         {name: lib64, hostPath: {path: /lib64}}, {name: bin, hostPath: {path: /bin}}, {name: data, emptyDir: {medium: Memory, sizeLimit: 64Mi}}]";
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
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, \
         containers: [{}]{}}}}}\n",
        containers.join(", "),
        if oci {
            format!(", {volumes}")
        } else {
            String::new()
        }
    )
}

/// A server of one runtime with the pod `tools` that runs some containers.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) protocol: (&'static str, &'static str),
}

impl Rig {
    pub(crate) async fn start(oci: bool, containers: Containers) -> anyhow::Result<Option<Self>> {
        let server = if oci {
            let Some(server) = Server::start_with_containers().await? else {
                return Ok(None);
            };
            server
        } else {
            Server::start_with_processes().await?
        };
        guest::add_image(&server).await?;
        let tools = pod("tools", containers, oci);
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

    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let output = kubectl_with(&self.server, &[self.protocol], arguments, input).await?;
        output.context("kubectl was there a moment ago")
    }

    pub(crate) async fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run(arguments, "").await?;
        anyhow::ensure!(
            output.status.success(),
            "kubectl {arguments:?}: {}",
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    pub(crate) async fn shell(&self, script: &str, input: &str) -> anyhow::Result<Output> {
        let words = [
            "exec", "-i", "tools", "-c", "main", "--", "sh", "-c", script,
        ];
        self.run(&words, input).await
    }

    /// kubectl in a terminal of 33 lines and 101 columns, into which `typed` is typed.
    pub(crate) async fn in_terminal(&self, arguments: &str, typed: &str) -> anyhow::Result<String> {
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
