//! CPU time and latency per proxied request, connection or message, case by case.
//!
//! Each proxy is pinned to core 0 with one worker; the load and the origin share core 1. Rounds
//! are interleaved over all targets; medians are printed. CPU time is the figure to trust.

mod case;
mod churn;
mod knative;
mod load;
mod report;
mod standard;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use self::case::{CASES, Case, Kind};
use crate::peers;

const PROXY_CPU: &str = "0";
const LOAD_CPU: &str = "1";
pub const HOST: &str = "bench.default.localhost";

#[derive(Args)]
pub struct Flags {
    /// Which cases; all of them if none is named
    #[arg(value_name = "CASE", value_parser = PossibleValuesParser::new(CASES.map(|case| case.name)))]
    cases: Vec<String>,
    /// Seconds per target and round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Without peers
    #[arg(long)]
    alone: bool,
    /// Measure the data plane alone, with this build of the `gateway` example of `proxy`
    #[arg(long, value_name = "PROGRAM")]
    gateway: Option<PathBuf>,
}

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    for program in ["wrk", "taskset"] {
        if !peers::installed(program) {
            bail!("{program} is not installed");
        }
    }
    // What this program does meanwhile belongs to the load.
    knative::move_to(LOAD_CPU, std::process::id()).await?;
    let is_chosen =
        |case: &&Case| flags.cases.is_empty() || flags.cases.iter().any(|name| name == case.name);
    let mut all = Vec::new();
    let mut failures = Vec::new();
    for case in CASES.iter().filter(is_chosen) {
        let measured = match case.kind {
            Kind::Standard => standard::run(case, &flags).await,
            Kind::Churn => churn::run(case, &flags).await,
            Kind::Knative => knative::run(case, &flags).await,
        };
        println!("\n{}", case.name);
        match measured {
            Ok(rows) => {
                report::print(&rows);
                all.extend(rows);
            }
            Err(error) => {
                println!("not measured: {error:#}");
                failures.push(case.name);
            }
        }
    }
    println!(
        "\nAll of them, {} rounds of {} s, medians\n",
        flags.rounds, flags.seconds
    );
    report::print(&all);
    if !failures.is_empty() {
        bail!("not measured: {}", failures.join(", "));
    }
    Ok(())
}

/// A Kubernetes Service with an endpoint on this machine and a Knative Ingress to it.
pub fn route(origin: u16, port_name: &str) -> Vec<(&'static str, Value)> {
    route_to("127.0.0.1", origin, port_name)
}

/// The same with an endpoint anywhere.
fn route_to(address: &str, port: u16, port_name: &str) -> Vec<(&'static str, Value)> {
    let meta = json!({ "name": "bench", "namespace": "default" });
    vec![
        (
            "services",
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": meta,
                "spec": { "ports": [{ "name": port_name, "port": 80, "targetPort": port }] } }),
        ),
        (
            "endpointslices",
            json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": { "name": "bench-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "bench" } },
                "ports": [{ "name": port_name, "port": port, "protocol": "TCP" }],
                "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }] }),
        ),
        (
            "ingresses",
            json!({ "apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "Ingress",
                "metadata": { "name": "bench", "namespace": "default",
                    "annotations": { "networking.knative.dev/ingress.class": "suimon.ingress.networking.knative.dev" } },
                "spec": { "rules": [{ "hosts": [HOST], "visibility": "ExternalIP", "http": { "paths": [{ "splits": [
                    { "serviceNamespace": "default", "serviceName": "bench", "servicePort": 80, "percent": 100 }] }] } }] } }),
        ),
    ]
}
