//! Bodies of HTTP/2 streams, with flow control: the peer may send more once what it sent was
//! taken by the other side.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use crate::message::{Chunk, Data, Sink, SinkError, Source, SourceError};

/// A body that is received.
pub(crate) struct Http2Source {
    stream: RecvStream,
    /// Bytes of the last chunk, which its taker may still hold.
    lent: usize,
    done: bool,
}

impl Http2Source {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            lent: 0,
            done: false,
        }
    }

    /// Whether nothing follows the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.stream.is_end_stream()
    }
}

impl Source for Http2Source {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        let lent = std::mem::take(&mut self.lent);
        if lent > 0 {
            // Fails only if the stream is gone, which the next read says better.
            let _ = self.stream.flow_control().release_capacity(lent);
        }
        if self.done {
            return Ok(Chunk::end(None));
        }
        if let Some(data) = self.stream.data().await {
            let data = data.map_err(error)?;
            self.lent = data.len();
            self.done = self.stream.is_end_stream();
            return Ok(Chunk {
                data: Data::Shared(data),
                last: self.done,
                trailers: None,
            });
        }
        let trailers = self.stream.trailers().await.map_err(error)?;
        self.done = true;
        Ok(Chunk::end(trailers.map(Box::new)))
    }

    fn has_input(&self) -> bool {
        self.done || self.stream.is_end_stream()
    }

    async fn gone(&mut self) {
        // A reset is seen by the stream's sending side.
        std::future::pending().await
    }
}

fn error(error: h2::Error) -> SourceError {
    match error.reason() {
        Some(reason) => SourceError::Reset(reason),
        None => SourceError::Gone,
    }
}

/// A body that is sent.
pub(crate) struct Http2Sink {
    stream: SendStream<Bytes>,
    ended: bool,
}

impl Http2Sink {
    /// `ended` says that the head was the whole message.
    pub(crate) fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self { stream, ended }
    }

    /// Gives the message up.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Resolves when the peer gives the stream up.
    pub(crate) async fn peer_reset(&mut self) {
        let _ = poll_fn(|cx| self.stream.poll_reset(cx)).await;
    }
}

impl Sink for Http2Sink {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        if self.ended {
            return Ok(());
        }
        let (last, trailers) = (chunk.last, chunk.trailers);
        let ends_with_data = last && trailers.is_none();
        let mut data = chunk.data.into_bytes();
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            if self.stream.capacity() == 0 {
                match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Err(SinkError),
                }
            }
            let part = data.split_to(self.stream.capacity().min(data.len()));
            self.ended = ends_with_data && data.is_empty();
            self.stream.send_data(part, self.ended)?;
        }
        if let Some(trailers) = trailers {
            self.ended = true;
            return Ok(self.stream.send_trailers(*trailers)?);
        }
        if ends_with_data && !self.ended {
            self.ended = true;
            self.stream.send_data(Bytes::new(), true)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        // The connection's own task writes.
        Ok(())
    }
}
