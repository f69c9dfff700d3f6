//! Bodies of HTTP/2 streams, with flow control: the peer may send more once what it sent was
//! taken by the other side.

use std::future::poll_fn;
use std::rc::Rc;

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

/// A body that is received.
pub(crate) struct Http2Source {
    place: Rc<Place>,
    chunk: Vec<u8>,
    done: bool,
}

impl Http2Source {
    /// `is_empty` says that nothing follows the head.
    pub(crate) fn new(place: Rc<Place>, is_empty: bool) -> Self {
        Self {
            place,
            chunk: Vec::new(),
            done: is_empty,
        }
    }
}

impl Drop for Http2Source {
    fn drop(&mut self) {
        let core = self.place.core.borrow();
        core.memory.put(std::mem::take(&mut self.chunk));
    }
}

impl Source for Http2Source {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        if self.done {
            return Ok(Chunk::end(None));
        }
        let Self { place, chunk, .. } = self;
        let received =
            poll_fn(|cx| place.core.borrow_mut().poll_receive(cx, place.id, chunk)).await;
        match received {
            Ok(last) => {
                self.done = last;
                let trailers = last
                    .then(|| self.place.core.borrow_mut().trailers(self.place.id))
                    .flatten();
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
        self.done || self.place.core.borrow().has_input(self.place.id)
    }

    async fn gone(&mut self) {
        // A reset is seen by the stream's sending side.
        std::future::pending().await
    }
}

/// A body that is sent.
pub(crate) struct Http2Sink {
    place: Rc<Place>,
    ended: bool,
}

impl Http2Sink {
    /// `ended` says that the head was the whole message.
    pub(crate) fn new(place: Rc<Place>, ended: bool) -> Self {
        Self { place, ended }
    }
}

impl Sink for Http2Sink {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        if self.ended {
            return Ok(());
        }
        let Place { core, id } = &*self.place;
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
