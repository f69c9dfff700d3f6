//! The server's side of SPDY/3.1, as far as Kubernetes' clients use it.
//!
//! Windows are told but not waited for: the clients' implementation has none, its only
//! back-pressure is the connection's. Frames and header blocks are bounded; whatever a client must
//! not send ends the connection with GOAWAY.

mod frame;
mod headers;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use super::PIECE;
use frame::{Frames, Kind, Part};
use headers::{Deflate, Inflate};

/// Header names are in lower case.
pub(super) type Headers = Vec<(String, String)>;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A new stream, accepted already.
    Open {
        id: u32,
        headers: Headers,
        /// The client will send nothing on it.
        ended: bool,
    },
    /// Data of an open stream; `ended` with its last.
    Data { id: u32, bytes: Bytes, ended: bool },
    /// The client gave a stream up.
    Reset { id: u32 },
    /// The client opens no more streams.
    GoAway,
}

/// Reads frames, answers those that need no thought, and knows which streams are open.
pub(super) struct Reader<R> {
    frames: Frames<R>,
    inflate: Inflate,
    /// Streams that the client has not ended.
    open: BTreeSet<u32>,
    /// Streams at a time.
    most: usize,
    newest: u32,
}

/// Status of RST_STREAM: a frame for a stream that is not there.
const INVALID_STREAM: u32 = 2;
/// Status of RST_STREAM: no more streams are taken.
const REFUSED_STREAM: u32 = 3;

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(io: R, most: usize) -> Self {
        Self {
            frames: Frames::new(io),
            inflate: Inflate::new(),
            open: BTreeSet::new(),
            most,
            newest: 0,
        }
    }

    /// The next event; `None` at the end of the connection. Belongs into one future that is kept.
    pub(super) async fn next<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &Mutex<Writer<W>>,
    ) -> io::Result<Option<Event>> {
        loop {
            let part = match self.frames.next().await {
                Ok(Some(part)) => part,
                Ok(None) => return Ok(None),
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        // Told if the client still listens.
                        let _ = writer.lock().await.go_away(self.newest, 1).await;
                    }
                    return Err(error);
                }
            };
            let event = match part {
                Part::Control { kind, flags, body } => {
                    match self.control(kind, flags, &body, writer).await {
                        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                            let _ = writer.lock().await.go_away(self.newest, 1).await;
                            return Err(error);
                        }
                        other => other?,
                    }
                }
                Part::Data { id, bytes, ended } => self.data(id, bytes, ended, writer).await?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    async fn data<W: AsyncWrite + Unpin>(
        &mut self,
        id: u32,
        bytes: Bytes,
        ended: bool,
        writer: &Mutex<Writer<W>>,
    ) -> io::Result<Option<Event>> {
        if !self.open.contains(&id) {
            if id > self.newest {
                writer.lock().await.reset(id, INVALID_STREAM).await?;
            }
            return Ok(None); // Of a stream that has been closed meanwhile.
        }
        if !bytes.is_empty() {
            let mut writer = writer.lock().await;
            writer.window(id, bytes.len()).await?;
        }
        if ended {
            self.open.remove(&id);
        }
        Ok(Some(Event::Data { id, bytes, ended }))
    }

    async fn control<W: AsyncWrite + Unpin>(
        &mut self,
        kind: Kind,
        flags: u8,
        body: &[u8],
        writer: &Mutex<Writer<W>>,
    ) -> io::Result<Option<Event>> {
        match kind {
            Kind::SynStream => self.opened(flags, body, writer).await,
            Kind::Rst => {
                let id = word(body, 0)?;
                self.open.remove(&id);
                Ok(Some(Event::Reset { id }))
            }
            Kind::Ping => {
                let id = word(body, 0)?;
                // Even ids are ours: an answer.
                if id % 2 == 1 {
                    writer.lock().await.pong(id).await?;
                }
                Ok(None)
            }
            Kind::GoAway => Ok(Some(Event::GoAway)),
            Kind::Headers => {
                // The block must be read even if nobody wants it: all blocks are one zlib stream.
                let id = word(body, 0)?;
                self.inflate.block(&body[4..])?;
                let ended = flags & frame::FIN != 0 && self.open.remove(&id);
                Ok(ended.then_some(Event::Data {
                    id,
                    bytes: Bytes::new(),
                    ended,
                }))
            }
            Kind::WindowUpdate => {
                word(body, 4)?;
                Ok(None)
            }
            Kind::Settings => {
                let entries = word(body, 0)? as usize;
                if body.len() != 4 + entries.saturating_mul(8) {
                    return Err(bad("SETTINGS has another length than its entries"));
                }
                Ok(None)
            }
            Kind::SynReply => Err(bad("a reply to a stream that was not opened from here")),
        }
    }

    async fn opened<W: AsyncWrite + Unpin>(
        &mut self,
        flags: u8,
        body: &[u8],
        writer: &Mutex<Writer<W>>,
    ) -> io::Result<Option<Event>> {
        let id = word(body, 0)?;
        let block = body
            .get(10..)
            .ok_or_else(|| bad("SYN_STREAM is too short"))?;
        let headers = self.inflate.block(block)?;
        if id % 2 == 0 || id <= self.newest {
            return Err(bad("a stream's id is even or not above the last one"));
        }
        self.newest = id;
        if self.open.len() >= self.most {
            writer.lock().await.reset(id, REFUSED_STREAM).await?;
            return Ok(None);
        }
        let ended = flags & frame::FIN != 0;
        if !ended {
            self.open.insert(id);
        }
        writer.lock().await.accept(id).await?;
        Ok(Some(Event::Open { id, headers, ended }))
    }
}

