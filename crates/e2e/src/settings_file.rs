//! What the settings file says of the gateway, as clients notice it.

use std::io::Write as _;

use tempfile::NamedTempFile;
use testkit::noise;

use crate::serving::hello;
use crate::{Server, get, get_with};

const HOST: &str = "hello.default.localhost";

async fn start(settings: &str, flags: &[&str]) -> anyhow::Result<(Server, NamedTempFile)> {
    let mut file = NamedTempFile::new()?;
    file.write_all(settings.as_bytes())?;
    let path = file.path().display().to_string();
    let server = Server::start_with(&[&["--config", &path], flags].concat()).await?;
    Ok((server, file))
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_settings_file_are_in_force() -> anyhow::Result<()> {
    let settings = "limits:\n  head-bytes: 2048\n  head-fields: 20\n  requests: 2\n";
    let (server, _file) = start(settings, &["--gateway-threads", "1"]).await?;
    server.apply(&hello("hello", "World")).await?;
    let gateway = server.gateway;
    assert_eq!(get(gateway, HOST, "/").await?.status, 200);
    let long = "x".repeat(2_000);
    let answer = get_with(gateway, HOST, "/", &[("x-long", &long)]).await?;
    assert_eq!(answer.status, 431);
    let answer = get_with(gateway, HOST, "/", &[("x-many", "y"); 20]).await?;
    assert_eq!(answer.status, 431);
    let slow = || tokio::spawn(async move { get(gateway, HOST, "/sleep?ms=3000").await });
    let busy = [slow(), slow()];
    let both = server.eventually("both places are taken", || async {
        let metrics = get(server.admin, "admin", "/metrics").await?.body;
        let mut lines = metrics.lines();
        Ok(lines
            .find(|line| *line == "suimon_gateway_requests 2")
            .map(drop))
    });
    both.await?;
    let refused = server.eventually("a request is refused", || async {
        let answer = get(gateway, HOST, "/").await?;
        Ok(Some(answer).filter(|answer| answer.status != 200))
    });
    let refused = refused.await?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    assert!(refused.body.contains("overloaded"), "{refused:?}");
    for request in busy {
        assert_eq!(request.await??.status, 200);
    }
    let again = server.eventually("the next one is served", || async {
        let answer = get(gateway, HOST, "/").await?;
        Ok(Some(answer).filter(|answer| answer.status == 200))
    });
    again.await?;
    let metrics = get(server.admin, "admin", "/metrics").await?.body;
    let row = "suimon_gateway_shed_total{limit=\"requests\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(row));
    assert!(count.is_some_and(|count| count != "0"), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_of_the_settings_file_has_slow_requests_and_a_share_of_the_others()
-> anyhow::Result<()> {
    const QUICK: usize = 300;
    let log = NamedTempFile::new()?;
    let settings = format!(
        "access-log:\n  format: text\n  file: {}\n  sample: 0.5\n  slower-than: 2s\n",
        log.path().display()
    );
    let (server, _file) = start(&settings, &[]).await?;
    server.apply(&hello("hello", "World")).await?;
    let slow = (0..3).map(|number| {
        let (gateway, path) = (server.gateway, format!("/sleep?ms={}", 2_100 + number));
        tokio::spawn(async move { get(gateway, HOST, &path).await })
    });
    let slow: Vec<_> = slow.collect();
    for number in 0..QUICK {
        let path = format!("/?quick={number}.");
        assert_eq!(get(server.gateway, HOST, &path).await?.status, 200);
    }
    for request in slow {
        assert_eq!(request.await??.status, 200);
    }
    let lines = || std::fs::read_to_string(log.path());
    for number in 0..3 {
        let has_line = server.eventually("the slow ones have lines", || async {
            let target = format!("\"/sleep?ms={}\"", 2_100 + number);
            let text = lines()?;
            let line = text.lines().find(|line| line.contains(&target));
            Ok(line.map(str::to_owned))
        });
        // Time, client, status, method: the text format.
        let line = has_line.await?;
        assert!(
            line.contains(" 200 \"GET\" \"hello.default.localhost\" "),
            "{line}"
        );
    }
    server.interrupt().await?;
    let (_, said) = server.ended().await?;
    let text = lines()?;
    let quick = text.lines().filter(|line| line.contains("\"/?quick="));
    let quick = quick.count();
    // All or none of 300 by chance at one half: once in 10^90.
    assert!(
        0 < quick && quick < QUICK,
        "{quick} lines, server said: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_api_says_what_to_do_serves_on_and_has_room_once_something_is_gone()
-> anyhow::Result<()> {
    let (server, _file) = start("limits:\n  object-bytes: 8388608\n", &[]).await?;
    server.apply(&hello("hello", "World")).await?;
    let text = noise(700_000);
    let map = async |name: &str| {
        let manifest = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{x: {text}}}\n"
        );
        let output = server.try_apply(&manifest).await?;
        anyhow::Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let mut full = None;
    for number in 0..40 {
        let (is_stored, said) = map(&format!("map-{number}")).await?;
        if !is_stored {
            full = Some((number, said));
            break;
        }
    }
    let (number, said) = full.expect("28 MB do not fit into 8");
    assert!(number >= 5, "{number}: {said}");
    for told in [
        "objects take ",
        " of 8388608 bytes that they may take",
        "delete what is not needed, or raise limits.object-bytes",
    ] {
        assert!(said.contains(told), "{said}");
    }
    // What is there is served, by a new pod too: controllers have a reserve.
    assert_eq!(get(server.gateway, HOST, "/").await?.status, 200);
    for pod in server.pods("hello").await? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let deleted = server.suimon(&["delete", "pod", name]).await?;
        assert!(deleted.status.success(), "{deleted:?}");
    }
    let answer = server.eventually("a new pod answers", || async {
        let answer = get(server.gateway, HOST, "/").await?;
        Ok(Some(answer).filter(|answer| answer.status == 200))
    });
    answer.await?;
    for gone in 0..3 {
        let name = format!("map-{gone}");
        let deleted = server.suimon(&["delete", "configmap", &name]).await?;
        assert!(deleted.status.success(), "{deleted:?}");
    }
    let (is_stored, said) = map("again").await?;
    assert!(is_stored, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_out_of_range_is_named_and_nothing_starts() -> anyhow::Result<()> {
    let settings = "limits:\n  requests: 0\n  body-rate: 2000000000\naccess-log:\n  sample: 2\n";
    let Err(error) = start(settings, &[]).await else {
        anyhow::bail!("it started");
    };
    let said = error.to_string();
    for key in [
        "limits.requests: 0 is",
        "limits.body-rate: ",
        "access-log.sample",
    ] {
        assert!(said.contains(key), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_503_while_requests_are_finished() -> anyhow::Result<()> {
    let server = Server::start().await?;
    server.apply(&hello("hello", "World")).await?;
    let ready = get(server.admin, "admin", "/ready").await?;
    assert_eq!(ready.status, 200, "{ready:?}");
    let gateway = server.gateway;
    let request = tokio::spawn(async move { get(gateway, HOST, "/sleep?ms=4000").await });
    let in_flight = server.eventually("the request is in flight", || async {
        let metrics = get(server.admin, "admin", "/metrics").await?.body;
        let is = metrics
            .lines()
            .any(|line| line == "suimon_gateway_requests 1");
        Ok(is.then_some(()))
    });
    in_flight.await?;
    server.interrupt().await?;
    let draining = server.eventually("it drains", || async {
        let ready = get(server.admin, "admin", "/ready").await?;
        Ok(Some(ready).filter(|ready| ready.status != 200))
    });
    let draining = draining.await?;
    assert_eq!(draining.status, 503);
    assert!(draining.body.contains("draining"), "{draining:?}");
    let live = get(server.admin, "admin", "/live").await?;
    assert_eq!(live.status, 200);
    assert_eq!(request.await??.status, 200);
    assert_eq!(server.ended().await?.0, Some(0));
    Ok(())
}
