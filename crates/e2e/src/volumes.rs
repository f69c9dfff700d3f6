//! Claims: volumes that outlive their pods and go with their claim.

use crate::Server;
use crate::guest;
use crate::kubectl::kubectl;
use crate::server::text;

const CLAIM: &str = "apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

fn pod(name: &str, script: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers: [{{name: c, image: {}, imagePullPolicy: Never, command: [/bin/sh, -c, \"{script}\"],
    volumeMounts: [{{name: data, mountPath: /data}}]}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
",
        guest::IMAGE
    )
}

async fn phase(server: &Server, object: [&str; 2], wanted: &str) -> anyhow::Result<()> {
    let what = format!("{object:?} is {wanted}");
    server
        .eventually(&what, || async {
            let found = server.object(&object).await?;
            Ok((found["status"]["phase"] == wanted).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_writes_to_its_claim_is_there_for_the_next_one() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    let run = async |arguments: &[&str], input: &str| -> anyhow::Result<Option<String>> {
        let Some(output) = kubectl(&server, arguments, input).await? else {
            return Ok(None);
        };
        anyhow::ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(Some(text(&output.stdout)))
    };
    let apply = ["apply", "-f", "-"];
    if run(&apply, CLAIM).await?.is_none() {
        return Ok(());
    }
    phase(&server, ["pvc", "data"], "Pending").await?;
    run(&apply, &pod("writer", "echo kept > /data/file")).await?;
    phase(&server, ["pod", "writer"], "Succeeded").await?;
    phase(&server, ["pvc", "data"], "Bound").await?;
    run(&["delete", "pod", "writer"], "").await?;
    run(&apply, &pod("reader", "grep kept /data/file")).await?;
    phase(&server, ["pod", "reader"], "Succeeded").await?;
    let volumes = server.data_dir().join("volumes");
    assert_eq!(std::fs::read_dir(&volumes)?.count(), 1);
    run(&["delete", "pod", "reader"], "").await?;
    run(&["delete", "pvc", "data", "--timeout=30s"], "").await?;
    server
        .eventually("the volume goes with its claim", || async {
            Ok((std::fs::read_dir(&volumes)?.count() == 0).then_some(()))
        })
        .await
}
