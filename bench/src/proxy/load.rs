//! One round of load on one target.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::case::Load;
use super::{HOST, LOAD_CPU};
use crate::client;
use crate::machine::Cpu;
use crate::peers::{Certificate, Table};

/// What wrk says in the end, in the same words as `drive`.
const SAY: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"done":%d,"failed":%d,"seconds":%f,"error":"","p50":%f,"p99":%f,"p999":%f}\n',
    summary.requests - e.status, e.connect + e.read + e.write + e.status + e.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3))
end
"#;
/// Asks for one after the other, in an order that meets all of them and has no two neighbours.
const SPREAD: &str = "
local next = 0
request = function()
  next = (next + 7919) % #all
  return all[next + 1]
end
";

pub struct Target {
    pub name: &'static str,
    pub address: SocketAddr,
    pub host: String,
    /// Whose CPU time is measured; an origin alone has none to compare.
    pub pid: Option<u32>,
    /// Its children are others: pods.
    pub is_alone: bool,
    pub running: Option<Child>,
}

impl Target {
    pub fn new(name: &'static str, address: SocketAddr, pid: Option<u32>) -> Self {
        Self {
            name,
            address,
            host: HOST.to_owned(),
            pid,
            is_alone: false,
            running: None,
        }
    }

    fn cpu(&self) -> Cpu {
        match self.pid {
            Some(pid) if self.is_alone => Cpu::of_one(pid),
            Some(pid) => Cpu::of_all(pid),
            None => Cpu::default(),
        }
    }
}

/// What one round gave.
#[derive(Clone, Debug)]
pub struct Round {
    pub cpu_us: f64,
    /// The part of it that is not the kernel's.
    pub user_us: f64,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub failed: u64,
    pub error: String,
}

/// How the targets of a case are asked.
pub struct Asker<'a> {
    pub load: Load,
    pub tls: Option<&'a Certificate>,
    /// Which hosts and paths; without them, the target's host.
    pub names: Option<Names>,
    /// Where files may be written.
    pub dir: &'a Path,
}

/// Hosts and paths that requests are spread over.
#[derive(Clone, Debug)]
pub struct Names(pub Vec<(String, String)>);

impl Names {
    pub fn of(table: Table) -> Self {
        let routes = |host: usize| {
            (0..table.routes).map(move |route| (Table::host(host), Table::path(route)))
        };
        Self((0..table.hosts).flat_map(routes).collect())
    }
}

impl Asker<'_> {
    /// Waits until the target serves what it is to be asked for.
    pub async fn until_answers(&self, target: &Target) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let answer = self.once(target).await;
            let Err(error) = answer else {
                return Ok(());
            };
            if started.elapsed() > Duration::from_secs(60) {
                return Err(error.context(format!("{} does not answer", target.name)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn once(&self, target: &Target) -> anyhow::Result<()> {
        if matches!(self.load, Load::Requests(_)) && self.tls.is_none() {
            let names = self.names.iter().flat_map(|names| &names.0);
            let mut names: Vec<_> = names.rev().step_by(997).collect();
            let own = (target.host.clone(), "/".to_owned());
            if names.is_empty() {
                names.push(&own);
            }
            for (host, path) in names {
                client::answers(target.address, host, path).await?;
            }
            return Ok(());
        }
        let load = match self.load {
            Load::Requests(_) => Load::Handshakes { resume: false },
            other => other,
        };
        let said = self.drive(target, load, 0.3, 1).await?;
        if said["failed"] != 0 || said["done"].as_f64().unwrap_or_default() == 0.0 {
            bail!("{said}");
        }
        Ok(())
    }

    pub async fn measure(&self, target: &Target, seconds: f64) -> anyhow::Result<Round> {
        let before = target.cpu();
        let said = match self.load {
            Load::Requests(connections) => self.wrk(target, seconds, connections).await?,
            load => {
                self.drive(target, load, seconds, load.connections())
                    .await?
            }
        };
        let used = target.cpu().since(before);
        let number = |name: &str| said[name].as_f64().unwrap_or(f64::NAN);
        let done = number("done");
        Ok(Round {
            cpu_us: used.total().as_secs_f64() * 1e6 / done,
            user_us: used.user.as_secs_f64() * 1e6 / done,
            per_second: done / number("seconds"),
            p50: number("p50"),
            p99: number("p99"),
            p999: number("p999"),
            failed: said["failed"].as_u64().unwrap_or_default(),
            error: said["error"].as_str().unwrap_or_default().to_owned(),
        })
    }

    async fn wrk(
        &self,
        target: &Target,
        seconds: f64,
        connections: usize,
    ) -> anyhow::Result<Value> {
        let script = self.dir.join("wrk.lua");
        std::fs::write(&script, self.script())?;
        // The origin has no TLS.
        let scheme = match self.tls.is_some() && target.pid.is_some() {
            true => "https",
            false => "http",
        };
        let mut command = Command::new("taskset");
        command.args(["-c", LOAD_CPU, "wrk", "-t1", "--latency", "-s"]);
        command.arg(script).args(["-c", &connections.to_string()]);
        command.args(["-d", &format!("{}s", seconds.ceil())]);
        command.args(["-H", &format!("Host: {}", target.host)]);
        said(command.arg(format!("{scheme}://{}/", target.address))).await
    }

    fn script(&self) -> String {
        let Some(names) = &self.names else {
            return SAY.to_owned();
        };
        let mut text = "local all = {}\ninit = function()\n".to_owned();
        text.push_str("  for host, path in string.gmatch(names, '(%S+) (%S+)') do\n");
        text.push_str("    all[#all + 1] = wrk.format('GET', path, {Host = host})\n  end\nend\n");
        let lines = names
            .0
            .iter()
            .map(|(host, path)| format!("{host} {path}\n"));
        let lines: String = lines.collect();
        format!("local names = [[\n{lines}]]\n{text}{SPREAD}{SAY}")
    }

    async fn drive(
        &self,
        target: &Target,
        load: Load,
        seconds: f64,
        connections: usize,
    ) -> anyhow::Result<Value> {
        let exe = std::env::current_exe()?;
        let mut command = Command::new("taskset");
        command.args(["-c", LOAD_CPU]).arg(exe).arg("drive");
        command.arg(target.address.to_string());
        command.args(["--seconds", &seconds.to_string()]);
        command.args(["--connections", &connections.to_string()]);
        let ca = self.dir.join("ca.pem");
        if let Some(tls) = self.tls {
            std::fs::write(&ca, &tls.certificate)?;
        }
        // The origin has no TLS.
        if self.tls.is_some() && target.pid.is_some() && load.bytes().is_some() {
            command.arg("--tls").arg(&ca);
        }
        match load {
            Load::Requests(_) => bail!("wrk does that"),
            Load::Down { bytes, .. } => command.args(["down", &bytes.to_string()]),
            Load::Up { bytes, .. } => command.args(["up", &bytes.to_string()]),
            Load::Handshakes { resume } => {
                self.tls.context("no certificate")?;
                command.arg("handshakes").arg(ca);
                command.args(resume.then_some("--resume"))
            }
            Load::WebSocket => command.arg("websocket"),
            Load::Streams => command.arg("streams"),
        };
        said(&mut command).await
    }
}

/// The last line that a program says, which is JSON.
async fn said(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().last().unwrap_or_default();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_str(line).with_context(|| format!("the load said: {text}{errors}"))
}
