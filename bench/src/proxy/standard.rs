//! Cases with one origin behind every proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Child;

use super::case::{Case, Load};
use super::load::{Asker, Names, Target};
use super::report::{Row, compare};
use super::{Flags, HOST, LOAD_CPU, PROXY_CPU, route};
use crate::peers::{self, Certificate, Job, Shape, Table};
use crate::suimon::Suimon;

/// Routes in one Ingress.
const ROUTES: usize = 100;

pub async fn run(case: &Case, flags: &Flags) -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let port = peers::free_port()?;
    let _origin = origin(case, port)?;
    let tls = case.tls.then(|| Certificate::new(HOST)).transpose()?;
    let (ours, _server) = ours(case, flags, port, tls.as_ref(), dir.path()).await?;
    let mut targets = vec![ours];
    if !case.tls && !flags.alone {
        targets.push(copy(port)?);
    }
    if matches!(case.load, Load::Requests(_)) && !case.tls {
        targets.push(Target::new("no proxy", local(port), None));
    }
    if !flags.alone {
        targets.extend(others(case, port, tls.as_ref(), dir.path())?);
    }
    let asker = Asker {
        load: case.load,
        tls: tls.as_ref(),
        names: case.table.map(Names::of),
        dir: dir.path(),
    };
    let mut rows = Vec::new();
    let mut ready = Vec::new();
    for target in targets {
        let mut row = row(case, &target);
        match asker.until_answers(&target).await {
            Ok(()) => ready.push((rows.len(), target)),
            Err(error) => row.note = format!("not measured: {error:#}"),
        }
        rows.push(row);
    }
    for _ in 0..flags.rounds {
        for (at, target) in &ready {
            let round = asker.measure(target, flags.seconds).await?;
            rows[*at].rounds.push(round);
        }
    }
    compare(&mut rows);
    Ok(rows)
}

pub fn row(case: &Case, target: &Target) -> Row {
    Row {
        case: case.title.to_owned(),
        target: target.name.to_owned(),
        unit: case.load.unit(),
        bytes: case.load.bytes(),
        is_free: target.pid.is_none(),
        rounds: Vec::new(),
        ratio: None,
        user_ratio: None,
        note: String::new(),
    }
}

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn origin(case: &Case, port: u16) -> anyhow::Result<Child> {
    let exe = std::env::current_exe()?.display().to_string();
    peers::start(
        LOAD_CPU,
        &exe,
        &["origin", &port.to_string(), case.origin()],
    )
}

fn started(name: &'static str, port: u16, child: Child) -> Target {
    let mut target = Target::new(name, local(port), child.id());
    target.running = Some(child);
    target
}

fn copy(origin: u16) -> anyhow::Result<Target> {
    let exe = std::env::current_exe()?.display().to_string();
    let port = peers::free_port()?;
    let words = ["copy", &port.to_string(), &origin.to_string()];
    Ok(started(
        "raw copy",
        port,
        peers::start(PROXY_CPU, &exe, &words)?,
    ))
}

fn others(
    case: &Case,
    origin: u16,
    tls: Option<&Certificate>,
    dir: &Path,
) -> anyhow::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for (name, start) in peers::ALL {
        if !peers::installed(name) {
            println!("{name}: not measured, it is not installed");
            continue;
        }
        let port = peers::free_port()?;
        let child = start(&Job {
            dir,
            cpu: PROXY_CPU,
            port,
            origin,
            shape: case.shape,
            tls,
            table: case.table,
            websocket: matches!(case.load, Load::WebSocket),
        })?;
        targets.push(started(name, port, child));
    }
    Ok(targets)
}

/// The product, or its data plane alone.
async fn ours(
    case: &Case,
    flags: &Flags,
    origin: u16,
    tls: Option<&Certificate>,
    dir: &Path,
) -> anyhow::Result<(Target, Option<Suimon>)> {
    if let Some(program) = &flags.gateway {
        let mut words = Vec::new();
        if let Some(Table { hosts, routes }) = case.table {
            words.extend([format!("hosts={hosts}"), format!("routes={routes}")]);
        }
        if let Some(tls) = tls {
            let file = dir.join("gateway.pem");
            std::fs::write(&file, tls.certificate.clone() + &tls.key)?;
            words.push(format!("tls={}", file.display()));
        }
        return Ok((gateway(program, origin, case.shape, &words)?, None));
    }
    let server = Suimon::start(&["taskset", "-c", PROXY_CPU], &["--gateway-threads", "1"]).await?;
    let port_name = match case.shape {
        Shape::Http1 | Shape::ToHttp1 => "http",
        Shape::ToHttp2 | Shape::Grpc => "http2",
    };
    for (plural, object) in route(origin, port_name) {
        server.apply(plural, &object).await?;
    }
    if let Some(table) = case.table {
        for object in ingresses(table) {
            server.create("ingresses", &object).await?;
        }
    }
    let address = match tls {
        Some(tls) => server.open_tls(tls, HOST, "bench").await?,
        None => server.gateway,
    };
    let target = Target::new("suimon", address, Some(server.pid()));
    Ok((target, Some(server)))
}

/// The data plane alone.
pub fn gateway(
    program: &Path,
    origin: u16,
    shape: Shape,
    words: &[String],
) -> anyhow::Result<Target> {
    let port = peers::free_port()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let child = peers::gateway(program, PROXY_CPU, port, origin, shape, &words)?;
    Ok(started("suimon", port, child))
}

/// All hosts and paths, for the Service `bench`.
fn ingresses(table: Table) -> Vec<Value> {
    let path = |at: usize| {
        json!({
            "path": Table::path(at), "pathType": "Prefix",
            "backend": {"service": {"name": "bench", "port": {"number": 80}}},
        })
    };
    let paths: Vec<Value> = (0..table.routes).map(path).collect();
    let rule = |host: usize| json!({"host": Table::host(host), "http": {"paths": paths}});
    // An object has a bound: many paths of a host are one Ingress, hosts with one path share one.
    let step = (ROUTES / table.routes.max(1)).max(1);
    let ingress = |first: usize| {
        let hosts = first..table.hosts.min(first + step);
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": format!("from-{first}"), "namespace": "default"},
            "spec": {"rules": hosts.map(rule).collect::<Vec<_>>()},
        })
    };
    (0..table.hosts).step_by(step).map(ingress).collect()
}
