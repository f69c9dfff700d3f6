//! HTTP/1.1 by hand, for tests that care about every byte: servers and clients that send what
//! they are told and show what they got.
//!
//! Nothing here is lenient or clever, and every wait ends after [`PATIENCE`], so a test that
//! waits for something that does not come fails instead of hanging.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose connections are each served by a function. Stops when dropped.
#[derive(Debug)]
pub struct RawServer {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl RawServer {
    /// Listens on a free port of the loopback.
    pub async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(RawStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(([127, 0, 0, 1], 0).into(), serve).await
    }

    /// Listens on this address.
    pub async fn start_at<F, S>(address: SocketAddr, serve: S) -> Self
    where
        S: Fn(RawStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(RawStream::new(stream)));
            }
        });
        Self {
            address,
            accepted,
            task,
        }
    }

    /// Answers every request with these bytes, as often as the client likes.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                while stream.read_message(Body::Request).await.is_some() {
                    stream.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// Answers every request with an empty 200, and keeps what the bodies hold, one after the other.
    pub async fn keeping() -> (Self, Arc<Mutex<Vec<u8>>>) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let bodies = Arc::clone(&kept);
        let server = Self::start(move |mut stream| {
            let bodies = Arc::clone(&bodies);
            async move {
                while let Some(request) = stream.read_message(Body::Request).await {
                    bodies.lock().expect("no panic").extend(request.body);
                    stream
                        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                        .await;
                }
            }
        })
        .await;
        (server, kept)
    }

    /// Answers every request with what it received, as the body of a 200.
    pub async fn echoing() -> Self {
        Self::start(|mut stream| async move {
            while let Some(request) = stream.read_message(Body::Request).await {
                stream.send(request.as_answer()).await;
            }
        })
        .await
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One end of a TCP connection.
#[derive(Debug)]
pub struct RawStream {
    stream: TcpStream,
    /// Read and not yet given out.
    buffer: Vec<u8>,
}

/// A message as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Request or status line.
    pub start: String,
    /// Names as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// How the end of a message is found when its head does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    Request,
    /// It ends with the connection.
    Answer,
    /// There is none whatever the head says.
    AnswerToHead,
}

impl Message {
    /// The value of a header that must be there at most once.
    ///
    /// # Panics
    /// If it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} is there twice in {self:?}");
        values.into_iter().next()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The status of an answer; 0 for a request.
    pub fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Start line, headers, empty line and body, with plain line ends.
    pub fn dump(&self) -> String {
        let lines = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"));
        format!(
            "{}\n{}\n{}",
            self.start,
            lines.collect::<String>(),
            self.text()
        )
    }

    /// A 200 whose body is [`Self::dump`].
    pub fn as_answer(&self) -> Vec<u8> {
        let body = self.dump();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

impl RawStream {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Connects as a client.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("somebody listens"))
    }

    /// The socket, and what was received and not yet given out: for tests of other protocols.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }

    /// Sends bytes; a peer that is gone is no error here.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = patient(self.stream.write_all(bytes.as_ref())).await;
    }

    /// Sends bytes and says whether the peer's kernel took them.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        patient(self.stream.write_all(bytes.as_ref())).await
    }

    /// Ends the sending direction.
    pub async fn end(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes with a reset.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// What was received and not yet given out.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads once; `false` at the end of the stream or after a reset.
    async fn more(&mut self) -> bool {
        let mut part = vec![0; 64 * 1024];
        match patient(self.stream.read(&mut part)).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&part[..count]);
                true
            }
        }
    }

    /// Exactly this many bytes; `None` if the peer ends before.
    pub async fn read_exact(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Everything until the peer ends.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits for the peer to close, dropping what it still sends.
    pub async fn closed(&mut self) {
        self.read_to_end().await;
    }

    /// Whether the stream ended by a reset.
    pub async fn was_reset(&mut self) -> bool {
        let mut part = vec![0; 64 * 1024];
        loop {
            match patient(self.stream.read(&mut part)).await {
                Ok(0) => return false,
                Ok(_) => {}
                Err(_) => return true,
            }
        }
    }

    async fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).expect("heads are ASCII in tests"));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn read_fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').expect("a field has a colon");
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The head of the next message, without its body.
    pub async fn read_head(&mut self) -> Option<Message> {
        let start = self.read_line().await?;
        let headers = self.read_fields().await?;
        Some(Message {
            start,
            headers,
            ..Message::default()
        })
    }

    /// The next message; `None` if the peer ends before it is complete.
    pub async fn read_message(&mut self, body: Body) -> Option<Message> {
        let mut message = self.read_head().await?;
        let status = message.status();
        let is_answer = body != Body::Request;
        if body == Body::AnswerToHead || is_answer && (status < 200 || matches!(status, 204 | 304))
        {
            return Some(message);
        }
        if message.header("transfer-encoding").is_some() {
            (message.body, message.trailers) = self.read_chunked().await?;
        } else if let Some(length) = message.header("content-length") {
            let length = length.parse().expect("a number");
            message.body = self.read_exact(length).await?;
        } else if is_answer {
            message.body = self.read_to_end().await;
        }
        Some(message)
    }

    async fn read_chunked(&mut self) -> Option<(Vec<u8>, Vec<(String, String)>)> {
        let mut body = Vec::new();
        loop {
            let size = self.read_line().await?;
            let size = usize::from_str_radix(&size, 16).expect("a chunk size without extension");
            if size == 0 {
                return Some((body, self.read_fields().await?));
            }
            body.extend(self.read_exact(size).await?);
            assert_eq!(self.read_line().await?, "", "a chunk ends with its line");
        }
    }

    /// The next answer.
    ///
    /// # Panics
    /// If the peer ends before it is complete.
    pub async fn answer(&mut self) -> Message {
        self.read_message(Body::Answer).await.expect("an answer")
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await
    }
}

/// Sends one request on a connection of its own and reads the answer.
pub async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    RawStream::connect(address).await.ask(request).await
}

/// Waits until `condition` holds, looking again and again.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

async fn patient<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("nothing happened for {PATIENCE:?}"))
}

// Test servers end with their test; there is nothing to drain.
#[allow(clippy::disallowed_methods)]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}
