//! nginx, HAProxy and Envoy, tuned as their own documents advise for this case: one worker,
//! upstream keep-alive, no access log. The frame of each configuration is in its file, for every
//! measurement that starts one.

pub mod envoy;
pub mod haproxy;
pub mod nginx;

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
    /// Routes for these hosts and paths, instead of one for all.
    pub table: Option<Table>,
    /// Connections may become WebSockets.
    pub websocket: bool,
}

impl Job<'_> {
    /// The origin speaks HTTP/2.
    fn is_to_http2(&self) -> bool {
        matches!(self.shape, Shape::ToHttp2 | Shape::Grpc)
    }
}

/// Hosts `h0`, `h1`, … with path prefixes `/r0/`, `/r1/`, … each, all for the same origin.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub hosts: usize,
    pub routes: usize,
}

impl Table {
    pub fn host(at: usize) -> String {
        format!("h{at}")
    }

    pub fn path(at: usize) -> String {
        format!("/r{at}/")
    }
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
pub const ALL: [(&str, Start); 3] = [
    ("nginx", nginx::start),
    ("haproxy", haproxy::start),
    ("envoy", envoy::start),
];

impl Job<'_> {
    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let file = self.dir.join(name);
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

/// Our data plane alone: the `gateway` example of the crate `proxy`, built by the caller.
pub fn gateway(
    program: &Path,
    cpu: &str,
    port: u16,
    origin: u16,
    shape: Shape,
    words: &[&str],
) -> anyhow::Result<Child> {
    let protocol = match shape {
        Shape::Http1 | Shape::ToHttp1 => "http1",
        Shape::ToHttp2 | Shape::Grpc => "h2c",
    };
    let (listen, origin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{origin}"));
    let program = program.display().to_string();
    let arguments = [&[listen.as_str(), &origin, protocol], words].concat();
    start(cpu, &program, &arguments)
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
