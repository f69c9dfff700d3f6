//! The same under TLS: handshakes and records, of clients and of backends.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::join_all;
use routing::model::tls::{TlsVersion, TlsVersions, Trust, UpstreamTls};
use routing::model::{Action, Backend, Crypto};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::http2::spawn;
use super::super::tls::{Authority, connect, server_config, teapot, termination};
use super::super::{GET, Gateway, SHORT, backend};

/// Until something that must happen at once counts as not happening.
const LONG: Duration = Duration::from_secs(20);

/// A socket that pauses after so many written bytes, once.
struct Cut {
    socket: TcpStream,
    left: usize,
    pause: Option<Pin<Box<Sleep>>>,
    /// Bytes written in all.
    written: usize,
    /// The byte of them that arrives as another one.
    flipped: Option<usize>,
}

impl Cut {
    fn new(socket: TcpStream, at: usize) -> Self {
        socket.set_nodelay(true).expect("a socket");
        Self {
            socket,
            left: at,
            pause: Some(Box::pin(sleep(SHORT))),
            written: 0,
            flipped: None,
        }
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut most = data.len();
        if let Some(pause) = &mut this.pause {
            if this.left > 0 {
                // It begins when the part before it has been written.
                pause.as_mut().reset(Instant::now() + SHORT);
                most = most.min(this.left);
            } else {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
        }
        let mut data = Cow::Borrowed(&data[..most]);
        let place = this.flipped.and_then(|at| at.checked_sub(this.written));
        if let Some(byte) = place.filter(|at| *at < data.len()) {
            data.to_mut()[byte] ^= 1;
        }
        let count = ready!(Pin::new(&mut this.socket).poll_write(cx, &data))?;
        this.left = this.left.saturating_sub(count);
        this.written += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Asks over TLS with what is sent cut there. Returns how much that was.
async fn ask_cut(address: SocketAddr, connector: &TlsConnector, at: usize) -> usize {
    let socket = TcpStream::connect(address).await.expect("connects");
    let name = ServerName::try_from("a").expect("a name");
    let stream = connector.connect(name, Cut::new(socket, at)).await;
    let mut stream = stream.unwrap_or_else(|error| panic!("cut at {at}: {error}"));
    // Two records, the second of them in the middle of the head.
    for part in [GET.split_at(10).0, GET.split_at(10).1] {
        stream.write_all(part.as_bytes()).await.expect("writes");
        stream.flush().await.expect("writes");
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"teapot") {
        let count = stream.read_buf(&mut answer).await;
        assert!(count.is_ok_and(|count| count > 0), "cut at {at}");
    }
    assert!(answer.starts_with(b"HTTP/1.1 418"), "cut at {at}");
    stream.get_ref().0.written
}

#[tokio::test]
async fn what_a_client_sends_under_tls_may_be_cut_anywhere() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let mut gateway = Gateway::start().await;
        gateway.route("a", Action::Respond(teapot()));
        gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let connector = TlsConnector::from(authority.client_with(&[version], provider));
        let whole = ask_cut(gateway.secure, &connector, usize::MAX).await;
        assert!(whole > 200 + GET.len(), "{version:?}: {whole}");
        let cuts = (1..whole).map(|at| ask_cut(gateway.secure, &connector, at));
        join_all(cuts).await;
    }
}

/// A server whose connections each answer one request, with how much they have sent until then.
/// What the first one sends is cut after its first byte, the second one's after two and so on.
async fn cutting(authority: &Authority) -> (SocketAddr, Arc<AtomicUsize>) {
    let config = server_config(&authority.issue(&["backend.example"]));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let at = count.fetch_add(1, Ordering::SeqCst) + 1;
            let acceptor = acceptor.clone();
            spawn(async move {
                let stream = acceptor.accept(Cut::new(socket, at)).await;
                let mut stream = stream.unwrap_or_else(|error| panic!("cut at {at}: {error}"));
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let count = stream.read_buf(&mut request).await;
                    assert!(count.is_ok_and(|count| count > 0), "cut at {at}");
                }
                let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n";
                stream.write_all(head).await.expect("writes");
                stream.flush().await.expect("writes");
                let body = format!("{:9}", stream.get_ref().0.written);
                stream.write_all(body.as_bytes()).await.expect("writes");
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, accepted)
}

fn behind_tls(
    authority: &Authority,
    address: SocketAddr,
    (min, max): (TlsVersion, TlsVersion),
) -> Backend {
    Backend {
        tls: Some(Arc::new(UpstreamTls {
            server_name: "backend.example".into(),
            accepted_names: vec!["backend.example".into()],
            trust: Trust::Bundle(authority.bundle()),
            client: None,
            versions: TlsVersions { min, max },
            crypto: Crypto::ANY,
        })),
        ..backend("b", &[address])
    }
}

#[tokio::test]
async fn what_a_backend_sends_under_tls_may_be_cut_anywhere() {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let authority = Authority::new();
        let (address, accepted) = cutting(&authority).await;
        let mut gateway = Gateway::start().await;
        gateway.serve(behind_tls(&authority, address, (version, version)));
        let ask = async || {
            let answer = testkit::http::ask(gateway.address, GET).await;
            assert_eq!(answer.status(), 200, "{answer:?}");
            let sent = answer.text().trim().parse::<usize>();
            sent.expect("a number")
        };
        let mut whole = ask().await;
        assert!(whole > 500, "{version:?}: {whole}");
        // Sessions are resumed then, so less is sent.
        whole = ask().await;
        join_all((2..whole).map(|_| ask())).await;
        assert_eq!(
            accepted.load(Ordering::SeqCst),
            whole,
            "none was tried again"
        );
    }
}

