//! Bodies of HTTP/2 streams, with flow control: the peer may send more once what it sent was
//! taken by the other side.

use std::future::poll_fn;

use super::core::SharedCore;
use super::encode;
use super::frame::Reason;
use super::state::End;
use crate::message::{Chunk, Sink, SinkError, Source, SourceError};

/// The place of a stream in its connection; given up when this is dropped.
pub(crate) struct Place {
    pub(crate) core: SharedCore,
    pub(crate) id: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.borrow_mut().release(self.id);
    }
}

impl AsRef<Place> for Place {
    fn as_ref(&self) -> &Place {
        self
    }
}

/// A body that is received.
pub(crate) struct Http2Source<P: AsRef<Place>> {
    place: P,
    chunk: Vec<u8>,
    done: bool,
}

impl<P: AsRef<Place>> Http2Source<P> {
    /// `is_empty` says that nothing follows the head.
    pub(crate) fn new(place: P, is_empty: bool) -> Self {
        Self {
            place,
            chunk: Vec::new(),
            done: is_empty,
        }
    }
}

impl<P: AsRef<Place>> Drop for Http2Source<P> {
    fn drop(&mut self) {
        let core = self.place.as_ref().core.borrow();
        core.memory.put(std::mem::take(&mut self.chunk));
    }
}

impl<P: AsRef<Place>> Source for Http2Source<P> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        if self.done {
            return Ok(Chunk::end(None));
        }
        let Self { place, chunk, .. } = self;
        let Place { core, id } = place.as_ref();
        let received = poll_fn(|cx| core.borrow_mut().poll_receive(cx, *id, chunk)).await;
        match received {
            Ok(last) => {
                self.done = last;
                let trailers = last.then(|| core.borrow_mut().trailers(*id)).flatten();
                Ok(Chunk {
                    data: &self.chunk,
                    last,
                    trailers,
                })
            }
            Err(End::Reset(reason)) => Err(SourceError::Reset(reason)),
            Err(End::Refused) => Err(SourceError::Reset(Reason::REFUSED_STREAM)),
            Err(End::Gone) => Err(SourceError::Gone),
        }
    }

    fn has_input(&self) -> bool {
        let Place { core, id } = self.place.as_ref();
        self.done || core.borrow().has_input(*id)
    }

    async fn gone(&mut self) {
        // A reset is seen by the stream's sending side.
        std::future::pending().await
    }
}

/// A body that is sent.
pub(crate) struct Http2Sink<P: AsRef<Place>> {
    place: P,
    ended: bool,
}

impl<P: AsRef<Place>> Http2Sink<P> {
    /// `ended` says that the head was the whole message.
    pub(crate) fn new(place: P, ended: bool) -> Self {
        Self { place, ended }
    }
}

impl<P: AsRef<Place>> Sink for Http2Sink<P> {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        if self.ended {
            return Ok(());
        }
        let Place { core, id } = self.place.as_ref();
        let ends_with_data = chunk.last && chunk.trailers.is_none();
        let mut data = chunk.data;
        while !data.is_empty() {
            let count = poll_fn(|cx| core.borrow_mut().poll_send(cx, *id, data.len())).await?;
            let (part, rest) = data.split_at(count);
            data = rest;
            self.ended = ends_with_data && data.is_empty();
            core.borrow_mut().send_data(*id, part, self.ended)?;
        }
        if let Some(trailers) = chunk.trailers {
            self.ended = true;
            let mut block = Vec::new();
            encode::trailers(&mut block, &trailers);
            core.borrow_mut().send_head(*id, &block, true)?;
        } else if ends_with_data && !self.ended {
            self.ended = true;
            core.borrow_mut().send_data(*id, &[], true)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        // The connection's own task writes.
        Ok(())
    }
}

impl From<End> for SinkError {
    fn from(_: End) -> Self {
        Self
    }
}
