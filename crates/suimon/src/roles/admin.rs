//! The admin endpoint: metrics for Prometheus, and whether this process serves. Plain HTTP
//! without credentials, so it is on loopback only; nothing can be changed through it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lifecycle::{Shutdown, Snapshots, Stage, Tasks};
use routing::Snapshot;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at once; further ones wait.
const MOST_CONNECTIONS: usize = 64;
/// Time for a request's head.
const HEAD: Duration = Duration::from_secs(10);
const INDEX: &str = "/metrics  counters in the Prometheus text format\n\
                     /ready    200 while this process serves what the API holds, else 503\n\
                     /live     200 while this process runs\n";

/// What the endpoint tells of.
pub struct Admin {
    metrics: proxy::Metrics,
    wakes: scaling::Wakes,
    snapshots: Snapshots<Snapshot>,
    /// The one before the first real one.
    first: Arc<Snapshot>,
    is_started: AtomicBool,
    draining: Shutdown,
}

impl Admin {
    /// Serves on this socket until the API stops, so that the drain can be watched.
    pub fn start(
        listener: std::net::TcpListener,
        (metrics, wakes): (proxy::Metrics, scaling::Wakes),
        snapshots: Snapshots<Snapshot>,
        tasks: &Tasks,
    ) -> anyhow::Result<(Arc<Self>, SocketAddr)> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let admin = Arc::new(Self {
            metrics,
            wakes,
            first: snapshots.current_owned(),
            snapshots,
            is_started: AtomicBool::new(false),
            draining: tasks.shutdown(Stage::Listeners),
        });
        let served = Arc::clone(&admin);
        let mut stop = tasks.shutdown(Stage::Api);
        tasks.spawn("admin endpoint", Stage::Api, async move {
            tokio::select! {
                () = accept(listener, served) => {}
                () = stop.requested() => {}
            }
            Ok::<(), Infallible>(())
        });
        Ok((admin, address))
    }

    /// Everything was started.
    pub fn started(&self) {
        self.is_started.store(true, Ordering::Release);
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if *method != Method::GET && *method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        }
        match path {
            "/" => text(StatusCode::OK, INDEX),
            "/live" | "/livez" | "/healthz" => text(StatusCode::OK, "ok\n"),
            "/ready" | "/readyz" => match self.why_not_ready() {
                None => text(StatusCode::OK, "ok\n"),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            "/metrics" => {
                let mut body = self.metrics.render();
                self.wakes.render(&mut body);
                process(&mut body);
                let mut answer = Response::new(Full::from(body));
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                answer
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
                answer
            }
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn why_not_ready(&self) -> Option<&'static str> {
        if self.draining.is_requested() {
            return Some("draining: requests in flight are finished, no connection is accepted\n");
        }
        if !self.is_started.load(Ordering::Acquire) {
            return Some("starting\n");
        }
        let is_first = Arc::ptr_eq(&self.first, &self.snapshots.current());
        is_first.then_some("the routes of the API are not served yet\n")
    }
}

async fn accept(listener: TcpListener, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the admin endpoint cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let admin = Arc::clone(&admin);
        connections.spawn(async move {
            serve(stream, admin).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = admin.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin endpoint ended");
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer
}

/// What Prometheus' own clients tell of a process, as far as the kernel tells us.
fn process(out: &mut String) {
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "# HELP {name} Memory that is resident.\n# TYPE {name} gauge\n{name} {bytes}"
        );
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        let count = descriptors.count();
        let _ = writeln!(
            out,
            "# HELP {name} File descriptors that are open.\n# TYPE {name} gauge\n{name} {count}"
        );
    }
}

/// Memory of this process that is resident, where the system tells.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(resident_kib(&status)? * 1024)
}

/// The line `VmRSS:    1234 kB` of a process' status.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}
