//! Calls of gRPC services that guards ask on behalf of requests.
//!
//! Each thread has a connection of its own per endpoint, shared by its calls. One is opened at a
//! time, and goes on opening when who asked for it has waited long enough: a service that is far
//! away is reached by the next one, and one that cannot be reached costs one attempt, not many.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderValue, Request, Version};
use routing::Backend;
use routing::model::Protocol;
use routing::model::tls::UpstreamTls;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::backend;
use crate::rare::rare;
use crate::tls;
use crate::transport::Transport;
use crate::worker::Worker;

/// Bytes of an answer.
const LARGEST: usize = 256 * 1024;
/// Endpoints with a connection, per thread; forgotten all at once when there are more.
const MOST: usize = 256;
/// For a connection to be opened, however long its first call may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Connections of one thread.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    held: RefCell<HashMap<Peer, SendRequest<Bytes>>>,
    opening: RefCell<HashMap<Peer, watch::Receiver<Option<Opened>>>>,
}

/// Where a connection leads, and who was verified to be there.
type Peer = (SocketAddr, Option<Arc<UpstreamTls>>);

type Opened = Result<SendRequest<Bytes>, String>;

impl Clients {
    fn held(&self, peer: &Peer) -> Option<SendRequest<Bytes>> {
        self.held.borrow().get(peer).cloned()
    }

    fn forget(&self, peer: &Peer) {
        self.held.borrow_mut().remove(peer);
    }

    fn hold(&self, peer: Peer, client: SendRequest<Bytes>) {
        let mut held = self.held.borrow_mut();
        if held.len() >= MOST {
            held.clear();
        }
        held.insert(peer, client);
    }
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    /// What the service is called there.
    pub(super) authority: &'static str,
    /// `/package.Service/Method`.
    pub(super) path: &'static str,
}

/// Calls a method with a message; the message that is answered, or why there is none.
pub(super) async fn call(
    worker: &Rc<Worker>,
    backend: &Arc<Backend>,
    method: Method,
    message: &[u8],
) -> Result<Vec<u8>, String> {
    let mut backend = Arc::clone(backend);
    let slot = backend::acquire(worker, &mut backend).await;
    let slot = slot.map_err(|error| error.to_string())?;
    let peer = (slot.endpoint().address, backend.tls.clone());
    let message = framed(message);
    if let Some(client) = worker.grpc_clients.held(&peer) {
        match exchange(client, method, &message).await {
            Ok(answer) => return Ok(answer),
            Err(Failed::Answer(why)) => return Err(why),
            // The connection has ended since.
            Err(Failed::Connection(_)) => worker.grpc_clients.forget(&peer),
        }
    }
    let client = rare(open(worker, &peer)).await?;
    match exchange(client, method, &message).await {
        Ok(answer) => Ok(answer),
        Err(Failed::Answer(why)) => Err(why),
        Err(Failed::Connection(why)) => {
            worker.grpc_clients.forget(&peer);
            Err(why)
        }
    }
}

/// Waits for a new connection, which somebody else may be opening already.
async fn open(worker: &Rc<Worker>, peer: &Peer) -> Opened {
    let opening = worker.grpc_clients.opening.borrow().get(peer).cloned();
    let mut opening = opening.unwrap_or_else(|| start(worker, peer));
    match opening.wait_for(Option::is_some).await {
        Ok(opened) => opened
            .clone()
            .unwrap_or_else(|| Err("nothing was opened".to_owned())),
        Err(_) => Err("the gateway is ending".to_owned()),
    }
}

