//! One request to a collector, over HTTP/1.1 or gRPC, each on a connection of its own: a batch
//! comes once a second at most. Log services get theirs as they come, on a connection that is kept.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endpoint::{Endpoint, Protocol};
use crate::export::Resolve;

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;

/// Why a collector did not take a batch.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: String,
    pub(crate) is_worth_another_try: bool,
    /// The collector asked to be left alone for so long.
    pub(crate) wait: Option<Duration>,
}

impl Refused {
    pub(crate) fn for_now(why: impl ToString) -> Self {
        Self {
            why: why.to_string(),
            is_worth_another_try: true,
            wait: None,
        }
    }

    pub(crate) fn for_good(why: impl ToString) -> Self {
        Self {
            is_worth_another_try: false,
            ..Self::for_now(why)
        }
    }
}

/// Sends one request.
pub(crate) async fn once(
    endpoint: &Endpoint,
    resolve: &Resolve,
    body: Vec<u8>,
) -> Result<(), Refused> {
    let stream = dial(endpoint, resolve).await.map_err(Refused::for_now)?;
    if !endpoint.is_secure {
        return over(endpoint, TokioIo::new(stream), body).await;
    }
    let stream = secure(endpoint, stream).await?;
    over(endpoint, TokioIo::new(stream), body).await
}

async fn secure(endpoint: &Endpoint, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
    let name = ServerName::try_from(endpoint.host.clone()).map_err(Refused::for_good)?;
    let config = match endpoint.protocol {
        Protocol::Grpc | Protocol::LogService => &*HTTP2,
        Protocol::Http | Protocol::Zipkin => &*HTTP1,
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name, stream).await;
    stream.map_err(Refused::for_now)
}

/// A connection for gRPC that is kept between requests.
#[derive(Default)]
pub(crate) struct Kept(Option<(SendRequest<Full<Bytes>>, Ending)>);

/// Whatever moves a connection on: it ends with the connection.
type Ending = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Kept {
    /// Sends one request. A connection that was kept may have ended since: then a new one is made
    /// at once.
    pub(crate) async fn bring(
        &mut self,
        endpoint: &Endpoint,
        resolve: &Resolve,
        body: Vec<u8>,
    ) -> Result<(), Refused> {
        let request = grpc_request(endpoint, &body)?;
        if let Some(kept) = self.0.take()
            && let Ok(outcome) = self.over(kept, request.clone()).await
        {
            return outcome;
        }
        let new = open(endpoint, resolve).await?;
        self.over(new, request).await?
    }

    /// What the service says, or how the connection failed, which is given up then.
    async fn over(
        &mut self,
        (mut sender, mut moving): (SendRequest<Full<Bytes>>, Ending),
        request: Request<Full<Bytes>>,
    ) -> Result<Result<(), Refused>, Refused> {
        let exchange = async {
            sender.ready().await.map_err(Refused::for_now)?;
            let answer = sender.send_request(request).await;
            Ok(grpc_outcome(answer.map_err(Refused::for_now)?).await)
        };
        let outcome = tokio::select! {
            outcome = exchange => outcome?,
            ended = &mut moving => return Err(closed(ended)),
        };
        self.0 = Some((sender, moving));
        Ok(outcome)
    }
}

async fn open(
    endpoint: &Endpoint,
    resolve: &Resolve,
) -> Result<(SendRequest<Full<Bytes>>, Ending), Refused> {
    async fn over<T>(io: T) -> Result<(SendRequest<Full<Bytes>>, Ending), Refused>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let executor = TokioExecutor::new();
        let handshake = hyper::client::conn::http2::handshake(executor, io).await;
        let (sender, connection) = handshake.map_err(Refused::for_now)?;
        Ok((sender, Box::pin(connection)))
    }
    let stream = dial(endpoint, resolve).await.map_err(Refused::for_now)?;
    if !endpoint.is_secure {
        return over(TokioIo::new(stream)).await;
    }
    over(TokioIo::new(secure(endpoint, stream).await?)).await
}

fn closed(ended: hyper::Result<()>) -> Refused {
    Refused::for_now(match ended {
        Ok(()) => "the service closed the connection".to_owned(),
        Err(error) => error.to_string(),
    })
}

