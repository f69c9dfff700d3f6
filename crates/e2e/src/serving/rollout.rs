//! New revisions under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Server;
use crate::serving::hello;

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
