//! nginx and Envoy, tuned as their own documents advise for this case: one worker, upstream
//! keep-alive, no access log.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// A free port on loopback.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A program on PATH, if it is installed.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}

/// What comes in and what goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// HTTP/1.1 both ways.
    Http1,
    /// HTTP/2 to HTTP/1.1.
    ToHttp1,
    /// HTTP/2 both ways.
    ToHttp2,
    /// The same, with trailers.
    Grpc,
}

/// nginx with one worker.
pub fn nginx(dir: &Path, cpu: &str, port: u16, origin: u16, shape: Shape) -> anyhow::Result<Child> {
    let http2 = if shape == Shape::Http1 { "" } else { "http2" };
    let pass = match shape {
        Shape::Http1 | Shape::ToHttp1 => {
            "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;"
        }
        Shape::ToHttp2 | Shape::Grpc => {
            "grpc_pass grpc://origin; grpc_set_header Host $host;
grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; grpc_set_header X-Forwarded-Proto $scheme;"
        }
    };
    let config = format!(
        "worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 4096; use epoll; multi_accept on; }}
http {{ access_log off; keepalive_requests 100000000; tcp_nodelay on;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
upstream origin {{ server 127.0.0.1:{origin}; keepalive 1024; keepalive_requests 1000000; }}
server {{ listen 127.0.0.1:{port} {http2} backlog=4096; server_name bench.default.localhost;
location / {{ {pass} }} }} }}
",
        dir = dir.display(),
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config)?;
    start(
        cpu,
        "nginx",
        &[
            "-p",
            &dir.display().to_string(),
            "-c",
            &file.display().to_string(),
        ],
    )
}

/// Envoy with one worker.
pub fn envoy(dir: &Path, cpu: &str, port: u16, origin: u16, shape: Shape) -> anyhow::Result<Child> {
    let upstream = match shape {
        Shape::Http1 | Shape::ToHttp1 => "",
        Shape::ToHttp2 | Shape::Grpc => {
            r#""typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}},"#
        }
    };
    let config = format!(
        r#"{{"static_resources":{{"listeners":[{{"name":"l","address":{{"socket_address":{{"address":"127.0.0.1","port_value":{port}}}}},
"filter_chains":[{{"filters":[{{"name":"hcm","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
"stat_prefix":"b","generate_request_id":false,"route_config":{{"virtual_hosts":[{{"name":"v","domains":["*"],"routes":[{{"match":{{"prefix":"/"}},"route":{{"cluster":"o","timeout":"0s"}}}}]}}]}},
"http_filters":[{{"name":"router","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router","dynamic_stats":false}}}}]}}}}]}}]}}],
"clusters":[{{"name":"o","type":"STATIC","connect_timeout":"5s",{upstream}"circuit_breakers":{{"thresholds":[{{"max_connections":4096,"max_pending_requests":4096,"max_requests":4096}}]}},
"load_assignment":{{"cluster_name":"o","endpoints":[{{"lb_endpoints":[{{"endpoint":{{"address":{{"socket_address":{{"address":"127.0.0.1","port_value":{origin}}}}}}}}}]}}]}}}}]}}}}"#
    );
    let file = dir.join("envoy.json");
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    start(
        cpu,
        "envoy",
        &[
            "-c",
            &file,
            "--concurrency",
            "1",
            "-l",
            "off",
            "--disable-hot-restart",
        ],
    )
}

/// Our data plane alone: the `gateway` example of the crate `proxy`, built by the caller.
pub fn gateway(
    program: &Path,
    cpu: &str,
    port: u16,
    origin: u16,
    shape: Shape,
) -> anyhow::Result<Child> {
    let protocol = match shape {
        Shape::Http1 | Shape::ToHttp1 => "http1",
        Shape::ToHttp2 | Shape::Grpc => "h2c",
    };
    let (listen, origin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{origin}"));
    let program = program.display().to_string();
    start(cpu, &program, &[&listen, &origin, protocol])
}

/// Any program pinned to one core, quiet.
pub fn start(cpu: &str, program: &str, arguments: &[&str]) -> anyhow::Result<Child> {
    Ok(Command::new("taskset")
        .args(["-c", cpu, program])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?)
}

/// Tells a program to read its configuration again.
pub async fn hang_up(child: &Child) -> anyhow::Result<()> {
    let pid = child.id().unwrap_or_default().to_string();
    let told = Command::new("kill").args(["-HUP", &pid]).status().await?;
    ensure!(told.success(), "the program is gone");
    Ok(())
}

/// Sends commands to HAProxy's runtime API, whose socket is in `dir`. One that it takes has no
/// words in its answer, or says what changed.
pub async fn haproxy_command(dir: &Path, commands: &str) -> anyhow::Result<()> {
    let mut socket = UnixStream::connect(dir.join("admin.sock")).await?;
    socket.write_all(commands.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let is_taken = |line: &str| line.trim().is_empty() || line.contains("changed from");
    ensure!(answer.lines().all(is_taken), "HAProxy: {}", answer.trim());
    Ok(())
}
