//! New revisions under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Server;
use crate::serving::{hello, hello_with};

#[tokio::test(flavor = "multi_thread")]
async fn five_rollouts_under_load_lose_no_request() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("roll", "0")).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answered, gateway) =
                (Arc::clone(&stop), Arc::clone(&answered), server.gateway);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = crate::get(gateway, "roll.default.localhost", "/").await?;
                    anyhow::ensure!(answer.status == 200, "{answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for version in 1..=5 {
        server.apply(&hello("roll", &version.to_string())).await?;
        let body = server.get("roll", "/").await?.body;
        assert_eq!(
            body,
            format!("Hello {version}!\n"),
            "once Ready, the new revision answers"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    assert!(answered.load(Ordering::Relaxed) > 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_moves_to_a_new_revision_once_it_has_the_pods_of_the_old_one() -> anyhow::Result<()>
{
    let server = Server::start().await?;
    let four = "        autoscaling.knative.dev/min-scale: \"4\"";
    let one_at_a_time = "      containerConcurrency: 1";
    server
        .apply(&hello_with("warm", "0", four, one_at_a_time))
        .await?;
    server
        .eventually("four pods", || async {
            Ok((server.pods("warm").await?.len() == 4).then_some(()))
        })
        .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, gateway) = (Arc::clone(&stop), server.gateway);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let path = "/sleep?ms=100";
                    let answer = crate::get(gateway, "warm.default.localhost", path).await?;
                    anyhow::ensure!(answer.status == 200, "{answer:?}");
                }
                anyhow::Ok(())
            })
        })
        .collect();
    // The new one asks for no pods itself.
    let newer = hello_with("warm", "1", "", one_at_a_time);
    let output = server.try_apply(&newer);
    let moved = server.eventually("traffic of the new revision", || async {
        let service = server.object(&["ksvc", "warm"]).await?;
        let traffic = &service["status"]["traffic"][0];
        if traffic["revisionName"] != "warm-00002" {
            return Ok(None);
        }
        let pods = server.pods("warm").await?;
        let is_new = |pod: &&serde_json::Value| {
            pod["metadata"]["labels"]["serving.knative.dev/revision"] == "warm-00002"
                && pod["status"]["conditions"].as_array().is_some_and(|all| {
                    all.iter()
                        .any(|it| it["type"] == "Ready" && it["status"] == "True")
                })
        };
        Ok(Some(pods.iter().filter(is_new).count()))
    });
    let (output, ready) = tokio::join!(output, moved);
    assert!(output?.status.success());
    assert!(ready? >= 4, "as many as the revision before");
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    Ok(())
}
