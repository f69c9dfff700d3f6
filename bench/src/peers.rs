//! nginx and Envoy, tuned as their own documents advise for this case: one worker, upstream
//! keep-alive, no access log.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

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

/// nginx with one worker.
pub fn nginx(dir: &Path, cpu: &str, port: u16, origin: u16) -> anyhow::Result<Child> {
    let config = format!(
        "worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 4096; use epoll; multi_accept on; }}
http {{ access_log off; keepalive_requests 1000000; tcp_nodelay on;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
upstream origin {{ server 127.0.0.1:{origin}; keepalive 1024; keepalive_requests 1000000; }}
server {{ listen 127.0.0.1:{port} backlog=4096; server_name bench.default.localhost;
location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; }} }} }}
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
pub fn envoy(dir: &Path, cpu: &str, port: u16, origin: u16) -> anyhow::Result<Child> {
    let config = format!(
        r#"{{"static_resources":{{"listeners":[{{"name":"l","address":{{"socket_address":{{"address":"127.0.0.1","port_value":{port}}}}},
"filter_chains":[{{"filters":[{{"name":"hcm","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
"stat_prefix":"b","generate_request_id":false,"route_config":{{"virtual_hosts":[{{"name":"v","domains":["*"],"routes":[{{"match":{{"prefix":"/"}},"route":{{"cluster":"o","timeout":"0s"}}}}]}}]}},
"http_filters":[{{"name":"router","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router","dynamic_stats":false}}}}]}}}}]}}]}}],
"clusters":[{{"name":"o","type":"STATIC","connect_timeout":"5s","circuit_breakers":{{"thresholds":[{{"max_connections":4096,"max_pending_requests":4096,"max_requests":4096}}]}},
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
