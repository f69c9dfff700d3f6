//! What is sent again and what is not, as a backend sees it that drops connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Server;
use crate::gateway_policies::{address, answered, gateway, manifest, route, service};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// A backend that reads a request and hangs up, unless it is in a good mood.
struct Moody {
    address: SocketAddr,
    /// Requests to hang up on from now on.
    bad: Arc<AtomicUsize>,
    /// Requests that came.
    seen: Arc<AtomicUsize>,
}

impl Moody {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (bad, seen) = (Arc::default(), Arc::default());
        let moody = Self { address, bad, seen };
        let (bad, seen) = (Arc::clone(&moody.bad), Arc::clone(&moody.seen));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                seen.fetch_add(1, Ordering::SeqCst);
                let less = |bad: usize| bad.checked_sub(1);
                let is_bad = bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
                if is_bad.is_err() {
                    // A client that goes away is not the test's concern.
                    drop(stream.write_all(OK).await);
                }
            }
        });
        Ok(moody)
    }

    /// The status of one request that finds it in a bad mood once, and how often it came.
    async fn once_bad(&self, gateway: SocketAddr, method: &str) -> anyhow::Result<(u16, usize)> {
        self.bad.store(1, Ordering::SeqCst);
        self.seen.store(0, Ordering::SeqCst);
        let mut stream = TcpStream::connect(gateway).await?;
        let request =
            format!("{method} / HTTP/1.1\r\nhost: any.example\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).context("no status")?.parse()?;
        self.bad.store(0, Ordering::SeqCst);
        Ok((status, self.seen.load(Ordering::SeqCst)))
    }
}

/// A rule that tries once more.
fn retrying() -> Value {
    json!({
        "backendRefs": [{"name": "moody", "port": 8000}],
        "retry": {"attempts": 1, "backoff": "1ms"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_may_have_acted_on_is_sent_again_if_that_changes_nothing()
-> anyhow::Result<()> {
    const PORT: u16 = 18_171;
    let server = Server::start().await?;
    let moody = Moody::start().await?;
    let parent = json!({"name": "edge"});
    let objects = [
        service("moody", &[moody.address]),
        gateway(PORT, &Value::Null),
        route("web", &parent, &retrying()),
    ];
    server.apply(&objects.concat()).await?;
    let edge = address(&server, PORT).await?;
    answered(&server, edge, "any.example", 200).await?;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(moody.once_bad(edge, method).await?, (200, 2), "{method}");
    }
    for method in ["POST", "PATCH"] {
        assert_eq!(moody.once_bad(edge, method).await?, (502, 1), "{method}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_service_that_names_reset_has_everything_sent_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let moody = Moody::start().await?;
    let objects = |on: &str| {
        let gateway = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{
                    "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                    "hosts": ["*.example"],
                }],
            },
        });
        let service_of = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "web"},
            "spec": {
                "hosts": ["any.example"], "gateways": ["edge"],
                "http": [{
                    "route": [{"destination": {"host": "moody", "port": {"number": 8000}}}],
                    "retries": {"attempts": 1, "retryOn": on},
                }],
            },
        });
        service("moody", &[moody.address]) + &manifest(&[gateway, service_of])
    };
    server.apply(&objects("reset")).await?;
    let gateway = server.gateway;
    answered(&server, gateway, "any.example", 200).await?;
    assert_eq!(moody.once_bad(gateway, "POST").await?, (200, 2));
    // Connections that cannot be opened are another matter.
    server.apply(&objects("connect-failure")).await?;
    let wait = || async {
        let found = moody.once_bad(gateway, "POST").await?;
        Ok((found == (502, 1)).then_some(()))
    };
    server.eventually("nothing is sent again", wait).await
}
