//! `kill -9` and start again.

use crate::Server;
use crate::serving::hello;

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_every_acknowledged_object_is_there_and_services_are_served()
-> anyhow::Result<()> {
    let mut server = Server::start().await?;
    server.apply(&hello("kept", "Kept")).await?;
    for round in 0..3 {
        let name = format!("note-{round}");
        let map = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  round: \"{round}\"\n"
        );
        server.apply(&map).await?;
        let data = server.kill().await?;
        server = Server::start_again(data).await?;
        for earlier in 0..=round {
            let map = server
                .object(&["configmap", &format!("note-{earlier}")])
                .await?;
            assert_eq!(map["data"]["round"], earlier.to_string());
        }
        let answer = server.get("kept", "/").await?;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "Hello Kept!\n")
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_directory_is_refused() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let again = server
        .suimon(&[
            "up",
            "--http-port",
            "0",
            "--api-port",
            "0",
            "--local-port",
            "0",
            "--https-port",
            "0",
        ])
        .await?;
    assert!(!again.status.success());
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("in use by another"), "{said}");
    Ok(())
}
