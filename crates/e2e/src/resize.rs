//! `pods/resize`: a running container gets other limits.

use serde_json::json;

use crate::Server;
use crate::guest;
use crate::kubectl::kubectl;
use crate::server::text;

fn pod() -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: growing}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: {}, imagePullPolicy: Never,
    command: [/bin/sh, -c, \"while true; do sleep 1; done\"],
    resources: {{requests: {{memory: 32Mi, cpu: 100m}}, limits: {{memory: 64Mi, cpu: 500m}}}}}}]
",
        guest::IMAGE
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_gets_the_limits_of_a_resize_without_a_restart() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    let Some(applied) = kubectl(&server, &["apply", "-f", "-"], &pod()).await? else {
        return Ok(());
    };
    anyhow::ensure!(applied.status.success(), "{}", text(&applied.stderr));
    let limit = async |wanted: &str| {
        server
            .eventually(&format!("a limit of {wanted}"), || async {
                let pod = server.object(&["pod", "growing"]).await?;
                let status = &pod["status"]["containerStatuses"][0];
                let has = status["ready"] == true
                    && status["resources"]["limits"]["memory"] == wanted
                    && status["restartCount"] == 0;
                Ok(has.then_some(()))
            })
            .await
    };
    limit("64Mi").await?;
    let change = |memory: &str| {
        let limits = json!({ "memory": memory });
        json!({ "spec": { "containers": [{ "name": "c", "resources": { "limits": limits } }] } })
            .to_string()
    };
    let patch = async |more: &[&str], memory: &str| -> anyhow::Result<(bool, String)> {
        let change = change(memory);
        let words = [&["patch", "pod", "growing", "-p", &*change], more].concat();
        let output = kubectl(&server, &words, "").await?;
        let output = anyhow::Context::context(output, "kubectl was there before")?;
        Ok((output.status.success(), text(&output.stderr)))
    };
    let (done, said) = patch(&[], "96Mi").await?;
    assert!(!done && said.contains("resize"), "{said}");
    let (done, said) = patch(&["--subresource", "resize"], "96Mi").await?;
    assert!(done, "{said}");
    limit("96Mi").await?;
    // What the container itself sees; version 1 or 2 of control groups.
    let read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    let words = ["exec", "growing", "--", "/bin/sh", "-c", read];
    let seen = kubectl(&server, &words, "").await?;
    let seen = anyhow::Context::context(seen, "kubectl was there before")?;
    let (out, error) = (text(&seen.stdout), text(&seen.stderr));
    assert_eq!(out.trim(), (96 << 20).to_string(), "{error}");
    let pending = async |wanted: Option<&str>| {
        server
            .eventually(&format!("{wanted:?} as the pending resize"), || async {
                let pod = server.object(&["pod", "growing"]).await?;
                let conditions = pod["status"]["conditions"].as_array();
                let found = conditions.into_iter().flatten();
                let found = found.filter(|one| one["type"] == "PodResizePending");
                let reasons: Vec<_> = found.map(|one| one["reason"].as_str()).collect();
                let expected: Vec<_> = wanted.into_iter().map(Some).collect();
                let runs = pod["status"]["containerStatuses"][0]["restartCount"] == 0;
                Ok((runs && reasons == expected).then_some(()))
            })
            .await
    };
    let processors = async |cpu: &str| {
        let resources = json!({ "requests": { "cpu": cpu }, "limits": { "cpu": cpu } });
        let change = json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } });
        let change = change.to_string();
        let words = [
            "patch",
            "pod",
            "growing",
            "--subresource",
            "resize",
            "-p",
            &change,
        ];
        let output = kubectl(&server, &words, "").await?;
        let output = anyhow::Context::context(output, "kubectl was there before")?;
        anyhow::ensure!(output.status.success(), "{}", text(&output.stderr));
        anyhow::Ok(())
    };
    processors("100000").await?;
    pending(Some("Infeasible")).await?;
    processors("200m").await?;
    pending(None).await?;
    Ok(())
}
