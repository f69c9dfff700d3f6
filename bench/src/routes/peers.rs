//! The same routes at Envoy and nginx. The clock starts when the new configuration is written and
//! is only to be taken: a control plane's own work is not in it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::load::{Load, Probe};
use super::{Changes, NAMES, PATIENCE, Place, ms, print};
use crate::peers::{free_port, installed, start};

/// What there is, and which routes go to the second Service.
struct Config {
    place: Place,
    ports: [u16; 2],
    to: Vec<usize>,
}

pub async fn run(
    place: Place,
    routes: usize,
    changes: usize,
    rate: usize,
    ports: [u16; 2],
) -> anyhow::Result<()> {
    for who in ["envoy", "nginx"] {
        if !installed(who) {
            println!("{who:<16} is not installed");
            continue;
        }
        let mut config = Config {
            place,
            ports,
            to: vec![0; routes],
        };
        let peer = Peer::start(who, &config).await?;
        let load = Load::start(peer.address, place, routes, rate);
        let changes = peer.change(&mut config, changes).await?;
        print(who, &changes, &load.stop().await);
    }
    Ok(())
}

struct Peer {
    who: &'static str,
    address: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
}

impl Peer {
    async fn start(who: &'static str, config: &Config) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let file = |name: &str| dir.path().join(name).display().to_string();
        let child = if who == "envoy" {
            std::fs::write(file("routes.json"), config.envoy_routes(0).to_string())?;
            let bootstrap = config.envoy(port, &file("routes.json"));
            std::fs::write(file("envoy.json"), bootstrap.to_string())?;
            let flags = ["--concurrency", "2", "-l", "off", "--disable-hot-restart"];
            let bootstrap = file("envoy.json");
            start("0-1023", who, &[&["-c", &bootstrap], &flags[..]].concat())?
        } else {
            std::fs::write(file("nginx.conf"), config.nginx(port, dir.path()))?;
            let prefix = dir.path().display().to_string();
            start("0-1023", who, &["-p", &prefix, "-c", &file("nginx.conf")])?
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
            let (new, place) = self.write(config, number + 1)?;
            let started = Instant::now();
            std::fs::rename(new, place)?;
            if self.who == "nginx" {
                let pid = self.child.id().unwrap_or_default().to_string();
                let told = Command::new("kill").args(["-HUP", &pid]).status().await?;
                ensure!(told.success(), "nginx is gone");
            }
            while probe.ask(config.place, route).await? != wanted {
                ensure!(started.elapsed() < PATIENCE, "route {route} never changed");
                tokio::task::yield_now().await;
            }
            changes.served.push(ms(started.elapsed()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(changes)
    }

    /// Writes the configuration beside its place.
    fn write(&self, config: &Config, version: usize) -> anyhow::Result<(PathBuf, PathBuf)> {
        let (name, text) = if self.who == "envoy" {
            ("routes.json", config.envoy_routes(version).to_string())
        } else {
            let port = self.address.port();
            ("nginx.conf", config.nginx(port, self.dir.path()))
        };
        let new = self.dir.path().join("new");
        std::fs::write(&new, text)?;
        Ok((new, self.dir.path().join(name)))
    }
}

impl Config {
    fn envoy_routes(&self, version: usize) -> Value {
        let route = |route: usize| {
            let path = self.place.path(route);
            json!({"match": {"prefix": path}, "route": {"cluster": NAMES[self.to[route]]}})
        };
        let all = 0..self.to.len();
        let hosts: Vec<Value> = if self.place.one_host {
            let routes: Vec<Value> = all.map(route).collect();
            vec![json!({"name": "all", "domains": [self.place.host(0)], "routes": routes})]
        } else {
            let host = |at: usize| {
                let name = format!("r{at}");
                json!({"name": name, "domains": [self.place.host(at)], "routes": [route(at)]})
            };
            all.map(host).collect()
        };
        json!({
            "version_info": version.to_string(),
            "resources": [{
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": "routes", "virtual_hosts": hosts,
            }],
        })
    }

    fn envoy(&self, port: u16, routes: &str) -> Value {
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "b",
            "rds": {
                "route_config_name": "routes",
                "config_source": {"resource_api_version": "V3", "path_config_source": {"path": routes}},
            },
            "http_filters": [{"name": "router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }}],
        });
        let cluster = |at: usize| {
            let address =
                json!({"socket_address": {"address": "127.0.0.1", "port_value": self.ports[at]}});
            json!({
                "name": NAMES[at], "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": NAMES[at], "endpoints": [{
                    "lb_endpoints": [{"endpoint": {"address": address}}],
                }]},
            })
        };
        json!({
            "node": {"id": "bench", "cluster": "bench"},
            "static_resources": {
                "listeners": [{
                    "name": "l",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                }],
                "clusters": [cluster(0), cluster(1)],
            },
        })
    }

    fn nginx(&self, port: u16, dir: &Path) -> String {
        let dir = dir.display();
        let upstream = |at: usize| {
            format!(
                "upstream {} {{ server 127.0.0.1:{}; keepalive 64; }}\n",
                NAMES[at], self.ports[at]
            )
        };
        let mut text = format!(
            "worker_processes 2; daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 4096; }}
http {{ access_log off; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
{}{}",
            upstream(0),
            upstream(1),
        );
        let to = |at: usize| NAMES[self.to[at]];
        if self.place.one_host {
            let _ = writeln!(text, "server {{ listen 127.0.0.1:{port};");
            for at in 0..self.to.len() {
                let path = self.place.path(at);
                let _ = writeln!(text, "location {path} {{ proxy_pass http://{}; }}", to(at));
            }
            text.push_str("}\n");
        } else {
            for at in 0..self.to.len() {
                let host = self.place.host(at);
                let _ = writeln!(
                    text,
                    "server {{ listen 127.0.0.1:{port}; server_name {host}; location / {{ proxy_pass http://{}; }} }}",
                    to(at)
                );
            }
        }
        text.push_str("}\n");
        text
    }
}
