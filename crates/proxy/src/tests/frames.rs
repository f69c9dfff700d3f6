//! An HTTP/2 client and server that send single frames, right or wrong, and show what came back.

use std::net::SocketAddr;

use testkit::http::{PATIENCE, RawStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http2::frame::{self, HEAD, Head, Reason, flag, kind};
use crate::http2::{PREFACE, hpack};

/// One end of a connection.
pub(super) struct Frames {
    stream: TcpStream,
    /// Written with the next [`Self::flush`].
    pub(super) out: Vec<u8>,
    seen: Vec<u8>,
}

/// A frame that came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn is(&self, kind: u8) -> bool {
        self.head.kind == kind
    }

    pub(super) fn ends(&self) -> bool {
        matches!(self.head.kind, kind::DATA | kind::HEADERS) && self.head.has(flag::END_STREAM)
    }
}

impl Frames {
    /// A client that has said hello.
    pub(super) async fn client(address: SocketAddr) -> Self {
        let mut this = Self::silent(address).await;
        frame::settings(&mut this.out, &[]);
        this.flush().await;
        this
    }

    /// A client that has sent the preface only.
    pub(super) async fn silent(address: SocketAddr) -> Self {
        let mut this = Self::mute(address).await;
        this.out.extend_from_slice(PREFACE);
        this.flush().await;
        this
    }

    /// A client that has sent nothing.
    pub(super) async fn mute(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.expect("somebody listens"),
            out: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// A server whose client has said hello.
    pub(super) async fn server(stream: RawStream) -> Self {
        let (mut stream, mut seen) = stream.into_parts();
        while seen.len() < PREFACE.len() {
            assert!(stream.read_buf(&mut seen).await.expect("a client") > 0);
        }
        assert!(seen.starts_with(PREFACE));
        seen.drain(..PREFACE.len());
        let mut out = Vec::new();
        frame::settings(&mut out, &[]);
        Self { stream, out, seen }
    }

    /// Sends what was written. A peer that is gone is no error.
    pub(super) async fn flush(&mut self) {
        let _ = self.stream.write_all(&self.out).await;
        self.out.clear();
    }

    /// Writes a request for host `a`.
    pub(super) fn request(&mut self, id: u32, method: &str, fields: &[(&str, &str)], ends: bool) {
        let mut block = Vec::new();
        hpack::write_target(&mut block, (method.as_bytes(), false), b"a", b"/");
        for (name, value) in fields {
            hpack::write(&mut block, name.as_bytes(), value.as_bytes());
        }
        frame::headers(&mut self.out, id, &block, ends);
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.seen.split_first_chunk::<HEAD>() {
                let head = Head::parse(*head);
                if let Some(payload) = rest.get(..head.len) {
                    let payload = payload.to_vec();
                    self.seen.drain(..HEAD + head.len);
                    return Some(Frame { head, payload });
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.seen));
            match read.await.expect("a frame in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame of a kind, others skipped.
    pub(super) async fn find(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.is(kind) {
                return Some(frame);
            }
        }
    }

    /// The next frame of a stream, others skipped.
    pub(super) async fn next_of(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("a frame");
            // A window tells nothing of the request.
            if frame.head.stream == stream && !frame.is(kind::WINDOW_UPDATE) {
                return frame;
            }
        }
    }

    /// Reads until the gateway gives the connection up; why.
    pub(super) async fn goodbye(&mut self) -> Option<Reason> {
        let frame = self.find(kind::GOAWAY).await?;
        Some(Reason(frame::number(&frame.payload[4..])))
    }

    /// A whole answer: its status and body.
    pub(super) async fn answer(&mut self, id: u32) -> (u16, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let frame = self.next().await.expect("an answer");
            if frame.head.stream != id {
                continue;
            }
            match frame.head.kind {
                kind::HEADERS if status == 0 => status = self::status(&frame.payload),
                kind::DATA => body.extend_from_slice(&frame.payload),
                kind::RST_STREAM => panic!("reset: {:?}", frame.payload),
                _ => {}
            }
            if frame.ends() {
                return (status, body);
            }
        }
    }
}

/// The status of a header block that the gateway wrote.
pub(super) fn status(block: &[u8]) -> u16 {
    let mut status = String::new();
    let decoded = hpack::Decoder::default().decode(block, |name, value, _| {
        if name == b":status" {
            status = String::from_utf8_lossy(value).into_owned();
        }
    });
    decoded.expect("valid HPACK");
    status.parse().expect("a status")
}
