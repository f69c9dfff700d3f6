//! Thousands of routes at one Gateway: all are served and told, and none is lost while others go.
//!
//! Routes redirect to a name that says which of them answered, so no pods are needed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::gateway_edges::{attached, eventually_sent_to, manifest, programmed, sent_to};
use crate::{Server, http};

const API: &str = "gateway.networking.k8s.io/v1";
const ROUTES: usize = 2000;
/// Hosts that share the routes: the first has half of them, as paths of one site.
const HOSTS: usize = 200;
const PORT: u16 = 18_590;

fn host(at: usize) -> String {
    let number = if at.is_multiple_of(2) { 0 } else { at % HOSTS };
    format!("h{number}.example.com")
}

fn route(at: usize) -> Value {
    json!({
        "apiVersion": API, "kind": "HTTPRoute", "metadata": {"name": format!("r{at}")},
        "spec": {
            "parentRefs": [{"name": "crowd"}], "hostnames": [host(at)],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": format!("/p{at}")}}],
                "filters": [{"type": "RequestRedirect", "requestRedirect": {"hostname": format!("to-{at}")}}],
            }],
        },
    })
}

/// Whether a route is one of those that go: half of each sort of host's.
fn goes(at: usize) -> bool {
    at % 4 < 2
}

/// The routes whose status says, for their generation, that the Gateway takes them.
async fn accepted(server: &Server) -> anyhow::Result<BTreeSet<String>> {
    let list = server.object(&["httproutes"]).await?;
    let is_accepted = |route: &&Value| {
        let conditions = &route["status"]["parents"][0]["conditions"];
        let mut all = conditions.as_array().into_iter().flatten();
        all.any(|it| {
            it["type"] == "Accepted"
                && it["status"] == "True"
                && it["observedGeneration"] == route["metadata"]["generation"]
        })
    };
    let routes = list["items"].as_array().into_iter().flatten();
    let names = routes.filter(is_accepted);
    let names = names.filter_map(|route| route["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn names(of: impl Iterator<Item = usize>) -> BTreeSet<String> {
    of.map(|at| format!("r{at}")).collect()
}

/// Asks for the routes that stay, one after the other, until told to stop. Returns how often.
async fn ask(gateway: SocketAddr, first: usize, stop: &AtomicBool) -> anyhow::Result<usize> {
    let mut asked = 0;
    let staying: Vec<_> = (0..ROUTES).filter(|at| !goes(*at)).collect();
    for at in staying.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let to = sent_to(gateway, &host(*at), &format!("/p{at}/x")).await?;
        ensure!(to == format!("to-{at}"), "route {at} led to {to:?}");
        asked += 1;
    }
    Ok(asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_routes_are_served_and_told_and_none_is_lost_while_half_of_them_go()
-> anyhow::Result<()> {
    let server = Server::start().await?;
    let gateway = json!({
        "apiVersion": API, "kind": "Gateway", "metadata": {"name": "crowd"},
        "spec": {
            "gatewayClassName": "suimon",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": PORT}],
        },
    });
    server.apply(&manifest(&[gateway])).await?;
    let address = programmed(&server, "crowd", PORT).await?;
    let routes: Vec<_> = (0..ROUTES).map(route).collect();
    // One file of more than 1,024 documents, and another one.
    let (first, rest) = routes.split_at(1100);
    for file in [first, rest] {
        server.apply(&manifest(file)).await?;
    }
    let count = async |wanted: u64| {
        let is_counted =
            || async { Ok((attached(&server, "crowd").await? == [wanted]).then_some(())) };
        let what = format!("{wanted} routes are attached");
        server.eventually(&what, is_counted).await
    };
    count(ROUTES as u64).await?;
    let all = names(0..ROUTES);
    let are_told = || async { Ok((accepted(&server).await? == all).then_some(())) };
    server
        .eventually("every route is accepted", are_told)
        .await?;
    for at in (0..ROUTES).step_by(37) {
        let to = sent_to(address, &host(at), &format!("/p{at}")).await?;
        assert_eq!(to, format!("to-{at}"));
    }

    let stop = Arc::new(AtomicBool::new(false));
    let asking = (0..2).map(|number| {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move { ask(address, number * 101, &stop).await })
    });
    let asking: Vec<_> = asking.collect();
    let going: Vec<_> = (0..ROUTES).filter(|at| goes(*at)).map(route).collect();
    let file = server.data_dir().join("going.yaml");
    std::fs::write(&file, manifest(&going))?;
    let file = file.display().to_string();
    let deleted = server.suimon(&["delete", "-f", &file]).await?;
    assert!(deleted.status.success(), "{deleted:?}");
    count((ROUTES - going.len()) as u64).await?;
    stop.store(true, Ordering::Relaxed);
    for asking in asking {
        assert!(asking.await?? > 0, "nobody asked meanwhile");
    }
    let staying = names((0..ROUTES).filter(|at| !goes(*at)));
    assert_eq!(accepted(&server).await?, staying);
    for at in (0..ROUTES).step_by(41) {
        let target = (&*host(at), &*format!("/p{at}"));
        let to = if goes(at) {
            String::new()
        } else {
            format!("to-{at}")
        };
        eventually_sent_to(&server, address, target, &to).await?;
    }
    let answer = http::get(address, &host(0), "/p0").await?;
    assert_eq!(answer.status, 404);
    Ok(())
}
