//! Flow control in both directions.
//!
//! Sending: a stream waits for its own window, for the connection's (in turns) and for room in the
//! buffer before the socket. Receiving: the connection's window is given back as soon as bytes
//! arrive, so it is never what a stream waits for: one that nobody reads cannot stop another, and
//! streams that wait for each other's place at a backend cannot block themselves. Memory is bounded
//! by the streams' windows: each starts small, and those that are read grow out of one allowance
//! of the connection.

use std::task::{Context, Poll};

use super::core::{Core, OUT_HIGH};
use super::frame::{self, MAX_PAYLOAD};
use super::state::End;
use crate::trailers::Trailers;

impl Core {
    /// How many bytes of DATA may be sent now, at most `wanted` and at most a frame's.
    ///
    /// Streams take turns on the connection's window: one that is blocked on its own window does
    /// not stand in the queue, so nobody waits for a stream that cannot go on.
    pub(crate) fn poll_send(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        wanted: usize,
    ) -> Poll<Result<usize, End>> {
        let is_full = self.unwritten().len() >= OUT_HIGH;
        let can_send =
            self.send_window > 0 && self.window_queue.front().is_none_or(|next| *next == id);
        let stream = match self.sending(id) {
            Ok(stream) => stream,
            Err(end) => return Poll::Ready(Err(end)),
        };
        if stream.send_window <= 0 {
            let waits = stream.wait(cx);
            self.leave_queue(id);
            return waits;
        }
        if is_full {
            let joins = !std::mem::replace(&mut stream.waits_for_room, true);
            let waits = stream.wait(cx);
            if joins {
                self.room_queue.push(id);
            }
            return waits;
        }
        if !can_send {
            let joins = !std::mem::replace(&mut stream.waits_for_window, true);
            let waits = stream.wait(cx);
            if joins {
                self.window_queue.push_back(id);
            }
            return waits;
        }
        let window = stream.send_window.min(self.send_window) as usize;
        Poll::Ready(Ok(window.min(wanted).min(MAX_PAYLOAD)))
    }

    /// Sends DATA that [`Self::poll_send`] allowed; an empty one is always allowed.
    pub(crate) fn send_data(&mut self, id: u32, payload: &[u8], ends: bool) -> Result<(), End> {
        let stream = self.sending(id)?;
        stream.send_window -= payload.len() as i64;
        stream.local_closed = ends;
        self.send_window -= payload.len() as i64;
        frame::data(self.out(), id, payload, ends);
        self.flood.sent(payload.len());
        if !self.window_queue.is_empty() {
            self.leave_queue(id);
        }
        self.wake_driver();
        Ok(())
    }

    pub(super) fn leave_queue(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && std::mem::take(&mut stream.waits_for_window)
        {
            self.window_queue.retain(|waiting| *waiting != id);
        }
        self.wake_next();
    }

    /// Wakes the stream whose turn it is on the connection's window.
    pub(super) fn wake_next(&self) {
        if self.send_window > 0
            && let Some(stream) = self
                .window_queue
                .front()
                .and_then(|id| self.streams.get(id))
        {
            stream.wake();
        }
    }

    /// Swaps `chunk` for what was received. `Ok(true)`: nothing follows but trailers.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        chunk: &mut Vec<u8>,
    ) -> Poll<Result<bool, End>> {
        chunk.clear();
        self.used(id);
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(End::Gone));
        };
        if let Some(end) = stream.end {
            return Poll::Ready(Err(end));
        }
        if stream.received.is_empty() && !stream.remote_closed {
            return stream.wait(cx);
        }
        std::mem::swap(chunk, &mut stream.received);
        stream.taken = chunk.len();
        Poll::Ready(Ok(stream.remote_closed))
    }

    /// What was taken has been used: the peer may send as much again, and more than before if it
    /// keeps up.
    fn used(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.credit += std::mem::take(&mut stream.taken);
        let window = self.allowance.stream_window as usize + stream.grown;
        if stream.credit < window / 2 || stream.remote_closed || stream.end.is_some() {
            return;
        }
        let most = (self.allowance.largest_window as usize).saturating_sub(window);
        let more = window.min(most).min(self.growth);
        self.growth -= more;
        stream.grown += more;
        let credit = std::mem::take(&mut stream.credit) + more;
        stream.receive_window += credit as i64;
        frame::window_update(self.out(), id, credit as u32);
        self.wake_driver();
    }

    /// Bytes that no longer count against the connection's window.
    pub(super) fn credit(&mut self, count: usize) {
        self.credit += count;
        if self.credit >= self.allowance.connection_window as usize / 2 {
            let credit = std::mem::take(&mut self.credit);
            self.receive_window += credit as i64;
            frame::window_update(self.out(), 0, credit as u32);
            self.wake_driver();
        }
    }

    /// Whether a read of the stream would not wait.
    pub(crate) fn has_input(&self, id: u32) -> bool {
        self.streams.get(&id).is_none_or(|stream| {
            !stream.received.is_empty() || stream.remote_closed || stream.end.is_some()
        })
    }

    /// Trailers, once the body has ended.
    pub(crate) fn trailers(&mut self, id: u32) -> Option<Box<Trailers>> {
        self.streams.get_mut(&id)?.trailers.take()
    }
}