/// Bytes of which each says where it belongs.
fn pattern(length: usize) -> Vec<u8> {
    let at = (0..length).map(|at| (at % 251) as u8 ^ (at / 4096) as u8);
    at.collect()
}

/// A server behind TLS that answers with the body that it got, and how often that was.
async fn returning(authority: &Authority, length: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let config = server_config(&authority.issue(&["backend.example"]));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            spawn(async move {
                let mut stream = acceptor.accept(socket).await.expect("a handshake");
                let mut all = Vec::new();
                let begin = loop {
                    if stream.read_buf(&mut all).await.unwrap_or(0) == 0 {
                        return;
                    }
                    let head = all.windows(4).position(|four| four == b"\r\n\r\n");
                    if let Some(head) = head {
                        break head + 4;
                    }
                };
                while all.len() < begin + length {
                    if stream.read_buf(&mut all).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                count.fetch_add(1, Ordering::SeqCst);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.expect("writes");
                stream.write_all(&all[begin..]).await.expect("writes");
                stream.flush().await.expect("writes");
                // Who is not read yet keeps the connection.
                let _ = stream.read_u8().await;
            });
        }
    });
    (address, answered)
}

/// A gateway that ends TLS of host `a` and sends over TLS to this server.
async fn between(authority: &Authority, server: SocketAddr) -> Gateway {
    let mut gateway = Gateway::start().await;
    let versions = (TlsVersion::V1_2, TlsVersion::V1_3);
    gateway.serve(behind_tls(authority, server, versions));
    gateway.terminate("a", termination(vec![authority.issue(&["a"])]));
    gateway
}

#[tokio::test]
async fn long_bodies_arrive_whole_under_tls_on_both_sides() {
    // Records of several sizes: of one part each, and none that fit what is read at once.
    for (length, part) in [(3_000_000, 1 << 20), (300_001, 4096), (100_003, 997)] {
        let authority = Authority::new();
        let (server, answered) = returning(&authority, length).await;
        let gateway = between(&authority, server).await;
        let config = Arc::new(authority.client());
        let stream = connect(&gateway, "a", &config).await;
        let (mut read, mut write) = tokio::io::split(stream.expect("a handshake"));
        let body = pattern(length);
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let send = async {
            write.write_all(head.as_bytes()).await.expect("writes");
            for part in body.chunks(part) {
                write.write_all(part).await.expect("writes");
                write.flush().await.expect("writes");
            }
        };
        let receive = async {
            // Nothing is taken for a while, so that the gateway has to wait as well.
            sleep(SHORT * 4).await;
            let mut answer = Vec::new();
            while !answer.ends_with(&body[length - 64..]) || answer.len() < length {
                let count = read.read_buf(&mut answer).await;
                assert!(count.is_ok_and(|count| count > 0), "{}", answer.len());
            }
            answer
        };
        let ((), answer) = tokio::join!(send, receive);
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        assert!(answer.ends_with(&body), "{length} in parts of {part}");
        assert_eq!(answered.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_broken_record_in_a_long_body_ends_both_sides() {
    let length = 400_000;
    let authority = Authority::new();
    let (server, answered) = returning(&authority, length).await;
    let gateway = between(&authority, server).await;
    let mut config = authority.client();
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    for at in [5_000, 30_000, 70_000, 150_000, 390_000] {
        let socket = TcpStream::connect(gateway.secure).await.expect("connects");
        let name = ServerName::try_from("a").expect("a name");
        let mut broken = Cut::new(socket, usize::MAX);
        broken.flipped = Some(at);
        let mut stream = connector.connect(name, broken).await.expect("a handshake");
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        // It may be over before all is written.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(&pattern(length)).await;
        let _ = stream.flush().await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
        ended.expect("the connection ends").err();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "broken at {at}");
    }
    assert_eq!(answered.load(Ordering::SeqCst), 0);
}
