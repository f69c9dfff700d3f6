//! The same routes at Envoy, HAProxy and nginx. The clock starts when the new configuration is
//! written and is only to be taken: a control plane's own work is not in it.

mod envoy;
mod haproxy;
mod nginx;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::process::Child;

use super::load::{Load, Probe};
use super::{Changes, PATIENCE, Place, ms, print};
use crate::peers::envoy::start_with;
use crate::peers::{end, free_port, hang_up, haproxy_command, installed, start};

/// What there is, and which routes go to the second Service.
pub struct Config {
    pub place: Place,
    pub ports: [u16; 2],
    pub to: Vec<usize>,
    /// Which cores it runs on, and with how many workers.
    pub cpus: &'static str,
    pub workers: usize,
}

pub async fn run(
    place: Place,
    routes: usize,
    changes: usize,
    rate: usize,
    ports: [u16; 2],
) -> anyhow::Result<()> {
    for who in ["envoy", "haproxy", "nginx"] {
        if !installed(who) {
            println!("{who:<16} is not installed");
            continue;
        }
        let mut config = Config {
            place,
            ports,
            to: vec![0; routes],
            cpus: "0-1023",
            workers: 2,
        };
        let peer = Peer::start(who, &config).await?;
        let load = Load::start(peer.address, place, routes, rate);
        let changes = peer.change(&mut config, changes).await?;
        print(who, &changes, &load.stop().await);
    }
    Ok(())
}

pub struct Peer {
    who: &'static str,
    pub address: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
}

/// A change that is prepared.
pub enum Change {
    /// A file, and where it is to be.
    File(PathBuf, PathBuf),
    Command(String),
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Peer {
    pub async fn start(who: &'static str, config: &Config) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let file = |name: &str| dir.path().join(name).display().to_string();
        let child = match who {
            "envoy" => {
                std::fs::write(file("routes.json"), config.envoy_routes(0).to_string())?;
                let bootstrap = config.envoy(port, &file("routes.json"));
                let file = dir.path().join("envoy.json");
                start_with(config.cpus, config.workers, &file, &bootstrap)?
            }
            "haproxy" => {
                std::fs::write(file("routes.map"), config.haproxy_map())?;
                std::fs::write(file("haproxy.cfg"), config.haproxy(port, dir.path()))?;
                start(config.cpus, who, &["-db", "-f", &file("haproxy.cfg")])?
            }
            _ => {
                std::fs::write(file("nginx.conf"), config.nginx(port, dir.path()))?;
                let prefix = dir.path().display().to_string();
                start(
                    config.cpus,
                    who,
                    &["-p", &prefix, "-c", &file("nginx.conf")],
                )?
            }
        };
        let peer = Self {
            who,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            child,
            dir,
        };
        let started = Instant::now();
        while !peer.serves(config).await {
            ensure!(started.elapsed() < PATIENCE, "{who} does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(peer)
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    async fn serves(&self, config: &Config) -> bool {
        let Ok(mut probe) = Probe::connect(self.address).await else {
            return false;
        };
        let last = config.to.len().saturating_sub(1);
        matches!(probe.ask(config.place, last).await, Ok(Some(_)))
    }

    async fn change(&self, config: &mut Config, count: usize) -> anyhow::Result<Changes> {
        let mut probe = Probe::connect(self.address).await?;
        let mut changes = Changes::default();
        for number in 0..count {
            let route = (number * 7919) % config.to.len();
            config.to[route] = 1 - config.to[route];
            let wanted = Some(config.ports[config.to[route]]);
            let change = self.prepare(config, route, number + 1)?;
            let started = Instant::now();
            self.tell(change).await?;
            while probe.ask(config.place, route).await? != wanted {
                ensure!(started.elapsed() < PATIENCE, "route {route} never changed");
                tokio::task::yield_now().await;
            }
            changes.served.push(ms(started.elapsed()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(changes)
    }

    /// Writes what a change needs, beside its place.
    pub fn prepare(&self, config: &Config, route: usize, version: usize) -> anyhow::Result<Change> {
        let dir = self.dir.path();
        let (name, text) = match self.who {
            "envoy" => ("routes.json", config.envoy_routes(version).to_string()),
            "haproxy" => return Ok(Change::Command(config.haproxy_change(dir, route))),
            _ => ("nginx.conf", config.nginx(self.address.port(), dir)),
        };
        let new = dir.join("new");
        std::fs::write(&new, text)?;
        Ok(Change::File(new, dir.join(name)))
    }

    pub async fn tell(&self, change: Change) -> anyhow::Result<()> {
        match change {
            Change::File(new, place) => std::fs::rename(new, place)?,
            Change::Command(command) => haproxy_command(self.dir.path(), &command).await?,
        }
        if self.who == "nginx" {
            hang_up(&self.child).await?;
        }
        Ok(())
    }
}
