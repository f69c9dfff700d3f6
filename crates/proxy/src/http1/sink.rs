//! The writing half of an HTTP/1.1 connection.
//!
//! A head waits in `out` until there is something to send with it, so that a small message is
//! one system call.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::ready;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::body::Framing;
use crate::buffer::Buffers;
use crate::message::{Chunk, Sink, SinkError};
use crate::transport::WriteHalf;

/// Up to here copying next to the head is cheaper than a vectored write.
const COPY: usize = 8 * 1024;

/// Writes messages of one connection, one after another.
pub(crate) struct Http1Sink<'s> {
    write: WriteHalf<'s>,
    buffers: Rc<Buffers>,
    /// Head that is not sent yet. Holds memory only while there is one.
    out: Vec<u8>,
    framing: Framing,
    /// Bytes written for all messages.
    pub(crate) written: u64,
    tail: Vec<u8>,
}

impl<'s> Http1Sink<'s> {
    pub(crate) fn new(write: WriteHalf<'s>, buffers: Rc<Buffers>) -> Self {
        Self {
            write,
            buffers,
            out: Vec::new(),
            framing: Framing::None,
            written: 0,
            tail: Vec::new(),
        }
    }

    /// Where a head is written that is sent with what follows it.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = self.buffers.take_out();
        }
        &mut self.out
    }

    /// Drops the head that is not sent yet.
    pub(crate) fn clear(&mut self) {
        if self.out.capacity() > 0 {
            self.buffers.put_out(std::mem::take(&mut self.out));
        }
    }

    /// Sets how the body after the pending head is framed.
    pub(crate) fn begin_body(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// Whether a body without a length is being sent, and all of it so far is.
    pub(crate) fn is_open_ended(&self) -> bool {
        let has_no_length = matches!(self.framing, Framing::Chunked | Framing::Close);
        has_no_length && self.out.is_empty() && self.tail.is_empty()
    }

    /// Ends the sending direction.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }

    async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        if data.len() <= COPY {
            if !data.is_empty() {
                self.out().extend_from_slice(data);
            }
            if !self.tail.is_empty() {
                let mut tail = std::mem::take(&mut self.tail);
                self.out().append(&mut tail);
                self.tail = tail;
            }
            if !self.out.is_empty() {
                self.written += self.out.len() as u64;
                let sent = self.write.write_now(&self.out)?;
                if sent < self.out.len() {
                    self.write.write_all(&self.out[sent..]).await?;
                    self.write.flush().await?;
                }
                self.clear();
            }
            return Ok(());
        }
        let (head, tail) = (&self.out, &self.tail);
        let total = head.len() + data.len() + tail.len();
        let mut sent = 0;
        while sent < total {
            sent += poll_fn(|cx| {
                let mut slices = [IoSlice::new(&[]); 3];
                let mut skip = sent;
                for (slice, part) in slices
                    .iter_mut()
                    .zip([head.as_slice(), data, tail.as_slice()])
                {
                    let rest = &part[skip.min(part.len())..];
                    skip -= part.len() - rest.len();
                    *slice = IoSlice::new(rest);
                }
                let count = ready!(Pin::new(&mut self.write).poll_write_vectored(cx, &slices))?;
                if count == 0 {
                    Err(io::ErrorKind::WriteZero.into()).into()
                } else {
                    Ok::<_, io::Error>(count).into()
                }
            })
            .await?;
        }
        self.write.flush().await?;
        self.written += total as u64;
        self.clear();
        self.tail.clear();
        Ok(())
    }
}

impl Sink for Http1Sink<'_> {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        let data = match self.framing {
            // A body that must not be there (HEAD) is dropped.
            Framing::None => &[],
            Framing::Length(_) | Framing::Close => chunk.data,
            Framing::Chunked => {
                let data = chunk.data;
                if !data.is_empty() {
                    hex(self.out(), data.len());
                    self.tail.extend_from_slice(b"\r\n");
                }
                if chunk.last {
                    self.tail.extend_from_slice(b"0\r\n");
                    if let Some(trailers) = &chunk.trailers {
                        self.tail.extend_from_slice(trailers.lines());
                    }
                    self.tail.extend_from_slice(b"\r\n");
                }
                data
            }
        };
        Ok(self.send(data).await?)
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        Ok(self.send(&[]).await?)
    }
}

fn hex(out: &mut Vec<u8>, value: usize) {
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (at * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}
