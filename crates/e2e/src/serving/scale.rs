//! To zero, from zero, up with load and down again, without losing a request.

use std::time::Duration;

use crate::serving::{NO_GRACE, hello, hello_with};
use crate::{Server, http};

const SHORT_WINDOW: &str = "        autoscaling.knative.dev/window: \"6s\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_becomes_ready_and_its_url_answers() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let url = server.apply(&hello("hello", "World")).await?;
    assert_eq!(
        url,
        format!("http://hello.default.localhost:{}", server.gateway.port())
    );
    let answer = server.get("hello", "/").await?;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "Hello World!\n")
    );
    assert_eq!(server.get("stranger", "/").await?.status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_stops_every_pod_and_the_next_request_starts_one() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server
        .apply(&(hello_with("sleepy", "Zero", SHORT_WINDOW, "") + NO_GRACE))
        .await?;
    assert_eq!(server.get("sleepy", "/").await?.status, 200);
    server
        .eventually("no pod", || async {
            Ok(server.pods("sleepy").await?.is_empty().then_some(()))
        })
        .await?;
    let ready = server.object(&["ksvc", "sleepy"]).await?;
    assert_eq!(
        ready["status"]["conditions"][1]["status"], "True",
        "a sleeping Service stays Ready: {ready}"
    );
    let answer = server.get("sleepy", "/").await?;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "Hello Zero!\n")
    );
    // The last step may be told a moment after the answer.
    server
        .eventually("the wake is told step by step", || async {
            let metrics = http::get(server.admin, "admin", "/metrics").await?.body;
            let steps = [
                "queue",
                "decide",
                "create",
                "start",
                "ready",
                "open",
                "first_byte",
                "all",
            ];
            let is_told = steps.iter().all(|step| {
                let name = "suimon_cold_start_duration_seconds_count";
                metrics.contains(&format!("{name}{{step=\"{step}\"}} 1\n"))
            });
            Ok(is_told.then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_services_own_minimum_is_shared_by_the_traffic_of_its_revisions() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let with_minimum = |name: &str, min: &str| {
        let metadata = format!(
            "metadata:\n  name: floor\n  annotations:\n    autoscaling.suimon.dev/min-scale: \"{min}\""
        );
        hello_with("floor", name, SHORT_WINDOW, "").replacen(
            "metadata:\n  name: floor",
            &metadata,
            1,
        )
    };
    let pods_of = async |revision: &str| -> anyhow::Result<usize> {
        let pods = server.pods("floor").await?;
        let of = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["serving.knative.dev/revision"] == revision);
        Ok(of.count())
    };
    server.apply(&(with_minimum("A", "2") + NO_GRACE)).await?;
    server
        .eventually("two pods", || async {
            Ok((pods_of("floor-00001").await? == 2).then_some(()))
        })
        .await?;
    // The newer one is ready with both, and the older one may go.
    server.apply(&with_minimum("B", "2")).await?;
    assert_eq!(pods_of("floor-00002").await?, 2);
    server
        .eventually("none of the older one", || async {
            Ok((pods_of("floor-00001").await? == 0).then_some(()))
        })
        .await?;
    let split = "  traffic:
  - {revisionName: floor-00001, percent: 50}
  - {revisionName: floor-00002, percent: 50}
";
    server.apply(&(with_minimum("B", "4") + split)).await?;
    server
        .eventually("two of each", || async {
            let pods = (pods_of("floor-00001").await?, pods_of("floor-00002").await?);
            Ok((pods == (2, 2)).then_some(()))
        })
        .await?;
    let refused = server.try_apply(&with_minimum("B", "few")).await?;
    assert!(!refused.status.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_raise_the_pods_and_none_is_lost() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let one_at_a_time = "      containerConcurrency: 1";
    server
        .apply(&(hello_with("busy", "Load", SHORT_WINDOW, one_at_a_time) + NO_GRACE))
        .await?;
    let host = "busy.default.localhost";
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let gateway = server.gateway;
            tokio::spawn(async move {
                for _ in 0..12 {
                    let answer = crate::get(gateway, host, "/sleep?ms=500").await?;
                    anyhow::ensure!(answer.status == 200, "{answer:?}");
                }
                anyhow::Ok(())
            })
        })
        .collect();
    let raised = server
        .eventually("several pods", || async {
            let pods = server.pods("busy").await?.len();
            Ok((pods >= 3).then_some(pods))
        })
        .await?;
    assert!(raised >= 3);
    for client in clients {
        client.await??;
    }
    server
        .eventually("fewer pods", || async {
            Ok((server.pods("busy").await?.len() < raised).then_some(()))
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_shrinks_gives_up_its_idle_pods_first() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let one_at_a_time = "      containerConcurrency: 1";
    server
        .apply(&(hello_with("choosy", "Idle", SHORT_WINDOW, one_at_a_time) + NO_GRACE))
        .await?;
    let (gateway, host) = (server.gateway, "choosy.default.localhost");
    let ask = |path: &'static str| tokio::spawn(crate::get(gateway, host, path));
    let burst: Vec<_> = (0..5).map(|_| ask("/sleep?ms=3000")).collect();
    server
        .eventually("five pods", || async {
            Ok((server.pods("choosy").await?.len() >= 5).then_some(()))
        })
        .await?;
    let long = ask("/sleep?ms=30000");
    for request in burst {
        assert_eq!(request.await??.status, 200);
    }
    // One request is for two pods at the usual 70 %. Those on their way out count, too: a busy one
    // would stay until its request has ended.
    let selector = "serving.knative.dev/service=choosy";
    server
        .eventually("two pods", || async {
            let list = server.object(&["pods", "-l", selector]).await?;
            let pods = list["items"].as_array().map_or(0, Vec::len);
            Ok((pods == 2).then_some(()))
        })
        .await?;
    assert!(!long.is_finished(), "the busy one is among those that stay");
    assert_eq!(long.await??.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_burst_on_a_sleeping_service_is_answered() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let born_asleep = "        autoscaling.knative.dev/window: \"6s\"\n        autoscaling.knative.dev/max-scale: \"2\"";
    server
        .apply(&(hello_with("burst", "All", born_asleep, "") + NO_GRACE))
        .await?;
    server
        .eventually("no pod", || async {
            Ok(server.pods("burst").await?.is_empty().then_some(()))
        })
        .await?;
    let gateway = server.gateway;
    let clients: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn(async move { crate::get(gateway, "burst.default.localhost", "/").await })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await??.status, 200);
    }
    assert!(server.pods("burst").await?.len() <= 2, "max-scale holds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_deployed_as_a_program_answers() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let exe = std::env::var("SUIMON_BIN").map_or_else(
        |_| std::env::current_exe().map(|exe| exe.with_file_name("../suimon")),
        |path| Ok(path.into()),
    )?;
    let program = exe.canonicalize()?.display().to_string();
    let output = server
        .suimon(&[
            "deploy",
            "tool",
            "--env",
            "TARGET=Tool",
            "--",
            &program,
            "__sample-hello",
        ])
        .await?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(server.get("tool", "/").await?.body, "Hello Tool!\n");
    let logs = server.suimon(&["logs", "tool"]).await?;
    assert!(
        String::from_utf8_lossy(&logs.stdout).contains("listening on port"),
        "{logs:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_of_the_autoscaler_are_refused_and_the_old_ones_kept() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let refused = server.try_apply(&NO_GRACE.replace("1s", "soon")).await?;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("scale-to-zero-grace-period"), "{said}");
    server.apply(&hello("fine", "Fine")).await?;
    tokio::time::timeout(Duration::from_secs(60), server.get("fine", "/")).await??;
    Ok(())
}
