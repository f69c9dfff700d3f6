//! nginx's configuration.

use std::fmt::Write as _;
use std::path::Path;

use tokio::process::Child;

use super::{Job, Shape, Table};

/// One process that does everything.
const ONE: &str = "master_process off;";

/// A whole configuration around these servers. `processes` says how many work.
pub fn frame(dir: &Path, processes: &str, servers: &str) -> String {
    format!(
        "{processes} daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 16384; use epoll; multi_accept on; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; tcp_nodelay on;
server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
{servers}}}
",
        dir = dir.display(),
    )
}

/// A backend with these servers.
pub fn upstream(name: &str, ports: &[u16]) -> String {
    let servers = ports.iter().fold(String::new(), |mut text, port| {
        let _ = write!(text, "server 127.0.0.1:{port}; ");
        text
    });
    format!("upstream {name} {{ {servers}keepalive 1024; keepalive_requests 1000000; }}\n")
}

/// Starts it with one worker.
pub(super) fn start(job: &Job<'_>) -> anyhow::Result<Child> {
    let text = upstream("origin", &[job.origin]) + &servers(job)?;
    let file = job.write("nginx.conf", &frame(job.dir, ONE, &text))?;
    let prefix = job.dir.display().to_string();
    super::start(job.cpu, "nginx", &["-p", &prefix, "-c", &file])
}

fn servers(job: &Job<'_>) -> anyhow::Result<String> {
    let http2 = match job.shape {
        Shape::Http1 => "",
        Shape::ToHttp1 | Shape::ToHttp2 | Shape::Grpc => "http2",
    };
    let (ssl, files) = match job.tls {
        Some(tls) => {
            let certificate = job.write("nginx.crt", &tls.certificate)?;
            let key = job.write("nginx.key", &tls.key)?;
            let files = format!(
                "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;"
            );
            ("ssl", files)
        }
        None => ("", String::new()),
    };
    let listen = format!("listen 127.0.0.1:{} {ssl} {http2}", job.port);
    let pass = pass(job);
    let Some(table) = job.table else {
        return Ok(format!(
            "server {{ {listen} backlog=4096; {files} location / {{ {pass} }} }}\n"
        ));
    };
    let mut text = String::new();
    for host in 0..table.hosts {
        let backlog = if host == 0 { " backlog=4096" } else { "" };
        let name = Table::host(host);
        let _ = write!(text, "server {{ {listen}{backlog}; server_name {name};");
        for route in 0..table.routes {
            let _ = write!(text, " location {} {{ {pass} }}", Table::path(route));
        }
        text.push_str(" }\n");
    }
    Ok(text)
}

/// HTTP/2 to a backend is for gRPC only.
fn pass(job: &Job<'_>) -> &'static str {
    if job.is_to_http2() {
        return "grpc_pass grpc://origin; grpc_set_header Host $host;
grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; grpc_set_header X-Forwarded-Proto $scheme;";
    }
    if job.websocket {
        return "proxy_pass http://origin; proxy_set_header Host $host;
proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;";
    }
    "proxy_pass http://origin;"
}
