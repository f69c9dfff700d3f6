//! The programs that stand before and behind the gateway, each as one process with one thread and
//! connections that it keeps, so that everybody's requests share them.
//!
//! They are set to be as lenient as they can be: a front that refuses by itself proves nothing of
//! the gateway behind it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use super::client::Door;

/// Ends its process when dropped.
pub(super) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Nginx,
    Haproxy,
    Envoy,
    Go,
}

impl Peer {
    pub(super) const PROXIES: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Go => "go",
        }
    }

    /// Whether its program is there; says what version it is.
    pub(super) fn is_there(self) -> bool {
        let flag = match self {
            Self::Go => "version",
            Self::Envoy => "--version",
            Self::Nginx | Self::Haproxy => "-v",
        };
        let Ok(said) = Command::new(self.name()).arg(flag).output() else {
            println!("SKIPPED: {} is not on PATH and was not tried", self.name());
            return false;
        };
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| !line.trim().is_empty());
        println!("{}: {}", self.name(), line.unwrap_or_default().trim());
        true
    }
}

/// A directory that is removed when dropped.
pub(super) struct Dir(pub(super) PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A proxy that sends everything to `server`.
pub(super) fn proxy(peer: Peer, server: SocketAddr, dir: &Path) -> anyhow::Result<(Door, Running)> {
    let (http1, http2, admin) = (free_port()?, free_port()?, free_port()?);
    let mut command = Command::new(peer.name());
    let text = match peer {
        Peer::Nginx => nginx(http1, http2, server, dir),
        Peer::Haproxy => haproxy(http1, http2, server),
        Peer::Envoy => envoy((http1, http2, admin), server),
        Peer::Go => bail!("the Go program is no proxy"),
    };
    std::fs::create_dir_all(dir)?;
    let file = dir.join(if peer == Peer::Envoy {
        "envoy.yaml"
    } else {
        "conf"
    });
    std::fs::write(&file, text)?;
    match peer {
        Peer::Haproxy => command.args(["-db", "-f"]).arg(&file),
        Peer::Nginx => command.arg("-p").arg(dir).arg("-c").arg(&file),
        _ => {
            // Several of them run at once.
            let base = u32::from(http1).to_string();
            command.args([
                "--concurrency",
                "1",
                "-l",
                "error",
                "--base-id",
                &base,
                "-c",
            ]);
            command.arg(&file)
        }
    };
    let log = std::fs::File::create(dir.join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    let running = start(command, &[http1, http2])
        .with_context(|| std::fs::read_to_string(dir.join("log")).unwrap_or_default())?;
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let door = Door {
        http1: at(http1),
        http2: at(http2),
    };
    Ok((door, running))
}

/// The gateway, sending everything to `server`.
pub(super) fn gateway(program: &Path, server: SocketAddr) -> anyhow::Result<(Door, Running)> {
    let port = free_port()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = Command::new(program);
    command.args([address.to_string(), server.to_string(), "http1".into()]);
    let running = start(command, &[port])?;
    let door = Door {
        http1: address,
        http2: address,
    };
    Ok((door, running))
}

/// The server on Go's `net/http`, built from `source`, and what it says.
pub(super) fn go(source: &Path, dir: &Path) -> anyhow::Result<(SocketAddr, Running, ChildStdout)> {
    std::fs::create_dir_all(dir)?;
    let program = dir.join("server");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".");
    let built = build.current_dir(source).status()?;
    anyhow::ensure!(built.success(), "the Go server does not build");
    let port = free_port()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut command = Command::new(program);
    command.arg(address.to_string()).stdout(Stdio::piped());
    command.stderr(Stdio::null());
    let mut running = start(command, &[port])?;
    let said = running.0.stdout.take().context("its output is a pipe")?;
    Ok((address, running, said))
}

/// Starts a program and waits until it accepts.
fn start(mut command: Command, ports: &[u16]) -> anyhow::Result<Running> {
    let child = command.stdin(Stdio::null()).spawn();
    let mut running = Running(child.with_context(|| format!("{command:?}"))?);
    for _ in 0..600 {
        if ports
            .iter()
            .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        {
            return Ok(running);
        }
        if running.0.try_wait()?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{command:?} does not accept connections")
}

fn nginx(http1: u16, http2: u16, server: SocketAddr, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; error_log stderr crit; pid {dir}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;
  upstream back {{ server {server}; keepalive 1; }}
  server {{
    listen 127.0.0.1:{http1}; listen 127.0.0.1:{http2} http2;
    location / {{
      proxy_pass http://back; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
      proxy_next_upstream off;
    }}
  }}
}}
"
    )
}

fn haproxy(http1: u16, http2: u16, server: SocketAddr) -> String {
    format!(
        "global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  option accept-invalid-http-request
  http-reuse always
  retries 0
frontend front
  bind 127.0.0.1:{http1}
  bind 127.0.0.1:{http2} proto h2
  default_backend back
backend back
  server one {server}
"
    )
}

fn envoy((http1, http2, admin): (u16, u16, u16), server: SocketAddr) -> String {
    let listener = |port: u16, codec: &str| {
        format!(
            r#"  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: {codec}
          delayed_close_timeout: 0.05s
          http_protocol_options: {{accept_http_10: true, default_host_for_http_10: none.example, allow_chunked_length: true}}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: back}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#
        )
    };
    format!(
        r#"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
{}{}  clusters:
  - name: back
    type: STATIC
    load_assignment:
      cluster_name: back
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]
"#,
        listener(http1, "HTTP1"),
        listener(http2, "HTTP2"),
        server.ip(),
        server.port()
    )
}
