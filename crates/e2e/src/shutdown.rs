//! Ctrl-C drains.

use crate::Server;
use crate::serving::hello;

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_finishes_requests_in_flight_stops_pods_and_exits_with_0() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("slow", "Slow")).await?;
    assert_eq!(server.get("slow", "/").await?.status, 200);
    let gateway = server.gateway;
    let request = tokio::spawn(async move {
        crate::get(gateway, "slow.default.localhost", "/sleep?ms=1500").await
    });
    server
        .eventually("the request is in flight", || async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            Ok(Some(()))
        })
        .await?;
    server.interrupt().await?;
    let answer = request.await??;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "Hello Slow!\n")
    );
    let (code, said) = server.ended().await?;
    assert_eq!(code, Some(0), "{said}");
    Ok(())
}
