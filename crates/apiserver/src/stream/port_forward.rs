//! Port-forward: connections to a pod's ports, many over one.
//!
//! SPDY carries a pair of streams per connection (data, error), on its own or, as newer clients
//! do, inside a WebSocket. The older WebSocket form has two channels per port named in the query.

mod channels;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use http::Response;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::session::Activity;
use super::spdy::{self, Headers};
use super::upgrade::{self, Offer};
use super::websocket::{self, Event};
use super::{BoxRead, BoxWrite, Containers, Duplex, Limits, PIECE, QUEUE, Streams};
use crate::connect::{Body, ConnectRequest};
use crate::status::Status;

/// How long a client may take to close after we did.
const LINGER: Duration = Duration::from_secs(5);
/// Ports of the older WebSocket form.
const MOST_PORTS: usize = 64;

/// What is inside a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Spdy,
    Channels,
}

const WEBSOCKET: &[(&str, Inside)] = &[
    ("SPDY/3.1+portforward.k8s.io", Inside::Spdy),
    ("v4.channel.k8s.io", Inside::Channels),
    ("portforward.k8s.io", Inside::Channels),
];
const SPDY: &[(&str, ())] = &[("portforward.k8s.io", ())];

/// What the connections of one client need.
#[derive(Clone)]
struct Job {
    containers: Arc<dyn Containers>,
    name: Arc<str>,
    pod: Arc<Value>,
    limits: Limits,
    activity: Activity,
}

type SpdyWriter = Arc<Mutex<spdy::Writer<BoxWrite>>>;

/// Answers a request for `portforward`.
pub(super) fn answer(
    streams: &Streams,
    mut request: ConnectRequest,
) -> Result<Response<Body>, Status> {
    let job = Job {
        containers: Arc::clone(&streams.containers),
        name: request.name.as_str().into(),
        pod: Arc::new(request.object.take()),
        limits: streams.limits,
        activity: Activity::new(),
    };
    let offer = upgrade::offer(&request.headers)?;
    let ports = ports(&request)?;
    let upgraded = request.upgrade()?;
    let patience = job.limits.patience;
    let (response, inside) = match &offer {
        Offer::Spdy(offered) => {
            let (protocol, ()) = upgrade::choose(offered, SPDY, Some(()))?;
            (upgrade::to_spdy(protocol)?, None)
        }
        Offer::WebSocket(offered) => {
            let (protocol, inside) = upgrade::choose(offered, WEBSOCKET, Some(Inside::Channels))?;
            if inside == Inside::Channels && ports.is_empty() {
                return Err(Status::bad_request(
                    "query parameter \"ports\" is required with this protocol",
                ));
            }
            let response = upgrade::to_websocket(&request.headers, protocol)?;
            (response, Some(inside))
        }
    };
    streams.sessions.run(async move {
        let Ok(Ok(io)) = tokio::time::timeout(patience, upgraded).await else {
            return;
        };
        let activity = job.activity.clone();
        let idle = activity.idle(job.limits.idle);
        let session: BoxFuture<'_, ()> = match inside {
            None => Box::pin(over_spdy(io, job.clone())),
            Some(Inside::Spdy) => Box::pin(tunnel(io, job.clone())),
            Some(Inside::Channels) => Box::pin(channels::serve(io, ports, job.clone())),
        };
        tokio::select! {
            () = session => {}
            () = idle => tracing::debug!(pod = &*job.name, "a port-forward was idle for too long"),
        }
    })?;
    Ok(response)
}

fn ports(request: &ConnectRequest) -> Result<Vec<u16>, Status> {
    let named = request.query.iter().filter(|(key, _)| key == "ports");
    let ports: Result<Vec<u16>, Status> = named
        .flat_map(|(_, list)| list.split(','))
        .map(|port| match port.trim().parse() {
            Ok(number @ 1..) => Ok(number),
            _ => Err(Status::bad_request(format!(
                "unable to parse \"{port}\" as a port"
            ))),
        })
        .collect();
    let ports = ports?;
    if ports.len() > MOST_PORTS {
        return Err(Status::bad_request(format!(
            "at most {MOST_PORTS} ports can be forwarded at once"
        )));
    }
    Ok(ports)
}

/// SPDY inside the binary messages of a WebSocket.
async fn tunnel(io: impl Duplex + 'static, job: Job) {
    let (near, far) = tokio::io::duplex(2 * PIECE);
    let (mut from_spdy, mut to_spdy) = tokio::io::split(far);
    let (read, write) = tokio::io::split(io);
    let mut reader = websocket::Reader::new(read);
    let writer = Mutex::new(websocket::Writer::new(Box::new(write) as BoxWrite));
    let inward = async {
        while let Ok(Some(event)) = reader.next().await {
            let moved = match event {
                Event::Data { bytes, .. } => to_spdy.write_all(&bytes).await,
                Event::Ping(bytes) => writer.lock().await.pong(&bytes).await,
                Event::Close => break,
            };
            if moved.is_err() {
                break;
            }
        }
        let _ = to_spdy.shutdown().await; // The session sees the end of its connection.
    };
    let outward = async {
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = from_spdy.read(&mut piece).await {
            let sent = writer.lock().await.binary(&[], &piece[..length]).await;
            if sent.is_err() {
                return;
            }
        }
        let _ = writer.lock().await.close().await; // The client may be gone.
    };
    let session = async {
        over_spdy(near, job).await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        _ = async { tokio::join!(inward, outward) } => {}
        () = session => {}
    }
}

