//! A program that runs inside pods under test: it shows what the pod gave it, and speaks gRPC and
//! WebSocket so that tests see what the gateway does with them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /file/PATH` | the content of `/PATH`, or 404 with the error |
//! | `GET /mode/PATH` | its permission bits in octal |
//! | `GET /write/PATH` | 200 when a file could be made there, else 403 with the error |
//! | `GET /env/NAME` | the variable, or 404 |
//! | `GET /fetch/HOST:PORT/PATH` | what `http://HOST:PORT/PATH` answers, or 502 with the error |
//! | `GET /delay/SECONDS` | 200 after so long |
//! | `GET /head` | the head of the request as it came |
//! | `GET /status/CODE` | that status |
//! | `GET /break/` | 200, and 500 to everything else from then on |
//! | `GET /weatherforecast` | a JSON array |
//! | `GET /left`, `GET /right`, and below | the name of the Deployment that runs it |
//! | WebSocket handshake | each message comes back |
//! | gRPC `grpc.health.v1.Health/Check` | `SERVING` |
//! | any other gRPC method | each message comes back as it arrives, then `grpc-status: 0` |
//! | `echo TEXT` without HTTP | `NAME TEXT`, line by line, with the variable `NAME` |
//! | a datagram at the same port | the same |
//!
//! With the variable `SPEAKS` it speaks `http1` or `h2c` alone, and ends connections that begin with
//! the other.
//!
//! `guest exists PATH` ends with 0 when the file is there: an exec probe.

#![allow(clippy::disallowed_methods)] // A program of its own: it reads its environment and spawns.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// First bytes of an HTTP/2 connection (RFC 9113 §3.4), as far as they are needed to know it.
const HTTP2: &[u8] = b"PRI * HTTP/2";
/// First bytes of a connection that is no HTTP.
const ECHO: &str = "echo ";
/// Whether it was asked to fail.
static BROKEN: AtomicBool = AtomicBool::new(false);
/// Longest head of a request, in bytes.
const HEAD: usize = 16 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("exists") {
        let path = arguments.next().context("which file?")?;
        let there = std::fs::metadata(&path).is_ok();
        return Ok(if there {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    // Without PORT as a web server would, if it may.
    let listener = match std::env::var("PORT") {
        Ok(port) => TcpListener::bind(format!("0.0.0.0:{port}")).await?,
        Err(_) => match TcpListener::bind("0.0.0.0:80").await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("0.0.0.0:8080").await?,
        },
    };
    // Somebody else on the machine may have it, and then nobody asks for it here.
    if let Ok(socket) = UdpSocket::bind(listener.local_addr()?).await {
        tokio::spawn(datagrams(socket));
    }
    match serve(listener).await? {}
}

/// Answers datagrams.
async fn datagrams(socket: UdpSocket) {
    let mut buffer = vec![0; 65_535];
    loop {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..length]);
            let _ = socket.send_to(named(&text).as_bytes(), peer).await;
        }
    }
}

/// The answer to `echo TEXT`.
fn named(line: &str) -> String {
    let name = std::env::var("NAME").unwrap_or_default();
    format!("{name} {}", line.strip_prefix(ECHO).unwrap_or(line))
}

async fn echo(stream: TcpStream) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        stream.write_all(named(&line).as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

async fn serve(listener: TcpListener) -> anyhow::Result<Infallible> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = connection(stream).await {
                eprintln!("connection: {error:#}");
            }
        });
    }
}

