//! The same under TLS: handshakes and records, of clients and of backends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

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
use super::super::tls::{Authority, server_config, teapot, termination};
use super::super::{GET, Gateway, SHORT, backend};

/// A socket that pauses after so many written bytes, once.
struct Cut {
    socket: TcpStream,
    left: usize,
    pause: Option<Pin<Box<Sleep>>>,
    /// Bytes written in all.
    written: usize,
}

impl Cut {
    fn new(socket: TcpStream, at: usize) -> Self {
        socket.set_nodelay(true).expect("a socket");
        Self {
            socket,
            left: at,
            pause: Some(Box::pin(sleep(SHORT))),
            written: 0,
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
        let count = ready!(Pin::new(&mut this.socket).poll_write(cx, &data[..most]))?;
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

#[tokio::test]
async fn what_a_backend_sends_under_tls_may_be_cut_anywhere() {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let authority = Authority::new();
        let (address, accepted) = cutting(&authority).await;
        let mut gateway = Gateway::start().await;
        gateway.serve(Backend {
            tls: Some(Arc::new(UpstreamTls {
                server_name: "backend.example".into(),
                accepted_names: vec!["backend.example".into()],
                trust: Trust::Bundle(authority.bundle()),
                client: None,
                versions: TlsVersions {
                    min: version,
                    max: version,
                },
                crypto: Crypto::ANY,
            })),
            ..backend("b", &[address])
        });
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
