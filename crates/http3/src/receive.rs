//! What a client sends for one request: a header block, data, perhaps trailers.
//!
//! Reading a part can be given up and begun again: what was read is kept here.

use bytes::Bytes;
use quinn::{ReadError, RecvStream};

use crate::code::Code;
use crate::connection::StreamId;
use crate::frame::{DATA, HEADERS, Head, is_of_control};

/// Bytes that are taken from a stream at once.
const MOST: usize = 64 * 1024;

/// Why a request cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is gone.
    Gone,
    /// The client gave the request up.
    Reset(Code),
    /// The request is none; others of its connection are not concerned.
    Stream(Code),
    /// The client does not speak HTTP/3.
    Connection(Code),
    /// A header block is longer than it may be.
    TooLarge,
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into()),
            // Ordered reads and no early data: the others do not happen.
            ReadError::ConnectionLost(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Gone,
        }
    }
}

/// Part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Data(Bytes),
    /// The end, with the header block of trailers if there are any.
    End(Option<Vec<u8>>),
}

/// How far a request was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Body,
    /// The trailers are there, but not the end.
    Trailed,
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Receiver {
    stream: RecvStream,
    chunk: Bytes,
    is_finished: bool,
    head: Head,
    /// Type of the frame that is being read, and what is left of it.
    frame: Option<(u64, u64)>,
    block: Vec<u8>,
    most_block: usize,
    phase: Phase,
    is_stopped: bool,
}

impl Receiver {
    pub(crate) fn new(stream: RecvStream, most_block: usize) -> Self {
        Self {
            stream,
            chunk: Bytes::new(),
            is_finished: false,
            head: Head::default(),
            frame: None,
            block: Vec::new(),
            most_block,
            phase: Phase::Head,
            is_stopped: false,
        }
    }

    pub fn id(&self) -> StreamId {
        StreamId::of(self.stream.id())
    }

    /// The header block that the request begins with. Cancel-safe.
    ///
    /// # Errors
    /// There is none.
    pub async fn head(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            let Some((kind, _)) = self.frame().await? else {
                return Err(Fault::Stream(Code::REQUEST_INCOMPLETE));
            };
            match kind {
                HEADERS => {
                    let block = self.block().await?;
                    self.phase = Phase::Body;
                    return Ok(block);
                }
                // RFC 9114 §4.1: any other order is none.
                DATA => return Err(Fault::Connection(Code::FRAME_UNEXPECTED)),
                _ => self.skip().await?,
            }
        }
    }

    /// The next part of the body, after the head. Cancel-safe.
    ///
    /// # Errors
    /// The request is not read to its end.
    pub async fn next(&mut self) -> Result<Part, Fault> {
        while self.phase != Phase::Over {
            let Some((kind, left)) = self.frame().await? else {
                let trailers =
                    (self.phase == Phase::Trailed).then(|| std::mem::take(&mut self.block));
                self.phase = Phase::Over;
                return Ok(Part::End(trailers));
            };
            match kind {
                DATA | HEADERS if self.phase == Phase::Trailed => {
                    return Err(Fault::Connection(Code::FRAME_UNEXPECTED));
                }
                DATA => {
                    let part = self.part(left).await?;
                    if !part.is_empty() {
                        return Ok(Part::Data(part));
                    }
                }
                HEADERS => {
                    self.block = self.block().await?;
                    self.phase = Phase::Trailed;
                }
                _ => self.skip().await?,
            }
        }
        Ok(Part::End(None))
    }

    /// Waits until it is known whether a body follows the head; `true` if none does. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn is_bare(&mut self) -> Result<bool, Fault> {
        loop {
            match self.frame().await? {
                None => {
                    self.phase = Phase::Over;
                    return Ok(true);
                }
                Some((DATA, 0)) => drop(self.part(0).await?),
                Some((DATA | HEADERS, _)) => return Ok(false),
                Some(_) => self.skip().await?,
            }
        }
    }

    /// Whether [`Self::next`] has something without waiting, as far as is known.
    pub fn has_input(&self) -> bool {
        self.phase == Phase::Over || self.is_finished || !self.chunk.is_empty()
    }

    /// Whether all was read.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Tells the client that nothing more is wanted.
    pub fn stop(&mut self, code: Code) {
        if !std::mem::replace(&mut self.is_stopped, true) {
            // Fails if the stream has ended by itself.
            let _ = self.stream.stop(code.wire());
        }
    }

    /// The frame that comes next or is being read; `None` at the end of the stream.
    async fn frame(&mut self) -> Result<Option<(u64, u64)>, Fault> {
        while self.frame.is_none() {
            if !self.fill().await? {
                // RFC 9114 §7.1: a frame must be complete.
                return match self.head.is_partial() {
                    true => Err(Fault::Connection(Code::FRAME_ERROR)),
                    false => Ok(None),
                };
            }
            let byte = self.chunk.split_to(1)[0];
            if let Some((kind, length)) = self.head.push(byte) {
                if is_of_control(kind) {
                    return Err(Fault::Connection(Code::FRAME_UNEXPECTED));
                }
                self.frame = Some((kind, length));
            }
        }
        Ok(self.frame)
    }

    /// Some of the frame's payload, empty only if all of it was taken.
    async fn part(&mut self, left: u64) -> Result<Bytes, Fault> {
        if left == 0 {
            self.frame = None;
            return Ok(Bytes::new());
        }
        if !self.fill().await? {
            return Err(Fault::Connection(Code::FRAME_ERROR));
        }
        let size =
            usize::try_from(left).map_or(self.chunk.len(), |left| left.min(self.chunk.len()));
        let part = self.chunk.split_to(size);
        let left = left - size as u64;
        self.frame = self
            .frame
            .map(|(kind, _)| (kind, left))
            .filter(|_| left > 0);
        Ok(part)
    }

    /// The payload of a frame of headers.
    async fn block(&mut self) -> Result<Vec<u8>, Fault> {
        while let Some((_, left)) = self.frame {
            // Its length is known before any of it is kept.
            let most = (self.most_block - self.block.len()) as u64;
            if left > most {
                return Err(Fault::TooLarge);
            }
            let part = self.part(left).await?;
            self.block.extend_from_slice(&part);
        }
        Ok(std::mem::take(&mut self.block))
    }

    async fn skip(&mut self) -> Result<(), Fault> {
        while let Some((_, left)) = self.frame {
            self.part(left).await?;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<bool, Fault> {
        while self.chunk.is_empty() && !self.is_finished {
            match self.stream.read_chunk(MOST, true).await? {
                Some(chunk) => self.chunk = chunk.bytes,
                None => self.is_finished = true,
            }
        }
        Ok(!self.chunk.is_empty())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Quinn's own word for this is no code of HTTP/3.
        self.stop(Code::NO_ERROR);
    }
}