/// One half of a pair that has arrived.
struct Half {
    id: u32,
    data: bool,
}

/// The way of a client's data into one forwarded connection.
struct Way {
    data: Option<mpsc::Sender<Bytes>>,
    reset: oneshot::Sender<()>,
}

async fn over_spdy(io: impl Duplex + 'static, job: Job) {
    let (read, write) = tokio::io::split(io);
    // Two streams per connection.
    let reader = spdy::Reader::new(Box::new(read) as BoxRead, 2 * job.limits.forwards);
    let writer: SpdyWriter = Arc::new(Mutex::new(spdy::Writer::new(Box::new(write) as _)));
    let (start, mut started) = mpsc::channel::<BoxFuture<'static, ()>>(QUEUE);
    let forwards = async {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(forward) = started.recv() => running.push(forward),
                Some(()) = running.next() => {}
                else => std::future::pending().await,
            }
        }
    };
    let alive = async {
        loop {
            tokio::time::sleep(job.limits.ping).await;
            if writer.lock().await.ping().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read_spdy(reader, &writer, &job, start) => {}
        () = alive => {}
        never = forwards => match never {},
    }
    let _ = writer.lock().await.close().await; // The client is gone, most likely.
}

async fn read_spdy(
    mut reader: spdy::Reader<BoxRead>,
    writer: &SpdyWriter,
    job: &Job,
    start: mpsc::Sender<BoxFuture<'static, ()>>,
) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut ways: HashMap<u32, Way> = HashMap::new();
    while let Ok(Some(event)) = reader.next(writer).await {
        match event {
            spdy::Event::Open { id, headers, .. } => {
                ways.retain(|_, way| !way.reset.is_closed());
                let full = ways.len() + halves.len() >= job.limits.forwards;
                let Some((key, half, port)) = half(id, &headers).filter(|_| !full) else {
                    if writer.lock().await.refuse(id).await.is_err() {
                        return;
                    }
                    continue;
                };
                match halves.remove(&key) {
                    Some(other) if other.data != half.data => {
                        let (data, error) = if half.data {
                            (half.id, other.id)
                        } else {
                            (other.id, half.id)
                        };
                        let (sender, received) = mpsc::channel(QUEUE);
                        let (reset, gone) = oneshot::channel();
                        let way = Way {
                            data: Some(sender),
                            reset,
                        };
                        ways.insert(data, way);
                        let forward = forward(
                            job.clone(),
                            Arc::clone(writer),
                            port,
                            (data, error),
                            (received, gone),
                        );
                        if start.send(Box::pin(forward)).await.is_err() {
                            return;
                        }
                    }
                    _ => drop(halves.insert(key, half)),
                }
            }
            spdy::Event::Data { id, bytes, ended } => {
                job.activity.touch();
                if let Some(way) = ways.get_mut(&id) {
                    if let Some(data) = way.data.as_ref().filter(|_| !bytes.is_empty()) {
                        let _ = data.send(bytes).await; // The pod may have closed.
                    }
                    if ended {
                        way.data = None;
                    }
                }
            }
            spdy::Event::Reset { id } => {
                halves.retain(|_, half| half.id != id);
                if let Some(way) = ways.remove(&id) {
                    let _ = way.reset.send(()); // It may have ended by itself.
                }
            }
            spdy::Event::GoAway => {}
        }
    }
}

/// Which pair a stream belongs to. Clients without `requestID` open the error stream just before
/// the data stream.
fn half(id: u32, headers: &Headers) -> Option<(String, Half, u16)> {
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let data = match header("streamtype")? {
        "data" => true,
        "error" => false,
        _ => return None,
    };
    let port = header("port")?.parse().ok().filter(|port| *port > 0)?;
    let key = match header("requestid") {
        Some(key) if key.len() <= 64 => key.to_owned(),
        Some(_) => return None,
        None if data => id.saturating_sub(2).to_string(),
        None => id.to_string(),
    };
    Some((key, Half { id, data }, port))
}

/// One forwarded connection, until both sides have ended or the client gives it up.
async fn forward(
    job: Job,
    writer: SpdyWriter,
    port: u16,
    (data, error): (u32, u32),
    (mut received, gone): (mpsc::Receiver<Bytes>, oneshot::Receiver<()>),
) {
    let work = async {
        let connection = match job.containers.dial(&job.pod, port).await {
            Ok(connection) => connection,
            Err(problem) => {
                let text = refused(&job, port, &problem);
                let mut writer = writer.lock().await;
                writer.data(error, text.as_bytes(), false).await?;
                // Clients wait for the end of the data before they read the error.
                return writer.data(data, &[], true).await;
            }
        };
        let (mut read, mut write) = tokio::io::split(connection);
        let up = async {
            while let Some(bytes) = received.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            let _ = write.shutdown().await; // The pod may have closed already.
        };
        let down = async {
            let mut piece = vec![0; PIECE];
            while let Ok(length @ 1..) = read.read(&mut piece).await {
                job.activity.touch();
                let mut writer = writer.lock().await;
                writer.data(data, &piece[..length], false).await?;
            }
            writer.lock().await.data(data, &[], true).await
        };
        tokio::join!(up, down).1
    };
    let told = tokio::select! {
        done = work => done.is_ok(),
        reset = gone => reset.is_ok(),
    };
    if told {
        let _ = writer.lock().await.data(error, &[], true).await; // The client may be gone.
    }
}

fn refused(job: &Job, port: u16, problem: &str) -> String {
    format!(
        "error forwarding port {port} to pod {}: {problem}",
        job.name
    )
}
