//! HTTP/3 as clients see it: those of the `h3` crate, and streams written by hand.

mod binds;
mod ends;
mod names;
mod raw;
mod requests;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::{HeaderMap, Request, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use routing::model::Action;
use rustls::ClientConfig;

use super::tls::{Authority, teapot, termination};
use super::{Gateway, backend, settings};
use crate::Limits;

// Ends with its test; there is nothing to drain.
#[allow(clippy::disallowed_methods)]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(future)
}

/// A gateway that serves HTTP/3, and who signs its certificates.
struct Http3 {
    gateway: Gateway,
    authority: Authority,
}

impl Http3 {
    /// Sends host `a` to this HTTP/1.1 endpoint.
    async fn to(endpoint: SocketAddr) -> Self {
        let mut it = Self::with(Limits::STANDARD, 1).await;
        it.gateway.serve(backend("b", &[endpoint]));
        it
    }

    async fn with(limits: Limits, threads: usize) -> Self {
        let mut with = settings(limits, threads, None);
        with.http3 = true;
        Self::of(Gateway::of(with).await)
    }

    fn of(mut gateway: Gateway) -> Self {
        let authority = Authority::new();
        gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
        gateway.route("a", Action::Respond(teapot()));
        Self { gateway, authority }
    }

    async fn client(&self) -> Client {
        let connected = connect(self.gateway.secure, "a", self.authority.client()).await;
        Client::new(connected.expect("a handshake")).await
    }

    async fn connection(&self) -> quinn::Connection {
        let connected = connect(self.gateway.secure, "a", self.authority.client()).await;
        connected.expect("a handshake").1
    }
}

/// A QUIC connection, and the socket that it is on.
async fn connect(
    address: SocketAddr,
    name: &str,
    mut config: ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = QuicClientConfig::try_from(config).expect("TLS 1.3");
    let config = quinn::ClientConfig::new(Arc::new(config));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = quinn::Endpoint::client(any).expect("a free port");
    let connecting = endpoint.connect_with(config, address, name);
    let connection = connecting.expect("an address").await?;
    Ok((endpoint, connection))
}

/// A client of the `h3` crate.
struct Client {
    endpoint: quinn::Endpoint,
    quic: quinn::Connection,
    send: SendRequest<OpenStreams, Bytes>,
}

type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    async fn new((endpoint, quic): (quinn::Endpoint, quinn::Connection)) -> Self {
        let connection = h3_quinn::Connection::new(quic.clone());
        let (mut driver, send) = h3::client::new(connection).await.expect("HTTP/3");
        spawn(async move {
            std::future::poll_fn(|cx| driver.poll_close(cx)).await;
        });
        Self {
            endpoint,
            quic,
            send,
        }
    }

    async fn begin(&mut self, request: Request<()>) -> Stream {
        self.send.send_request(request).await.expect("a stream")
    }

    async fn ask(&mut self, request: Request<()>, body: Option<Bytes>) -> Answer {
        let mut stream = self.begin(request).await;
        if let Some(body) = body {
            stream.send_data(body).await.expect("taken");
        }
        stream.finish().await.expect("a stream");
        answer(&mut stream).await
    }

    async fn get(&mut self) -> Answer {
        self.ask(get("https://a/"), None).await
    }
}

fn get(url: &str) -> Request<()> {
    Request::get(url).body(()).expect("a request")
}

fn post(url: &str) -> Request<()> {
    Request::post(url).body(()).expect("a request")
}

async fn answer(stream: &mut Stream) -> Answer {
    let head = stream.recv_response().await.expect("an answer");
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await.expect("a complete body") {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    let trailers = stream.recv_trailers().await.expect("a complete body");
    Answer {
        status: head.status(),
        headers: head.headers().clone(),
        body,
        trailers,
    }
}
