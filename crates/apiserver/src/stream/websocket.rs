//! The server's side of WebSocket (RFC 6455): frames in and out, nothing about their meaning.
//!
//! A message is never put together in memory: its pieces are handed on as they come, so a frame
//! may be as long as it likes. Anything that a client must not send ends the connection.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::PIECE;

#[cfg(test)]
mod tests;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Longest payload of a control frame (RFC 6455, 5.5).
const LONGEST_CONTROL: u64 = 125;

/// The answer to a client's key (RFC 6455, 4.2.2).
pub(super) fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        text.as_bytes(),
    );
    STANDARD.encode(digest)
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Part of a message: whether it begins with this piece, and whether it ends with it.
    Data {
        first: bool,
        last: bool,
        bytes: Bytes,
    },
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// The client is done.
    Close,
}

/// Reads frames.
pub(super) struct Reader<R> {
    io: R,
    buffer: BytesMut,
    /// Payload of the current data frame that has not been read yet.
    left: u64,
    mask: [u8; 4],
    masked: usize,
    /// The current data frame is its message's last.
    last: bool,
    /// The next piece is its message's first.
    first: bool,
    /// A message has begun and not ended.
    open: bool,
}

struct Head {
    last: bool,
    code: u8,
    length: u64,
    mask: [u8; 4],
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::with_capacity(PIECE),
            left: 0,
            mask: [0; 4],
            masked: 0,
            last: false,
            first: false,
            open: false,
        }
    }

    /// The next event; `None` at the end of the connection. Not cancel-safe between its reads of
    /// a frame's head, so it belongs into one future that is kept.
    pub(super) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.left > 0 {
                return self.piece().await.map(Some);
            }
            let Some(head) = self.head().await? else {
                return Ok(None);
            };
            match head.code {
                CONTINUATION | TEXT | BINARY => {
                    if (head.code == CONTINUATION) != self.open {
                        return Err(bad(
                            "a message inside a message, or its rest without a begin",
                        ));
                    }
                    self.first = head.code != CONTINUATION;
                    (self.mask, self.masked, self.left) = (head.mask, 0, head.length);
                    (self.last, self.open) = (head.last, !head.last);
                    if self.left == 0 {
                        let (first, last) = (self.first, self.last);
                        return Ok(Some(Event::Data {
                            first,
                            last,
                            bytes: Bytes::new(),
                        }));
                    }
                }
                CLOSE | PING | PONG => {
                    if !head.last || head.length > LONGEST_CONTROL {
                        return Err(bad("a control frame in parts or too long"));
                    }
                    let length = head.length as usize;
                    self.fill(length).await?;
                    let mut bytes = self.buffer.split_to(length);
                    unmask(&mut bytes, head.mask, 0);
                    match head.code {
                        CLOSE => return Ok(Some(Event::Close)),
                        PING => return Ok(Some(Event::Ping(bytes.freeze()))),
                        _ => {}
                    }
                }
                _ => return Err(bad("an unknown kind of frame")),
            }
        }
    }

    async fn piece(&mut self) -> io::Result<Event> {
        if self.buffer.is_empty() {
            self.more().await?;
        }
        let length = self
            .buffer
            .len()
            .min(PIECE)
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut bytes = self.buffer.split_to(length);
        unmask(&mut bytes, self.mask, self.masked);
        self.masked = (self.masked + length) % 4;
        self.left -= length as u64;
        let first = std::mem::take(&mut self.first);
        Ok(Event::Data {
            first,
            last: self.last && self.left == 0,
            bytes: bytes.freeze(),
        })
    }

    async fn head(&mut self) -> io::Result<Option<Head>> {
        if self.buffer.is_empty() && self.io.read_buf(&mut self.buffer).await? == 0 {
            return Ok(None);
        }
        self.fill(2).await?;
        let (one, two) = (self.buffer[0], self.buffer[1]);
        if one & 0x70 != 0 {
            return Err(bad("a reserved bit is set"));
        }
        if two & 0x80 == 0 {
            return Err(bad("a client's frame is not masked"));
        }
        let extended = match two & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        self.fill(2 + extended + 4).await?;
        self.buffer.advance(2);
        let length = match extended {
            2 => u64::from(self.buffer.get_u16()),
            8 => self.buffer.get_u64(),
            _ => u64::from(two & 0x7f),
        };
        if length > i64::MAX as u64 {
            return Err(bad("a frame's length has its first bit set"));
        }
        let mut mask = [0; 4];
        self.buffer.copy_to_slice(&mut mask);
        Ok(Some(Head {
            last: one & 0x80 != 0,
            code: one & 0x0f,
            length,
            mask,
        }))
    }

    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(PIECE);
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], from: usize) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[(from + at) % 4];
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes frames.
pub(super) struct Writer<W> {
    io: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(io: W) -> Self {
        Self {
            io,
            buffer: Vec::new(),
        }
    }

    /// One binary message, made of a begin and a rest.
    pub(super) async fn binary(&mut self, begin: &[u8], rest: &[u8]) -> io::Result<()> {
        self.frame(BINARY, begin, rest).await
    }

    /// One text message.
    pub(super) async fn text(&mut self, text: &str) -> io::Result<()> {
        self.frame(TEXT, &[], text.as_bytes()).await
    }

    pub(super) async fn ping(&mut self) -> io::Result<()> {
        self.frame(PING, &[], &[]).await
    }

    pub(super) async fn pong(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.frame(PONG, &[], bytes).await
    }

    /// Says good-bye and closes our side.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        // 1000: a normal end.
        self.frame(CLOSE, &1000_u16.to_be_bytes(), &[]).await?;
        self.io.shutdown().await
    }

    async fn frame(&mut self, code: u8, begin: &[u8], rest: &[u8]) -> io::Result<()> {
        let length = begin.len() + rest.len();
        self.buffer.clear();
        self.buffer.push(0x80 | code);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => self.buffer.push(short),
            (_, Ok(middle)) => {
                self.buffer.push(126);
                self.buffer.extend_from_slice(&middle.to_be_bytes());
            }
            _ => {
                self.buffer.push(127);
                self.buffer
                    .extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        self.buffer.extend_from_slice(begin);
        self.buffer.extend_from_slice(rest);
        self.io.write_all(&self.buffer).await?;
        self.io.flush().await
    }
}
