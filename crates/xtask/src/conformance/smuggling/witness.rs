//! Who writes down what went over a hop: an origin that keeps what it read, and a tap between two
//! programs that keeps the bytes.
//!
//! Cases run one after the other, so what is seen belongs to the case that is running.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::message::{self, Carried, First, Request};

/// A list that several threads write.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<Vec<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    pub(super) fn push(&self, one: T) {
        self.with(|list| list.push(one));
    }

    /// Whether there are so many.
    pub(super) fn has(&self, count: usize) -> bool {
        self.with(|list| list.len() >= count)
    }

    /// Everything since the last time.
    pub(super) fn take(&self) -> Vec<T> {
        self.with(std::mem::take)
    }

    fn with<R>(&self, act: impl FnOnce(&mut Vec<T>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an origin read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Request(Request),
    Bad(&'static str),
}

/// Starts an origin that answers each request with its target.
pub(super) fn origin() -> anyhow::Result<(SocketAddr, Arc<Kept<Seen>>)> {
    let seen = Arc::new(Kept::default());
    let kept = Arc::clone(&seen);
    let address = listen(move |stream| {
        // The peer may be gone.
        let _ = answer(stream, &kept);
    })?;
    Ok((address, seen))
}

fn answer(mut stream: TcpStream, seen: &Kept<Seen>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut part = vec![0; 64 * 1024];
    let mut is_asked = false;
    loop {
        match message::first(&bytes) {
            First::Partial => {
                if !is_asked && expects(&bytes) {
                    is_asked = true;
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                match stream.read(&mut part)? {
                    0 => return Ok(()),
                    count => bytes.extend_from_slice(&part[..count]),
                }
            }
            First::Whole(request, len) => {
                bytes.drain(..len);
                is_asked = false;
                let target = request.target.clone();
                seen.push(Seen::Request(request));
                // At once: parts would wait for each other's acknowledgements.
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nX-Seen: {target}\r\nContent-Length: {}\r\n\r\n{target}",
                    target.len()
                );
                stream.write_all(answer.as_bytes())?;
            }
            First::Bad(why) => {
                seen.push(Seen::Bad(why));
                return stream.write_all(
                    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                );
            }
        }
    }
}

fn expects(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    text.split_once("\r\n\r\n")
        .is_some_and(|(head, _)| head.contains("\r\nexpect: 100-continue"))
}

/// Keeps what a server on Go's `net/http` says of the requests that it read.
pub(super) fn told(lines: impl Read + Send + 'static) -> Arc<Kept<Seen>> {
    let seen = Arc::new(Kept::default());
    let kept = Arc::clone(&seen);
    // Ends with the server.
    std::thread::spawn(move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
                continue;
            };
            let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
            kept.push(Seen::Request(Request {
                target: text("target"),
                fields: vec![("host".into(), text("host"))],
                length: said["length"].as_u64().unwrap_or_default() as usize,
                trailers: Vec::new(),
            }));
        }
    });
    seen
}

/// Bytes of one connection through a tap, towards the server.
type Line = Arc<Mutex<Vec<u8>>>;

/// See [`tap`].
#[derive(Debug, Default)]
pub(super) struct Tap {
    lines: Kept<Line>,
}

impl Tap {
    /// What each connection carried since the last time, where it carried anything.
    pub(super) fn take(&self) -> Vec<Carried> {
        let lines = self.lines.with(|lines| lines.clone());
        let taken = lines
            .iter()
            .map(|line| std::mem::take(&mut *line.lock().unwrap_or_else(PoisonError::into_inner)));
        taken
            .filter(|bytes| !bytes.is_empty())
            .map(|bytes| message::all(&bytes))
            .collect()
    }
}

/// Passes on connections to `server`, and keeps what goes there.
pub(super) fn tap(server: SocketAddr) -> anyhow::Result<(SocketAddr, Arc<Tap>)> {
    let tap = Arc::new(Tap::default());
    let kept = Arc::clone(&tap);
    let address = listen(move |client| {
        let _ = pass(&client, server, &kept);
        let _ = client.shutdown(Shutdown::Both);
    })?;
    Ok((address, tap))
}

fn pass(client: &TcpStream, server: SocketAddr, tap: &Tap) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let line = Line::default();
    tap.lines.push(Arc::clone(&line));
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let back = std::thread::spawn(move || copy(&to, &from, |_| {}));
    copy(client, &server, |part| {
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        line.extend_from_slice(part);
    });
    let _ = back.join();
    Ok(())
}

/// Until one of them ends; then the other does, in this direction.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut part = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut part) {
        keep(&part[..count]);
        if to.write_all(&part[..count]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Serves each connection with a thread, until the process ends.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}