fn start(worker: &Rc<Worker>, peer: &Peer) -> watch::Receiver<Option<Opened>> {
    let (tell, told) = watch::channel(None);
    let opening = &worker.grpc_clients.opening;
    opening.borrow_mut().insert(peer.clone(), told.clone());
    let (worker, peer) = (Rc::clone(worker), peer.clone());
    tokio::task::spawn_local(async move {
        let connecting = tokio::time::timeout(LONGEST, connect(&worker, &peer));
        let opened = match connecting.await {
            Ok(opened) => opened,
            Err(_) => Err("no connection in time".to_owned()),
        };
        let clients = &worker.grpc_clients;
        clients.opening.borrow_mut().remove(&peer);
        if let Ok(client) = &opened {
            clients.hold(peer, client.clone());
        }
        // Who asked for it may have gone.
        let _ = tell.send(Some(opened));
    });
    told
}

async fn connect(worker: &Worker, (endpoint, verified): &Peer) -> Opened {
    let endpoint = *endpoint;
    let text = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect(endpoint).await.map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let stream = match verified {
        None => Transport::Plain(stream),
        Some(tls) => {
            let connecting = tls::connect(&worker.tls_clients, tls, Protocol::H2c, stream);
            Transport::tls(rare(connecting).await.map_err(text)?)
        }
    };
    let handshake = h2::client::handshake(stream).await;
    let (client, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%endpoint, %error, "a connection to a gRPC service failed");
        }
    });
    Ok(client)
}

enum Failed {
    /// The connection may not have been there any more.
    Connection(String),
    Answer(String),
}

async fn exchange(
    client: SendRequest<Bytes>,
    method: Method,
    message: &Bytes,
) -> Result<Vec<u8>, Failed> {
    let lost = |error: h2::Error| Failed::Connection(error.to_string());
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::builder()
        .scheme("http")
        .authority(method.authority)
        .path_and_query(method.path)
        .build()
        .map_err(|error| Failed::Answer(error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let mut client = client.ready().await.map_err(lost)?;
    let (response, mut stream) = client.send_request(request, false).map_err(lost)?;
    let mut response = std::pin::pin!(response);
    // A server may answer before it has read everything, and not read on.
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        _sent = send(&mut stream, message.clone()) => response.await,
    };
    let response = response.map_err(lost)?;
    let failed = |why: String| Failed::Answer(why);
    if response.status() != http::StatusCode::OK {
        return Err(failed(format!(
            "the answer has status {}",
            response.status()
        )));
    }
    let head = response.headers().clone();
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| failed(error.to_string()))?;
        if bytes.len() + data.len() > LARGEST {
            return Err(failed("the answer is too large".to_owned()));
        }
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await;
    let trailers = trailers.map_err(|error| failed(error.to_string()))?;
    let trailers = trailers.unwrap_or_default();
    let status = trailers
        .get("grpc-status")
        .or_else(|| head.get("grpc-status"));
    match status.map(HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(code) => {
            let code = String::from_utf8_lossy(code).into_owned();
            return Err(failed(format!("the answer has gRPC status {code}")));
        }
        None => return Err(failed("the answer has no gRPC status".to_owned())),
    }
    unframed(&bytes).ok_or_else(|| failed("the answer is no gRPC message".to_owned()))
}

/// Sends all of a message, as fast as the server takes it.
async fn send(stream: &mut h2::SendStream<Bytes>, mut message: Bytes) -> Result<(), h2::Error> {
    loop {
        stream.reserve_capacity(message.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(granted) => granted.map(drop)?,
                None => return Err(h2::Reason::CANCEL.into()),
            }
        }
        let part = message.split_to(stream.capacity().min(message.len()));
        let is_last = message.is_empty();
        stream.send_data(part, is_last)?;
        if is_last {
            return Ok(());
        }
    }
}

/// gRPC's frame: not compressed, and its length.
fn framed(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 5);
    out.push(0);
    out.extend_from_slice(
        &u32::try_from(message.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    out.extend_from_slice(message);
    out.into()
}

/// The first message. An empty answer is an empty message, which is valid.
fn unframed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?) as usize;
    (head[0] == 0).then(|| rest.get(..length).map(<[u8]>::to_vec))?
}
