//! The reading half of an HTTP/1.1 connection: heads and bodies out of one buffer.

use std::io;

use super::body::{Framing, Reader};
use super::head::has_end;
use crate::buffer::{Buffer, SMALL};
use crate::message::{Chunk, Source, SourceError};
use crate::transport::ReadHalf;

/// Reads messages of one connection, one after another.
pub(crate) struct Http1Source<'s> {
    pub(crate) read: ReadHalf<'s>,
    pub(crate) buffer: Buffer,
    reader: Reader,
    /// Bytes of the buffer that the last chunk lent out.
    lent: usize,
    /// The last read left no room: more is coming than a small buffer takes.
    filled: bool,
    /// Up to here no end of a head was found.
    searched: usize,
}

/// What waiting for a head gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Perhaps a complete head.
    Some,
    /// The head has more bytes than allowed.
    TooLong,
    Ended,
}

impl<'s> Http1Source<'s> {
    pub(crate) fn new(read: ReadHalf<'s>, buffer: Buffer) -> Self {
        Self {
            read,
            buffer,
            reader: Reader::default(),
            lent: 0,
            filled: false,
            searched: 0,
        }
    }

    /// Whether it reads from a socket as it is.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.read, ReadHalf::Plain(_))
    }

    /// Waits until the buffer may hold a complete head: at once if something is buffered that
    /// was not looked at, else after the end of a head has been read. Cancel-safe.
    pub(crate) async fn fill_head(&mut self, limit: usize) -> io::Result<Input> {
        loop {
            let len = self.buffer.filled().len();
            // The first look is a parse, which finds most heads complete.
            if len > 0 && (self.searched == 0 || has_end(self.buffer.filled(), self.searched)) {
                self.searched = len;
                return Ok(Input::Some);
            }
            self.searched = len;
            if self.buffer.is_full(limit) {
                return Ok(Input::TooLong);
            }
            if self.buffer.read(&mut self.read, limit).await? == 0 {
                return Ok(Input::Ended);
            }
        }
    }

    /// Waits for the first bytes of a message; `false` is the end of the stream. Cancel-safe.
    pub(crate) async fn wait(&mut self, limit: usize) -> io::Result<bool> {
        Ok(!self.buffer.is_empty() || self.buffer.read(&mut self.read, limit).await? > 0)
    }

    /// Drops bytes before a head.
    pub(crate) fn skip(&mut self, count: usize) {
        self.buffer.consume(count);
        self.searched = 0;
    }

    /// Drops the head and starts its body.
    pub(crate) fn begin_body(&mut self, head: usize, framing: Framing) {
        self.buffer.consume(std::mem::take(&mut self.lent));
        self.filled = self.buffer.has_no_room();
        self.buffer.consume(head);
        self.searched = 0;
        self.reader = Reader::new(framing);
    }

    /// Whether the whole body has been taken.
    pub(crate) fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// Whether nothing is buffered beyond what was lent.
    pub(crate) fn is_drained(&self) -> bool {
        self.buffer.filled().len() <= self.lent
    }

    /// Ends the message: what was lent is consumed, memory that is not needed is given back.
    pub(crate) fn finish(&mut self) {
        self.buffer.consume(std::mem::take(&mut self.lent));
        self.buffer.release();
        self.filled = false;
        self.searched = 0;
    }

    /// Reads once into the buffer; 0 is the end of the stream.
    async fn more(&mut self) -> io::Result<usize> {
        let left = self.reader.remaining();
        let is_more = self.filled && left.is_none_or(|left| left > SMALL as u64);
        let (count, filled) = self.buffer.read_long(&mut self.read, is_more).await?;
        self.filled = filled;
        Ok(count)
    }
}

impl Source for Http1Source<'_> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        self.buffer.consume(std::mem::take(&mut self.lent));
        if self.reader.is_done() {
            return Ok(Chunk::end(None));
        }
        loop {
            if !self.buffer.is_empty() {
                let decoded = self.reader.decode(self.buffer.filled_mut());
                let decoded = decoded.map_err(|error| SourceError::Malformed(error.0))?;
                if decoded.len > 0 || decoded.last {
                    self.lent = decoded.consumed;
                    let payload = &self.buffer.filled()[decoded.start..decoded.start + decoded.len];
                    return Ok(Chunk {
                        data: payload,
                        last: decoded.last,
                        trailers: decoded.trailers,
                    });
                }
                self.buffer.consume(decoded.consumed);
            }
            if self.more().await.map_err(|_| SourceError::Gone)? == 0 {
                if self.reader.end_of_stream() {
                    return Ok(Chunk::end(None));
                }
                return Err(SourceError::Gone);
            }
        }
    }

    fn has_input(&self) -> bool {
        self.buffer.filled().len() > self.lent || self.reader.is_done()
    }

    async fn gone(&mut self) {
        self.buffer.consume(std::mem::take(&mut self.lent));
        loop {
            if !self.buffer.is_full(SMALL) {
                match self.buffer.read(&mut self.read, SMALL).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                }
            }
            // The buffer is full, so the end of the stream cannot be read; the kernel still
            // says when the peer has closed.
            return self.read.closed().await;
        }
    }
}
