//! The question as a call of `envoy.service.auth.v3.Authorization/Check`.
//!
//! Each thread has a connection of its own per endpoint, shared by its questions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderValue, Request, Version};
use routing::Backend;
use routing::model::tls::UpstreamTls;
use routing::model::{ExternalAuthorization, Protocol};
use tokio::net::TcpStream;

use super::{Question, Verdict, wire};
use crate::rare::rare;
use crate::tls;
use crate::transport::Transport;
use crate::worker::Worker;

const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Bytes of an answer.
const LARGEST: usize = 256 * 1024;
/// Endpoints with a connection, per thread; forgotten all at once when there are more.
const MOST: usize = 256;

/// Connections of one thread.
#[derive(Debug, Default)]
pub(crate) struct Clients(RefCell<HashMap<Peer, SendRequest<Bytes>>>);

/// Where a connection leads, and who was verified to be there.
type Peer = (SocketAddr, Option<Arc<UpstreamTls>>);

impl Clients {
    fn held(&self, peer: &Peer) -> Option<SendRequest<Bytes>> {
        self.0.borrow().get(peer).cloned()
    }

    fn forget(&self, peer: &Peer) {
        self.0.borrow_mut().remove(peer);
    }

    fn hold(&self, peer: Peer, client: SendRequest<Bytes>) {
        let mut held = self.0.borrow_mut();
        if held.len() >= MOST {
            held.clear();
        }
        held.insert(peer, client);
    }
}

pub(super) async fn ask(
    worker: &Rc<Worker>,
    backend: &Arc<Backend>,
    external: &ExternalAuthorization,
    question: &Question,
) -> Result<Verdict, String> {
    let slot = worker.activator.acquire(backend).await;
    let slot = slot.map_err(|error| error.to_string())?;
    let endpoint = slot.endpoint().address;
    let peer = (endpoint, backend.tls.clone());
    let context = external.context.iter();
    let context = context.map(|(key, value)| (&**key, &**value));
    let time = std::time::Duration::from_secs_f64(worker.guards.wall_clock());
    let message = framed(&wire::request(question, context, time));
    if let Some(client) = worker.authorizers.held(&peer) {
        match call(client, &message).await {
            Ok(answer) => return wire::response(&answer),
            Err(Failed::Answer(why)) => return Err(why),
            // The connection has ended since.
            Err(Failed::Connection(_)) => worker.authorizers.forget(&peer),
        }
    }
    let client = rare(connect(worker, backend, endpoint)).await?;
    worker.authorizers.hold(peer.clone(), client.clone());
    match call(client, &message).await {
        Ok(answer) => wire::response(&answer),
        Err(Failed::Answer(why) | Failed::Connection(why)) => {
            worker.authorizers.forget(&peer);
            Err(why)
        }
    }
}

async fn connect(
    worker: &Worker,
    backend: &Backend,
    endpoint: SocketAddr,
) -> Result<SendRequest<Bytes>, String> {
    let text = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect(endpoint).await.map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let stream = match &backend.tls {
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
            tracing::debug!(%endpoint, %error, "a connection for authorization failed");
        }
    });
    Ok(client)
}

enum Failed {
    /// The connection may not have been there any more.
    Connection(String),
    Answer(String),
}

async fn call(client: SendRequest<Bytes>, message: &Bytes) -> Result<Vec<u8>, Failed> {
    let lost = |error: h2::Error| Failed::Connection(error.to_string());
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::builder()
        .scheme("http")
        .authority("authorization")
        .path_and_query(PATH)
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

/// The first message. An empty answer is an empty message, which allows.
fn unframed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?) as usize;
    (head[0] == 0).then(|| rest.get(..length).map(<[u8]>::to_vec))?
}
