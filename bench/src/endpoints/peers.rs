//! The same endpoints at Envoy, HAProxy and nginx.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Child;

use super::Change;
use crate::peers::{end, free_port, hang_up, haproxy_command, start};
use crate::peers::{envoy, haproxy, nginx};

/// Servers that HAProxy has room for.
const SLOTS: usize = 16;

pub struct Peer {
    who: &'static str,
    pub address: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
    /// Which endpoint each of HAProxy's slots has.
    slots: RefCell<[Option<u16>; SLOTS]>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Peer {
    pub async fn start(who: &'static str, ports: &[u16]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let file = |name: &str| dir.path().join(name).display().to_string();
        let child = match who {
            "envoy" => {
                std::fs::write(file("endpoints.json"), envoy_endpoints(ports).to_string())?;
                let bootstrap = envoy(port, &file("endpoints.json"));
                let file = dir.path().join("envoy.json");
                envoy::start_with("0-1023", 2, &file, &bootstrap)?
            }
            "haproxy" => {
                std::fs::write(file("haproxy.cfg"), haproxy(port, dir.path(), ports))?;
                start("0-1023", who, &["-db", "-f", &file("haproxy.cfg")])?
            }
            _ => {
                std::fs::write(file("nginx.conf"), nginx(port, dir.path(), ports))?;
                let prefix = dir.path().display().to_string();
                start("0-1023", who, &["-p", &prefix, "-c", &file("nginx.conf")])?
            }
        };
        let mut slots = [None; SLOTS];
        for (slot, port) in slots.iter_mut().zip(ports) {
            *slot = Some(*port);
        }
        Ok(Self {
            who,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            child,
            dir,
            slots: RefCell::new(slots),
        })
    }

    pub async fn tell(&self, change: &Change) -> anyhow::Result<()> {
        let dir = self.dir.path();
        let (name, text) = match self.who {
            "envoy" => ("endpoints.json", envoy_endpoints(&change.all).to_string()),
            "haproxy" => {
                let commands = self.haproxy_commands(change)?;
                return haproxy_command(dir, &commands).await;
            }
            _ => ("nginx.conf", nginx(self.address.port(), dir, &change.all)),
        };
        let new = dir.join("new");
        std::fs::write(&new, text)?;
        std::fs::rename(new, dir.join(name))?;
        if self.who == "nginx" {
            hang_up(&self.child).await?;
        }
        Ok(())
    }

    fn haproxy_commands(&self, change: &Change) -> anyhow::Result<String> {
        let mut slots = self.slots.borrow_mut();
        let mut commands = Vec::new();
        for (from, to) in [(change.gone, None), (None, change.came)] {
            if from == to {
                continue;
            }
            let slot = slots.iter().position(|slot| *slot == from);
            let slot = slot.context("HAProxy has no such server, or no room")?;
            slots[slot] = to;
            let server = format!("all/s{}", slot + 1);
            if let Some(port) = to {
                commands.push(format!("set server {server} addr 127.0.0.1 port {port}"));
                commands.push(format!("set server {server} state ready"));
            } else {
                commands.push(format!("set server {server} state maint"));
            }
        }
        Ok(commands.join(";") + "\n")
    }
}

fn envoy_endpoints(ports: &[u16]) -> Value {
    let mut all = envoy::endpoints("all", ports);
    all["@type"] = json!("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment");
    json!({"resources": [all]})
}

fn envoy(port: u16, endpoints: &str) -> Value {
    let manager = json!({"route_config": {"virtual_hosts": [{
        "name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "all"}}],
    }]}});
    let source = json!({"resource_api_version": "V3", "path_config_source": {"path": endpoints}});
    let more = json!({"type": "EDS", "eds_cluster_config": {"eds_config": source}});
    envoy::frame(port, None, manager, vec![envoy::cluster("all", more)])
}

fn haproxy(port: u16, dir: &Path, ports: &[u16]) -> String {
    let server = |slot: usize| match ports.get(slot) {
        Some(port) => format!("127.0.0.1:{port}"),
        None => "127.0.0.1:1 disabled".to_owned(),
    };
    let servers: Vec<String> = (0..SLOTS).map(server).collect();
    let (bind, to) = (format!("127.0.0.1:{port}"), " default_backend all\n");
    haproxy::frame(dir, 2, &bind, to, &haproxy::backend("all", &servers))
}

fn nginx(port: u16, dir: &Path, ports: &[u16]) -> String {
    let server =
        format!("server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://all; }} }}\n");
    let servers = nginx::upstream("all", ports) + &server;
    nginx::frame(dir, "worker_processes 2;", &servers)
}
