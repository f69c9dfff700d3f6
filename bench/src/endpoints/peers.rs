//! The same endpoints at Envoy, HAProxy and nginx.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Child;

use super::Change;
use crate::peers::{end, free_port, hang_up, haproxy_command, start};

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
                std::fs::write(file("envoy.json"), bootstrap.to_string())?;
                let flags = ["--concurrency", "2", "-l", "off", "--disable-hot-restart"];
                let bootstrap = file("envoy.json");
                start("0-1023", who, &[&["-c", &bootstrap], &flags[..]].concat())?
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
    let endpoint = |port: &u16| {
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        json!({"endpoint": {"address": address}})
    };
    let endpoints: Vec<Value> = ports.iter().map(endpoint).collect();
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "all", "endpoints": [{"lb_endpoints": endpoints}],
    }]})
}

fn envoy(port: u16, endpoints: &str) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "b",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "all"}}],
        }]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }}],
    });
    let source = json!({"resource_api_version": "V3", "path_config_source": {"path": endpoints}});
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{
                "name": "l",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "all", "type": "EDS", "connect_timeout": "5s",
                "eds_cluster_config": {"eds_config": source},
            }],
        },
    })
}

fn haproxy(port: u16, dir: &Path, ports: &[u16]) -> String {
    let mut text = format!(
        "global
 nbthread 2
 stats socket {}/admin.sock level admin
defaults
 mode http
 timeout connect 5s
 timeout client 60s
 timeout server 60s
frontend all
 bind 127.0.0.1:{port}
 default_backend all
backend all
 balance roundrobin
",
        dir.display()
    );
    for slot in 0..SLOTS {
        let (port, state) = match ports.get(slot) {
            Some(port) => (*port, ""),
            None => (1, " disabled"),
        };
        let _ = writeln!(text, " server s{} 127.0.0.1:{port}{state}", slot + 1);
    }
    text
}

fn nginx(port: u16, dir: &Path, ports: &[u16]) -> String {
    let servers = ports.iter().fold(String::new(), |mut text, port| {
        let _ = write!(text, "server 127.0.0.1:{port}; ");
        text
    });
    format!(
        "worker_processes 2; daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 4096; }}
http {{ access_log off;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
upstream all {{ {servers}keepalive 64; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://all; }} }}
}}
",
        dir = dir.display(),
    )
}
