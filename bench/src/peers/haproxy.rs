//! HAProxy's configuration.

use std::fmt::Write as _;
use std::path::Path;

use tokio::process::Child;

use super::{Job, Shape, Table};

/// A whole configuration: one place to listen at (`bind`), what its frontend says, and the
/// backends. The socket for commands is in `dir`.
pub fn frame(dir: &Path, threads: usize, bind: &str, frontend: &str, backends: &str) -> String {
    format!(
        "global
 nbthread {threads}
 no strict-limits
 maxconn 16000
 stats socket {}/admin.sock level admin
defaults
 mode http
 option forwardfor
 timeout connect 5s
 timeout client 600s
 timeout server 600s
 timeout tunnel 600s
frontend all
 bind {bind} backlog 4096
 http-request set-header X-Forwarded-Proto http
{frontend}{backends}",
        dir.display()
    )
}

/// A backend with what each of its servers is.
pub fn backend(name: &str, servers: &[String]) -> String {
    let mut text = format!("backend {name}\n balance roundrobin\n http-reuse always\n");
    for (at, server) in servers.iter().enumerate() {
        let _ = writeln!(text, " server s{} {server}", at + 1);
    }
    text
}

/// Starts it with one thread.
pub(super) fn start(job: &Job<'_>) -> anyhow::Result<Child> {
    let mut bind = format!("127.0.0.1:{}", job.port);
    if let Some(tls) = job.tls {
        let pem = job.write("haproxy.pem", &(tls.certificate.clone() + &tls.key))?;
        let _ = write!(bind, " ssl crt {pem} ssl-min-ver TLSv1.3");
    } else if job.shape != Shape::Http1 {
        bind.push_str(" proto h2");
    }
    let frontend = match job.table {
        Some(table) => {
            let map = job.write("haproxy.map", &map(table))?;
            format!(" use_backend %[base,map_beg({map})]\n")
        }
        None => " default_backend origin\n".to_owned(),
    };
    let protocol = if job.is_to_http2() { " proto h2" } else { "" };
    let origin = format!("127.0.0.1:{}{protocol}", job.origin);
    let backends = backend("origin", &[origin]);
    let text = frame(job.dir, 1, &bind, &frontend, &backends);
    let file = job.write("haproxy.cfg", &text)?;
    super::start(job.cpu, "haproxy", &["-db", "-f", &file])
}

/// Host and path in one text, as `base` is.
fn map(table: Table) -> String {
    let mut text = String::new();
    for host in 0..table.hosts {
        for route in 0..table.routes {
            let (host, path) = (Table::host(host), Table::path(route));
            let _ = writeln!(text, "{host}{path} origin");
        }
    }
    text
}
