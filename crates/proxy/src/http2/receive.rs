//! Frames that come in, but for header blocks, which need the decoder: see [`super::driver`].
//!
//! An error that is returned ends the connection; one that concerns a stream only ends that.

use super::core::{Core, Role};
use super::flood::Flooded;
use super::frame::{self, Head, MAX_WINDOW, Reason, flag, kind, setting};
use super::head::{Came, Fault};
use super::state::End;
use crate::trailers::Trailers;

/// Interim answers that wait to be passed on, per stream.
const MAX_HEADS: usize = 16;

impl From<Flooded> for Reason {
    fn from(_: Flooded) -> Self {
        Self::ENHANCE_YOUR_CALM
    }
}

/// What a header block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// A new request.
    Request,
    /// The head of an answer, or an interim one.
    Answer,
    Trailers,
    /// Decoded to keep the tables in step, and dropped.
    Dropped,
}

impl Core {
    /// Handles any frame but HEADERS and CONTINUATION.
    pub(super) fn receive(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        match head.kind {
            kind::DATA => self.receive_data(head, payload),
            kind::RST_STREAM => self.receive_reset(head, payload),
            kind::SETTINGS => self.receive_settings(head, payload),
            kind::PING => self.receive_ping(head, payload),
            kind::GOAWAY => self.receive_go_away(head, payload),
            kind::WINDOW_UPDATE => self.receive_window_update(head, payload),
            kind::PRIORITY => {
                self.flood.frame()?;
                self.receive_priority(head, payload)
            }
            // We announce that we take no pushes.
            kind::PUSH_PROMISE | kind::CONTINUATION | kind::HEADERS => Err(Reason::PROTOCOL_ERROR),
            // RFC 9113 §4.1: frames of unknown types are ignored.
            _ => Ok(self.flood.frame()?),
        }
    }

    /// Whether nobody opened this stream yet.
    fn is_unused(&self, id: u32) -> bool {
        // Clients open the odd ones, whichever side we are; nobody pushes.
        id.is_multiple_of(2) || id > self.last_opened
    }

    /// Whether a frame of a stream that has ended may have been sent before its sender knew.
    fn may_be_late(&self, id: u32) -> bool {
        self.role == Role::Client || self.reset_by_us.contains(&id)
    }

