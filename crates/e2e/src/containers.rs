//! What a container is given: volumes, probes.

use crate::server::text;
use crate::{Server, guest};

const OBJECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, nested: deep}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
";

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_config_maps_are_files_and_variables() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    let container = "volumeMounts: [{name: conf, mountPath: /etc/conf, readOnly: true}, \
                      {name: keys, mountPath: /etc/keys, readOnly: true}], \
                     env: [{name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}], \
                     envFrom: [{prefix: KEY_, secretRef: {name: keys}}]";
    let volumes = "volumes: [{name: conf, configMap: {name: settings, items: [{key: colour, path: a/colour}]}}, \
                    {name: keys, secret: {secretName: keys, defaultMode: 256}}]";
    server
        .apply(&format!(
            "{OBJECTS}{}",
            guest::service("files", container, volumes)
        ))
        .await?;
    let cases = [
        ("/file/etc/conf/a/colour", 200, "blue"),
        ("/file/etc/keys/token", 200, "s3cret"),
        ("/mode/etc/keys/token", 200, "400"),
        ("/env/COLOUR", 200, "blue"),
        ("/env/KEY_token", 200, "s3cret"),
    ];
    for (path, status, body) in cases {
        let answer = server.get("files", path).await?;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{path}"
        );
    }
    let absent = server.get("files", "/file/etc/conf/nested").await?;
    assert_eq!(absent.status, 404, "only the items asked for: {absent:?}");
    let write = server.get("files", "/write/etc/conf/mine").await?;
    assert_eq!(write.status, 403, "the mount is read-only: {write:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_secret_is_named_and_the_service_recovers_when_it_is_there() -> anyhow::Result<()>
{
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    let mount = "volumeMounts: [{name: keys, mountPath: /etc/keys, readOnly: true}]";
    let volume = "volumes: [{name: keys, secret: {secretName: keys}}]";
    let refused = server
        .try_apply(&guest::service("late", mount, volume))
        .await?;
    assert!(!refused.status.success(), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("secret \"keys\" not found"), "{said}");
    let made = server.try_apply(OBJECTS).await?;
    assert!(made.status.success(), "{made:?}");
    server
        .eventually("the Service is Ready", || async {
            let service = server.object(&["ksvc", "late"]).await?;
            let ready = service["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            Ok(ready.then_some(()))
        })
        .await?;
    let token = server.get("late", "/file/etc/keys/token").await?;
    assert_eq!(token.body, "s3cret");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_and_grpc_probes_decide_readiness_inside_containers() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    let grpc = "ports: [{name: h2c, containerPort: 8080}], readinessProbe: {grpc: {port: 8080}}";
    server.apply(&guest::service("grpc", grpc, "")).await?;
    let exec = "readinessProbe: {exec: {command: [/guest, exists, /proc/self/exe]}}";
    server.apply(&guest::service("exec", exec, "")).await?;
    assert_eq!(server.get("exec", "/").await?.status, 200);
    let never = "readinessProbe: {exec: {command: [/guest, exists, /absent]}, periodSeconds: 1}";
    let refused = server
        .try_apply(&guest::service("never", never, "").replace(
            "template: {",
            "template: {metadata: {annotations: {serving.knative.dev/progress-deadline: 10s}}, ",
        ))
        .await?;
    assert!(
        !refused.status.success(),
        "a failing probe must not be Ready"
    );
    let pods = server.pods("never").await?;
    for pod in &pods {
        assert_eq!(
            pod["status"]["containerStatuses"][0]["ready"], false,
            "{pod}"
        );
    }
    Ok(())
}
