//! The whole path of a Knative Service (headers, timeouts, concurrency accounting, metrics and the
//! request log) beside a plain route to the same pod in the same process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use super::case::Case;
use super::load::{Asker, Target};
use super::report::Row;
use super::standard::{gateway, row};
use super::{Flags, HOST, LOAD_CPU, PROXY_CPU, route_to};
use crate::machine::tree;
use crate::peers::{self, Shape};
use crate::suimon::Suimon;

const SERVICE: &str = "whole";
/// Its first revision, whose own Service has that name.
const REVISION: &str = "whole-00001";

pub async fn run(case: &Case, flags: &Flags) -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let port = peers::free_port()?;
    let exe = std::env::current_exe()?.display().to_string();
    let _origin = peers::start(LOAD_CPU, &exe, &["origin", &port.to_string()])?;
    let (targets, _server) = match &flags.gateway {
        Some(program) => {
            let start = |words: &[String]| gateway(program, port, Shape::Http1, words);
            ([start(&[])?, start(&["knative".to_owned()])?], None)
        }
        None => {
            let (targets, server) = ours().await?;
            (targets, Some(server))
        }
    };
    let asker = Asker {
        load: case.load,
        tls: None,
        names: None,
        dir: dir.path(),
    };
    let mut rows = targets.each_ref().map(|target| row(case, target));
    for target in &targets {
        asker.until_answers(target).await?;
    }
    for _ in 0..flags.rounds {
        for (row, target) in rows.iter_mut().zip(&targets) {
            let round = asker.measure(target, flags.seconds).await?;
            row.rounds.push(round);
        }
    }
    let [mut plain, mut whole] = rows;
    plain.case = "a pod, plain route".to_owned();
    whole.case = "the same pod, the whole Knative path".to_owned();
    if let (Some(cpu), Some(all)) = (plain.cpu(), whole.cpu()) {
        whole.note = format!("{:.2} × plain", all / cpu);
    }
    Ok(vec![plain, whole])
}

async fn ours() -> anyhow::Result<([Target; 2], Suimon)> {
    let flags = ["--gateway-threads", "1", "--runtime", "process"];
    let server = Suimon::start(&["taskset", "-c", PROXY_CPU], &flags).await?;
    server.apply("configmaps", &observability()).await?;
    server.apply("services", &service()).await?;
    server.until_ready(SERVICE).await?;
    for pid in tree(server.pid()).into_iter().skip(1) {
        // Pods are the load's, not the gateway's.
        move_to(LOAD_CPU, pid).await?;
    }
    let pod = pod(&server).await?;
    for (plural, object) in route_to(&pod.ip().to_string(), pod.port(), "http") {
        server.apply(plural, &object).await?;
    }
    let status = server.service(SERVICE).await?;
    let url = status["status"]["url"].as_str().context("a URL")?;
    let host = url.trim_start_matches("http://");
    let host = host.split(':').next().unwrap_or(host);
    let targets = [HOST, host].map(|host| {
        let mut target = Target::new("suimon", server.gateway, Some(server.pid()));
        target.host = host.to_owned();
        target.is_alone = true;
        target
    });
    Ok((targets, server))
}

fn observability() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "config-observability", "namespace": "knative-serving"},
        "data": {"logging.enable-request-log": "true"},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": "default"},
        "spec": {"template": {
            "metadata": {"annotations": {
                "autoscaling.knative.dev/min-scale": "1", "autoscaling.knative.dev/max-scale": "1",
            }},
            "spec": {
                "containerConcurrency": 1000,
                "timeoutSeconds": 300, "responseStartTimeoutSeconds": 300,
                "idleTimeoutSeconds": 60,
                "containers": [{"image": "suimon.dev/samples/hello"}],
            },
        }},
    })
}

/// Moves all threads of a process; one that has ended is no failure.
pub async fn move_to(cpu: &str, pid: u32) -> anyhow::Result<()> {
    let pid = pid.to_string();
    let arguments = ["-a", "-c", "-p", cpu, &pid];
    Command::new("taskset").args(arguments).output().await?;
    Ok(())
}

/// Where the revision's pod listens.
async fn pod(server: &Suimon) -> anyhow::Result<SocketAddr> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let request = http::Request::get(path).body(Vec::new())?;
        let list: Value = serde_json::from_str(&server.client.request_text(request).await?)?;
        let slices = list["items"].as_array().cloned().unwrap_or_default();
        for slice in &slices {
            let is_first = slice["metadata"]["labels"]["kubernetes.io/service-name"] == REVISION;
            let ip = slice["endpoints"][0]["addresses"][0].as_str();
            if let (true, Some(ip)) = (is_first, ip) {
                let ports = slice["ports"].as_array().cloned().unwrap_or_default();
                let port = ports.iter().find(|port| port["name"] == "http");
                let port = port.and_then(|port| port["port"].as_u64());
                let port = u16::try_from(port.context("no port named http")?)?;
                ensure!(port > 0, "port 0");
                return Ok(SocketAddr::new(ip.parse()?, port));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the revision has no endpoint")
}
