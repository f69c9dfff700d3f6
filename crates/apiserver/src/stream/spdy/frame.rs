//! Bytes to frames and back. Data comes in pieces, control frames whole.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::PIECE;
use super::bad;

/// Flag: the sender will send nothing more on this stream.
pub(super) const FIN: u8 = 1;
/// Longest control frame that is read. Kubernetes' are a few hundred bytes.
const LONGEST_CONTROL: usize = 64 * 1024;
const VERSION: u16 = 3;

/// Control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    SynStream = 1,
    SynReply = 2,
    Rst = 3,
    Settings = 4,
    Ping = 6,
    GoAway = 7,
    Headers = 8,
    WindowUpdate = 9,
}

impl Kind {
    fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::SynStream,
            2 => Self::SynReply,
            3 => Self::Rst,
            4 => Self::Settings,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::Headers,
            9 => Self::WindowUpdate,
            _ => return None,
        })
    }
}

/// What was read.
#[derive(Debug)]
pub(super) enum Part {
    Control {
        kind: Kind,
        flags: u8,
        body: Bytes,
    },
    /// `ended` only with the last piece of a frame that says so.
    Data {
        id: u32,
        bytes: Bytes,
        ended: bool,
    },
}

/// Reads frames.
pub(super) struct Frames<R> {
    io: R,
    buffer: BytesMut,
    /// The data frame whose payload is being read: stream, bytes left, flags.
    data: Option<(u32, usize, u8)>,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::with_capacity(PIECE),
            data: None,
        }
    }

    pub(super) async fn next(&mut self) -> io::Result<Option<Part>> {
        loop {
            if let Some((id, left, flags)) = self.data {
                return self.piece(id, left, flags).await.map(Some);
            }
            if self.buffer.is_empty() && self.io.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
            self.fill(8).await?;
            let (first, second) = (self.buffer.get_u32(), self.buffer.get_u32());
            let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
            if first & 0x8000_0000 == 0 {
                self.data = Some((first, length, flags));
                continue;
            }
            if (first >> 16) as u16 & 0x7fff != VERSION {
                return Err(bad("the protocol's version is not 3"));
            }
            if length > LONGEST_CONTROL {
                return Err(bad("a control frame is too long"));
            }
            self.fill(length).await?;
            let body = self.buffer.split_to(length).freeze();
            // Unknown control frames are to be ignored (SPDY/3.1, 2.2.1).
            if let Some(kind) = Kind::of(first as u16) {
                return Ok(Some(Part::Control { kind, flags, body }));
            }
        }
    }

    async fn piece(&mut self, id: u32, left: usize, flags: u8) -> io::Result<Part> {
        if left > 0 {
            self.fill(1).await?;
        }
        let length = left.min(self.buffer.len()).min(PIECE);
        let bytes = self.buffer.split_to(length).freeze();
        let left = left - length;
        self.data = (left > 0).then_some((id, left, flags));
        Ok(Part::Data {
            id,
            bytes,
            ended: left == 0 && flags & FIN != 0,
        })
    }

    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            self.buffer.reserve(PIECE.max(length));
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

/// Writes a control frame without flags into `out`.
pub(super) fn control(out: &mut Vec<u8>, kind: Kind, body: &[u8]) {
    out.clear();
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    // Ours are short.
    out.extend_from_slice(&((body.len() as u32) & 0x00ff_ffff).to_be_bytes());
    out.extend_from_slice(body);
}

/// Writes a data frame of at most [`PIECE`] bytes into `out`.
pub(super) fn data(out: &mut Vec<u8>, id: u32, bytes: &[u8], end: bool) {
    out.clear();
    out.extend_from_slice(&(id & 0x7fff_ffff).to_be_bytes());
    let flags = if end { u32::from(FIN) << 24 } else { 0 };
    out.extend_from_slice(&(flags | bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}