    /// Ends a stream that broke the protocol; if nobody opened it, the connection.
    pub(super) fn stream_error(&mut self, id: u32, reason: Reason) -> Result<(), Reason> {
        if self.is_unused(id) {
            return Err(reason);
        }
        // An answer to each costs us as much as the frame cost the peer.
        self.flood.frame()?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.end.get_or_insert(End::Reset(reason));
            stream.wake();
        }
        self.write_reset(id, reason);
        Ok(())
    }

    fn receive_data(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if head.stream == 0 || self.is_unused(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let total = payload.len();
        self.receive_window -= total as i64;
        if self.receive_window < 0 {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let (data, _) = frame::unpad(head, payload)?;
        let ends = head.has(flag::END_STREAM);
        if data.is_empty() && !ends {
            self.flood.frame()?;
        }
        // Given back at once; what bounds memory are the streams' windows, see `flow`.
        self.credit(total);
        let known = self.streams.get_mut(&head.stream);
        let Some(stream) = known.filter(|stream| stream.end.is_none()) else {
            if self.may_be_late(head.stream) {
                return Ok(());
            }
            return self.stream_error(head.stream, Reason::STREAM_CLOSED);
        };
        stream.receive_window -= total as i64;
        let error = if stream.remote_closed {
            Some(Reason::STREAM_CLOSED)
        } else if stream.receive_window < 0 {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if self.role == Role::Client && !stream.answered {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            stream.expect(data.len(), ends).err()
        };
        if let Some(reason) = error {
            return self.stream_error(head.stream, reason);
        }
        if stream.received.capacity() == 0 {
            stream.received = self.memory.take();
        }
        stream.received.extend_from_slice(data);
        stream.remote_closed = ends;
        // Padding is used up at once; so is what comes for HEAD, were a server to send it.
        stream.credit += total - data.len();
        stream.wake();
        Ok(())
    }

    fn receive_reset(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if payload.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if head.stream == 0 || self.is_unused(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let role = self.role;
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            return Ok(self.flood.frame()?);
        };
        let was_open = stream.is_open();
        let reason = Reason(frame::number(payload));
        if role == Role::Client && stream.remote_closed {
            // The answer is complete; the server wants no more of the request.
            stream.local_closed = true;
        } else {
            stream.end.get_or_insert(match reason {
                Reason::REFUSED_STREAM => End::Refused,
                reason => End::Reset(reason),
            });
        }
        stream.wake();
        if role == Role::Server && was_open {
            self.flood.reset()?;
        }
        Ok(())
    }

    fn receive_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.has(flag::ACK) {
            let is_valid = payload.is_empty();
            return if is_valid {
                Ok(self.flood.frame()?)
            } else {
                Err(Reason::FRAME_SIZE_ERROR)
            };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.flood.frame()?;
        for entry in payload.chunks_exact(6) {
            let (id, value) = entry.split_at(2);
            self.set(u16::from_be_bytes([id[0], id[1]]), frame::number(value))?;
        }
        frame::settings_ack(self.out());
        self.wake_driver();
        Ok(())
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), Reason> {
        match id {
            setting::HEADER_TABLE_SIZE => {
                self.owes_resize |= (value as usize) < super::hpack::TABLE_SIZE;
            }
            setting::ENABLE_PUSH if value > u32::from(self.role == Role::Server) => {
                return Err(Reason::PROTOCOL_ERROR);
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer_streams = value,
            setting::INITIAL_WINDOW_SIZE => {
                let window = i64::from(value);
                if window > MAX_WINDOW {
                    return Err(Reason::FLOW_CONTROL_ERROR);
                }
                let change = window - self.peer_window;
                self.peer_window = window;
                for stream in self.streams.values_mut() {
                    stream.send_window += change;
                    if stream.send_window > MAX_WINDOW {
                        return Err(Reason::FLOW_CONTROL_ERROR);
                    }
                    stream.wake();
                }
            }
            setting::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                return Err(Reason::PROTOCOL_ERROR);
            }
            // The rest does not concern what we send: no dynamic table, smallest frames.
            _ => {}
        }
        Ok(())
    }

    fn receive_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let data: [u8; 8] = payload.try_into().map_err(|_| Reason::FRAME_SIZE_ERROR)?;
        self.flood.frame()?;
        if head.has(flag::ACK) {
            self.pong = true;
        } else {
            frame::ping(self.out(), flag::ACK, data);
        }
        self.wake_driver();
        Ok(())
    }

    fn receive_go_away(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if payload.len() < 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.flood.frame()?;
        let last = frame::number(payload) & 0x7fff_ffff;
        self.leaving = Some(self.leaving.map_or(last, |before| before.min(last)));
        if self.role == Role::Client {
            for (_, stream) in self.streams.iter_mut().filter(|(id, _)| **id > last) {
                stream.end.get_or_insert(End::Refused);
                stream.wake();
            }
        }
        self.wake_driver();
        Ok(())
    }

    fn receive_window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if payload.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.flood.frame()?;
        let increment = i64::from(frame::number(payload) & 0x7fff_ffff);
        if head.stream == 0 {
            if increment == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.send_window += increment;
            if self.send_window > MAX_WINDOW {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            self.wake_next();
            return Ok(());
        }
        if self.is_unused(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if increment == 0 {
            return self.stream_error(head.stream, Reason::PROTOCOL_ERROR);
        }
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            return Ok(());
        };
        stream.send_window += increment;
        if stream.send_window > MAX_WINDOW {
            return self.stream_error(head.stream, Reason::FLOW_CONTROL_ERROR);
        }
        stream.wake();
        Ok(())
    }

    fn receive_priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Reason> {
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if payload.len() != 5 {
            return self.stream_error(head.stream, Reason::FRAME_SIZE_ERROR);
        }
        if frame::number(payload) & 0x7fff_ffff == head.stream {
            return self.stream_error(head.stream, Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    /// What the header block of a stream is for. Opens nothing yet.
    pub(super) fn expects(&mut self, id: u32, ends: bool) -> Result<Block, Reason> {
        if id == 0 || id.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if let Some(stream) = self.streams.get(&id) {
            let has_ended = stream.end.is_some();
            if has_ended && self.may_be_late(id) {
                return Ok(Block::Dropped);
            }
            if has_ended || stream.remote_closed {
                self.stream_error(id, Reason::STREAM_CLOSED)?;
                return Ok(Block::Dropped);
            }
            let is_answered = self.role == Role::Server || stream.answered;
            if !is_answered {
                return Ok(Block::Answer);
            }
            // A second head that ends nothing is no trailers.
            if !ends {
                self.stream_error(id, Reason::PROTOCOL_ERROR)?;
                return Ok(Block::Dropped);
            }
            return Ok(Block::Trailers);
        }
        match self.role {
            Role::Client if self.is_unused(id) => Err(Reason::PROTOCOL_ERROR),
            Role::Client => Ok(Block::Dropped),
            Role::Server if self.reset_by_us.contains(&id) => Ok(Block::Dropped),
            Role::Server if id <= self.last_opened => Err(Reason::STREAM_CLOSED),
            Role::Server => {
                self.last_opened = id;
                if self.is_left(id) {
                    return Ok(Block::Dropped);
                }
                if !self.takes_another() {
                    self.flood.reset()?;
                    self.write_reset(id, Reason::REFUSED_STREAM);
                    return Ok(Block::Dropped);
                }
                Ok(Block::Request)
            }
        }
    }

    /// Takes a request's head. `None`: its stream was refused.
    pub(super) fn receive_request(
        &mut self,
        id: u32,
        fault: Option<Fault>,
        (expected, ends): (Option<u64>, bool),
    ) -> Result<Option<u32>, Reason> {
        match fault {
            None => {
                self.insert(id, expected, ends);
                return Ok(Some(id));
            }
            Some(Fault::Malformed) => {
                self.flood.reset()?;
                self.write_reset(id, Reason::PROTOCOL_ERROR);
            }
            Some(Fault::TooLarge) => {
                self.flood.reset()?;
                self.refuse(id, &super::encode::too_large(), ends);
            }
        }
        Ok(None)
    }

    /// Takes the head of an answer, or of an interim one.
    pub(super) fn receive_answer(
        &mut self,
        id: u32,
        answer: Came,
        fault: Option<Fault>,
        ends: bool,
    ) -> Result<(), Reason> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let is_final = answer.head.status >= 200;
        let has_body = !stream.to_head && !matches!(answer.head.status, 204 | 304);
        stream.expected = answer.head.fields.content_length.filter(|_| has_body);
        let error = if fault.is_some() || (ends && !is_final) {
            Some(Reason::PROTOCOL_ERROR)
        } else if stream.heads.len() == MAX_HEADS {
            Some(Reason::ENHANCE_YOUR_CALM)
        } else {
            stream.expect(0, ends).err()
        };
        if let Some(reason) = error {
            return self.stream_error(id, reason);
        }
        stream.answered = is_final;
        stream.remote_closed = ends;
        stream.heads.push(answer);
        stream.wake();
        Ok(())
    }

    pub(super) fn receive_trailers(
        &mut self,
        id: u32,
        trailers: Trailers,
        fault: Option<Fault>,
    ) -> Result<(), Reason> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let error = match fault {
            Some(Fault::Malformed) => Some(Reason::PROTOCOL_ERROR),
            Some(Fault::TooLarge) => Some(Reason::ENHANCE_YOUR_CALM),
            None => stream.expect(0, true).err(),
        };
        if let Some(reason) = error {
            return self.stream_error(id, reason);
        }
        stream.remote_closed = true;
        if !trailers.is_empty() {
            stream.trailers = Some(Box::new(trailers));
        }
        stream.wake();
        Ok(())
    }
}