/// Writes frames.
pub(super) struct Writer<W> {
    io: W,
    deflate: Deflate,
    buffer: Vec<u8>,
    pings: u32,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(io: W) -> Self {
        Self {
            io,
            deflate: Deflate::new(),
            buffer: Vec::new(),
            pings: 0,
        }
    }

    /// Data of a stream; `end` with the last.
    pub(super) async fn data(&mut self, id: u32, bytes: &[u8], end: bool) -> io::Result<()> {
        let mut pieces = bytes.chunks(PIECE).peekable();
        loop {
            let piece = pieces.next().unwrap_or_default();
            let last = pieces.peek().is_none();
            frame::data(&mut self.buffer, id, piece, last && end);
            self.io.write_all(&self.buffer).await?;
            if last {
                return self.io.flush().await;
            }
        }
    }

    async fn accept(&mut self, id: u32) -> io::Result<()> {
        let mut body = id.to_be_bytes().to_vec();
        body.extend_from_slice(&self.deflate.block(&[])?);
        self.control(Kind::SynReply, &body).await
    }

    async fn reset(&mut self, id: u32, status: u32) -> io::Result<()> {
        self.control(Kind::Rst, &words(id, status)).await
    }

    /// A stream that nobody wants.
    pub(super) async fn refuse(&mut self, id: u32) -> io::Result<()> {
        self.reset(id, REFUSED_STREAM).await
    }

    async fn window(&mut self, id: u32, bytes: usize) -> io::Result<()> {
        let delta = u32::try_from(bytes).unwrap_or(u32::MAX >> 1);
        self.control(Kind::WindowUpdate, &words(id, delta)).await
    }

    /// Asks for a sign of life; the answer is not waited for.
    pub(super) async fn ping(&mut self) -> io::Result<()> {
        self.pings = self.pings.wrapping_add(2);
        let id = self.pings;
        self.control(Kind::Ping, &id.to_be_bytes()).await
    }

    async fn pong(&mut self, id: u32) -> io::Result<()> {
        self.control(Kind::Ping, &id.to_be_bytes()).await
    }

    async fn go_away(&mut self, last: u32, status: u32) -> io::Result<()> {
        self.control(Kind::GoAway, &words(last, status)).await
    }

    /// Says good-bye and closes our side.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.go_away(0, 0).await?;
        self.io.shutdown().await
    }

    async fn control(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        frame::control(&mut self.buffer, kind, body);
        self.io.write_all(&self.buffer).await?;
        self.io.flush().await
    }
}

fn words(one: u32, two: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&one.to_be_bytes());
    out[4..].copy_from_slice(&two.to_be_bytes());
    out
}

/// The 31 bits at `at`: the first bit of every such field is reserved.
fn word(body: &[u8], at: usize) -> io::Result<u32> {
    let bytes = body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let word = u32::from_be_bytes(bytes.ok_or_else(|| bad("a control frame is too short"))?);
    Ok(word & 0x7fff_ffff)
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