fn grpc_request(endpoint: &Endpoint, body: &[u8]) -> Result<Request<Full<Bytes>>, Refused> {
    Request::post(format!("{endpoint}{}", endpoint.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(body)))
        .map_err(Refused::for_good)
}

async fn dial(endpoint: &Endpoint, resolve: &Resolve) -> std::io::Result<TcpStream> {
    match resolve(&endpoint.host) {
        Some(address) => TcpStream::connect(SocketAddr::new(address, endpoint.port)).await,
        None => TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await,
    }
}

static HTTP1: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| tls(b"http/1.1"));
static HTTP2: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| tls(b"h2"));

/// The machine's authorities are trusted; without any, every connection fails and says so.
fn tls(protocol: &[u8]) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

async fn over<T>(endpoint: &Endpoint, io: T, body: Vec<u8>) -> Result<(), Refused>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let content = match endpoint.protocol {
        Protocol::Http => Some("application/x-protobuf"),
        Protocol::Zipkin => Some("application/json"),
        Protocol::Grpc | Protocol::LogService => None,
    };
    match content {
        Some(content) => {
            let host = endpoint.to_string();
            let host = host.split_once("://").map_or("", |(_, host)| host);
            let request = Request::post(&endpoint.path)
                .header("host", host)
                .header("content-type", content)
                .body(Full::new(Bytes::from(body)))
                .map_err(Refused::for_good)?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
                .await
                .map_err(Refused::for_now)?;
            let answer = driven(connection, sender.send_request(request)).await?;
            http_outcome(answer).await
        }
        None => {
            let request = grpc_request(endpoint, &body)?;
            let executor = TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
                .await
                .map_err(Refused::for_now)?;
            let exchange = async {
                let answer = sender.send_request(request).await;
                grpc_outcome(answer.map_err(Refused::for_now)?).await
            };
            tokio::select! {
                outcome = exchange => outcome,
                ended = connection => Err(closed(ended)),
            }
        }
    }
}

/// An answer over HTTP/1.1, its body read.
async fn driven(
    connection: impl Future<Output = hyper::Result<()>>,
    sending: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<Response<Bytes>, Refused> {
    let exchange = async {
        let (head, body) = sending.await.map_err(Refused::for_now)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(Refused::for_now)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            // The answer may end with the connection.
            Ok(()) => exchange.await,
            Err(error) => Err(Refused::for_now(error)),
        },
    }
}

/// Which answers are worth another try: OTLP, "OTLP/HTTP Response", "Retryable Response Codes".
async fn http_outcome(answer: Response<Bytes>) -> Result<(), Refused> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text: String = String::from_utf8_lossy(answer.body())
        .chars()
        .take(200)
        .collect();
    let is_worth_another_try = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    Err(Refused {
        why: format!("the collector answered {status}: {text}"),
        is_worth_another_try,
        wait: retry_after(answer.headers()),
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A message with gRPC's prefix: not compressed, and its length.
fn framed(body: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    // A batch is bounded far below 4 GiB.
    framed.put_u32(body.len() as u32);
    framed.put_slice(body);
    framed.freeze()
}

async fn grpc_outcome(answer: Response<Incoming>) -> Result<(), Refused> {
    let (head, body) = answer.into_parts();
    if head.status != StatusCode::OK {
        let why = format!("the collector answered {}", head.status);
        return Err(Refused::for_now(why));
    }
    let collected = Limited::new(body, MAX_ANSWER).collect().await;
    let collected = collected.map_err(Refused::for_now)?;
    let trailers = collected.trailers().unwrap_or(&head.headers);
    let field = |name: &str| Some(trailers.get(name)?.to_str().ok()?.to_owned());
    let status: Option<u8> = field("grpc-status").and_then(|text| text.parse().ok());
    match status {
        Some(0) => Ok(()),
        // OTLP, "OTLP/gRPC Response", "Failures": these may be tried again.
        Some(code @ (1 | 4 | 10 | 11 | 14 | 15 | 8)) => Err(Refused::for_now(format!(
            "gRPC status {code}: {}",
            field("grpc-message").unwrap_or_default()
        ))),
        Some(code) => Err(Refused::for_good(format!(
            "gRPC status {code}: {}",
            field("grpc-message").unwrap_or_default()
        ))),
        None => Err(Refused::for_now("the collector sent no gRPC status")),
    }
}
