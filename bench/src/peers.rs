//! nginx, HAProxy and Envoy, tuned as their own documents advise for this case: one worker,
//! upstream keep-alive, no access log.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

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

/// A proxy to start: what it listens at, what is behind it, and how it speaks.
pub struct Job<'a> {
    /// Where its configuration may be written.
    pub dir: &'a Path,
    pub cpu: &'a str,
    pub port: u16,
    pub origin: u16,
    pub shape: Shape,
    /// With this certificate, TLS 1.3 towards clients.
    pub tls: Option<&'a Certificate>,
}

/// A certificate that signs itself.
pub struct Certificate {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

impl Certificate {
    pub fn new(host: &str) -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let parameters = rcgen::CertificateParams::new(vec![host.to_owned()])?;
        Ok(Self {
            certificate: parameters.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

type Start = fn(&Job<'_>) -> anyhow::Result<Child>;
/// Every peer of a proxy, by its program.
pub const ALL: [(&str, Start); 3] = [("nginx", nginx), ("haproxy", haproxy), ("envoy", envoy)];

impl Job<'_> {
    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let file = self.dir.join(name);
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

/// nginx with one worker.
fn nginx(job: &Job<'_>) -> anyhow::Result<Child> {
    let Job { port, origin, .. } = job;
    let http2 = if job.shape == Shape::Http1 {
        ""
    } else {
        "http2"
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
    let pass = match job.shape {
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
        "master_process off; daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 16384; use epoll; multi_accept on; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; tcp_nodelay on;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
upstream origin {{ server 127.0.0.1:{origin}; keepalive 1024; keepalive_requests 1000000; }}
server {{ listen 127.0.0.1:{port} {ssl} {http2} backlog=4096; {files} server_name bench.default.localhost;
location / {{ {pass} }} }} }}
",
        dir = job.dir.display(),
    );
    let prefix = job.dir.display().to_string();
    let file = job.write("nginx.conf", &config)?;
    start(job.cpu, "nginx", &["-p", &prefix, "-c", &file])
}

/// HAProxy with one thread.
fn haproxy(job: &Job<'_>) -> anyhow::Result<Child> {
    let Job { port, origin, .. } = job;
    let mut client = match job.shape {
        Shape::Http1 => String::new(),
        Shape::ToHttp1 | Shape::ToHttp2 | Shape::Grpc => " proto h2".to_owned(),
    };
    if let Some(tls) = job.tls {
        let pem = job.write("haproxy.pem", &(tls.certificate.clone() + &tls.key))?;
        client = format!(" ssl crt {pem} ssl-min-ver TLSv1.3");
    }
    let server = match job.shape {
        Shape::Http1 | Shape::ToHttp1 => "",
        Shape::ToHttp2 | Shape::Grpc => " proto h2",
    };
    let config = format!(
        "global
 nbthread 1
 no strict-limits
 maxconn 16000
defaults
 mode http
 option forwardfor
 timeout connect 5s
 timeout client 600s
 timeout server 600s
frontend all
 bind 127.0.0.1:{port}{client} backlog 4096
 http-request set-header X-Forwarded-Proto http
 default_backend origin
backend origin
 http-reuse always
 server one 127.0.0.1:{origin}{server}
"
    );
    let file = job.write("haproxy.cfg", &config)?;
    start(job.cpu, "haproxy", &["-db", "-f", &file])
}

/// Envoy with one worker.
fn envoy(job: &Job<'_>) -> anyhow::Result<Child> {
    let Job { port, origin, .. } = job;
    let upstream = match job.shape {
        Shape::Http1 | Shape::ToHttp1 => "",
        Shape::ToHttp2 | Shape::Grpc => {
            r#""typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}},"#
        }
    };
    let socket = match job.tls {
        Some(tls) => {
            let certificate = job.write("envoy.crt", &tls.certificate)?;
            let key = job.write("envoy.key", &tls.key)?;
            format!(
                r#""transport_socket":{{"name":"tls","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","common_tls_context":{{"tls_params":{{"tls_minimum_protocol_version":"TLSv1_3","tls_maximum_protocol_version":"TLSv1_3"}},"tls_certificates":[{{"certificate_chain":{{"filename":"{certificate}"}},"private_key":{{"filename":"{key}"}}}}]}}}}}},"#
            )
        }
        None => String::new(),
    };
    let config = format!(
        r#"{{"static_resources":{{"listeners":[{{"name":"l","address":{{"socket_address":{{"address":"127.0.0.1","port_value":{port}}}}},
"filter_chains":[{{{socket}"filters":[{{"name":"hcm","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
"stat_prefix":"b","generate_request_id":false,"route_config":{{"virtual_hosts":[{{"name":"v","domains":["*"],"routes":[{{"match":{{"prefix":"/"}},"route":{{"cluster":"o","timeout":"0s"}}}}]}}]}},
"http_filters":[{{"name":"router","typed_config":{{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router","dynamic_stats":false}}}}]}}}}]}}]}}],
"clusters":[{{"name":"o","type":"STATIC","connect_timeout":"5s",{upstream}"circuit_breakers":{{"thresholds":[{{"max_connections":4096,"max_pending_requests":4096,"max_requests":4096}}]}},
"load_assignment":{{"cluster_name":"o","endpoints":[{{"lb_endpoints":[{{"endpoint":{{"address":{{"socket_address":{{"address":"127.0.0.1","port_value":{origin}}}}}}}}}]}}]}}}}]}}}}"#
    );
    let file = job.write("envoy.json", &config)?;
    let flags = ["--concurrency", "1", "-l", "off", "--disable-hot-restart"];
    start(job.cpu, "envoy", &[&["-c", &file], &flags[..]].concat())
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

/// Ends a program that has children of its own, which `SIGKILL` would leave behind.
pub fn end(child: &mut Child) {
    let Some(pid) = child.id() else { return };
    let told = std::process::Command::new("kill")
        .arg(pid.to_string())
        .status();
    let end = Instant::now() + Duration::from_secs(5);
    while told.is_ok() && matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
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