/// Looks at the first bytes without taking them, and hands over.
async fn connection(stream: TcpStream) -> anyhow::Result<()> {
    let mut head = vec![0; HEAD];
    loop {
        stream.readable().await?;
        let seen = stream.peek(&mut head).await?;
        let start = &head[..seen];
        if seen == 0 {
            return Ok(());
        }
        if start.starts_with(HTTP2) {
            anyhow::ensure!(speaks("h2c"), "HTTP/2 where HTTP/1 is spoken");
            return http2(stream).await;
        }
        if start.starts_with(ECHO.as_bytes()) {
            return echo(stream).await;
        }
        if start.windows(4).any(|end| end == b"\r\n\r\n") {
            anyhow::ensure!(speaks("http1"), "HTTP/1 where HTTP/2 is spoken");
            let text = String::from_utf8_lossy(start).to_ascii_lowercase();
            return match text.contains("upgrade: websocket") {
                true => websocket(stream).await,
                false => http1(stream).await,
            };
        }
        anyhow::ensure!(seen < HEAD, "the head is too long");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn speaks(protocol: &str) -> bool {
    std::env::var("SPEAKS").map_or(true, |only| only == protocol)
}

async fn websocket(stream: TcpStream) -> anyhow::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// One request, one answer, then the connection closes.
async fn http1(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        anyhow::ensure!(stream.read_buf(&mut head).await? > 0, "a cut request");
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let (status, body) = if BROKEN.load(Ordering::SeqCst) {
        (500, "broken".to_owned())
    } else if path == "/head" {
        (200, text.to_string())
    } else if let Some(target) = path.strip_prefix("/fetch/") {
        match fetch(target).await {
            Ok(body) => (200, body),
            Err(error) => (502, format!("{error:#}")),
        }
    } else {
        if let Some(seconds) = path.strip_prefix("/delay/") {
            let seconds = seconds.parse().context("want SECONDS")?;
            tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
        }
        answer(path)
    };
    let answer = format!(
        "HTTP/1.1 {status} OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

/// The body of an answer, by a connection of its own.
async fn fetch(target: &str) -> anyhow::Result<String> {
    let (address, path) = target.split_once('/').unwrap_or((target, ""));
    let (host, _) = address.split_once(':').context("want HOST:PORT")?;
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    anyhow::ensure!(head.contains(" 200 "), "{head}");
    Ok(body.to_owned())
}

fn answer(path: &str) -> (u16, String) {
    let mut parts = path.splitn(3, '/').skip(1);
    let (what, name) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let path = format!("/{name}");
    let done = match what {
        "file" => std::fs::read_to_string(path).map_err(|error| error.to_string()),
        "mode" => std::fs::metadata(path)
            .map(|file| format!("{:o}", file.permissions().mode() & 0o7777))
            .map_err(|error| error.to_string()),
        "write" => {
            return match std::fs::write(path, "written") {
                Ok(()) => (200, String::new()),
                Err(error) => (403, error.to_string()),
            };
        }
        "env" => std::env::var(name).map_err(|error| error.to_string()),
        "status" => return (name.parse().unwrap_or(400), String::new()),
        "break" => {
            BROKEN.store(true, Ordering::SeqCst);
            Ok("broken from now on".to_owned())
        }
        "weatherforecast" => Ok("[{\"summary\":\"Mild\"}]".to_owned()),
        "left" | "right" => {
            let pod = std::env::var("HOSTNAME").unwrap_or_default();
            // A pod is called DEPLOYMENT-HASH-SUFFIX.
            Ok(pod.rsplitn(3, '-').nth(2).unwrap_or_default().to_owned())
        }
        _ => Ok("guest\n".to_owned()),
    };
    match done {
        Ok(body) => (200, body),
        Err(error) => (404, error),
    }
}

async fn http2(stream: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        tokio::spawn(async move {
            if let Err(error) = grpc(request, &mut respond).await {
                eprintln!("stream: {error:#}");
            }
        });
    }
    Ok(())
}

async fn grpc(
    request: http::Request<h2::RecvStream>,
    respond: &mut h2::server::SendResponse<Bytes>,
) -> anyhow::Result<()> {
    let health = request.uri().path() == "/grpc.health.v1.Health/Check";
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(())?;
    let mut send = respond.send_response(head, false)?;
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if !health {
            send.send_data(data, false)?;
        }
    }
    if health {
        // HealthCheckResponse { status: SERVING } in a gRPC frame.
        send.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false)?;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Ok(send.send_trailers(trailers)?)
}
