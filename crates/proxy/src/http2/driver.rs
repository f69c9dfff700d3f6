//! Reads and writes the socket of one connection, in one task, for all its streams.
//!
//! A turn: write what the streams appended since the last one, then read once and handle every
//! frame in it. Streams that got something run next; what they append wakes this task again, so
//! a burst of requests costs one read and one write however many streams it has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::core::SharedCore;
use super::frame::{self, HEAD, Head, MAX_PAYLOAD, Reason, flag, kind};
use super::head::{self, Answered, Came, Fault};
use super::hpack::{Decoder, Invalid};
use super::receive::Block;
use super::recent::{Asked, Recent, Told};
use crate::buffer::{Buffer, LARGE};
use crate::transport::{ReadHalf, WriteHalf};
use crate::worker::Workspace;

/// Reads in one turn before the streams get theirs.
const READS: usize = 4;
/// Frames that one header block may come in; more are a flood (CVE-2024-27316 and its kin).
const MAX_CONTINUATIONS: usize = 32;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The peer closed it, or it failed.
    Gone(io::Error),
    /// The peer broke the protocol, or asked for too much.
    Error(Reason),
    /// Nothing is left to do.
    Finished,
}

impl From<Reason> for Ended {
    fn from(reason: Reason) -> Self {
        Self::Error(reason)
    }
}

impl From<Invalid> for Ended {
    fn from(_: Invalid) -> Self {
        Self::Error(Reason::COMPRESSION_ERROR)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Who serves the streams that the peer opens.
pub(super) trait Requests {
    /// Memory for the head of one.
    fn workspace(&mut self) -> Box<Workspace>;
    /// Takes it back unused.
    fn recycle(&mut self, workspace: Box<Workspace>);
    /// Serves one.
    fn start(&mut self, id: u32, workspace: Box<Workspace>);
}

/// See the module.
pub(super) struct Driver<'s, R> {
    pub(super) core: SharedCore,
    read: ReadHalf<'s>,
    write: WriteHalf<'s>,
    buffer: Buffer,
    frames: Frames<R>,
}

/// What is known between two frames.
struct Frames<R> {
    core: SharedCore,
    requests: R,
    decoder: Decoder,
    /// The peer's SETTINGS came, which must be first.
    is_settled: bool,
    /// A header block that is not complete.
    open: Option<Open>,
    block: Vec<u8>,
    asked: Recent<Asked>,
    answered: Recent<Answered>,
}

struct Open {
    stream: u32,
    block: Block,
    ends: bool,
    frames: usize,
}

impl<'s, R: Requests> Driver<'s, R> {
    /// `buffer` holds what was read already, without the preface.
    pub(super) fn new(
        core: SharedCore,
        (read, write): (ReadHalf<'s>, WriteHalf<'s>),
        buffer: Buffer,
        requests: R,
    ) -> Self {
        Self {
            frames: Frames {
                core: core.clone(),
                requests,
                decoder: Decoder::default(),
                is_settled: false,
                open: None,
                block: Vec::new(),
                asked: Recent::default(),
                answered: Recent::default(),
            },
            core,
            read,
            write,
            buffer,
        }
    }

    /// Whether the peer is in the middle of something that has to come soon: its settings, or a
    /// header block, which keeps every other stream from going on.
    pub(super) fn is_owed(&self) -> bool {
        !self.frames.is_settled || self.frames.open.is_some()
    }

    /// One turn. Ready when the connection is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.core.borrow_mut().driven_by(cx);
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        self.write(cx)?;
        // What came with the preface.
        if !self.buffer.is_empty() {
            self.handle()?;
        }
        for _ in 0..READS {
            if self.core.borrow().is_choked() {
                return Ok(());
            }
            let Poll::Ready(read) = self.buffer.poll_read(cx, &mut self.read, LARGE) else {
                if self.core.borrow().is_finished() && self.core.borrow().unwritten().is_empty() {
                    return Err(Ended::Finished);
                }
                return Ok(());
            };
            if read? == 0 {
                return Err(Ended::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            let was_full = self.buffer.has_no_room();
            self.handle()?;
            if was_full {
                self.buffer.enlarge();
            }
        }
        // More may be there, but others have to get on too.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut core = self.core.borrow_mut();
        while !core.unwritten().is_empty() {
            match Pin::new(&mut self.write).poll_write(cx, core.unwritten()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => core.wrote(count),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        drop(core);
        match Pin::new(&mut self.write).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Handles every complete frame.
    fn handle(&mut self) -> Result<(), Ended> {
        let mut rest = self.buffer.filled();
        let total = rest.len();
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let head = Head::parse(*head);
            if head.len > MAX_PAYLOAD {
                return Err(Reason::FRAME_SIZE_ERROR.into());
            }
            let Some((payload, after)) = after.split_at_checked(head.len) else {
                break;
            };
            self.frames.handle(head, payload)?;
            rest = after;
        }
        let left = rest.len();
        self.buffer.consume(total - left);
        self.buffer.release();
        Ok(())
    }

    /// Tells the peer why the connection ends. Best effort: nothing waits for it to listen.
    pub(super) fn last_words(&mut self, reason: Reason) {
        let mut core = self.core.borrow_mut();
        core.leave_for_good(reason);
        core.fail();
        drop(core);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = self.write(&mut cx);
    }

    /// The halves of the socket, for the end.
    pub(super) fn into_halves(self) -> (ReadHalf<'s>, WriteHalf<'s>, Buffer) {
        (self.read, self.write, self.buffer)
    }
}

impl<R: Requests> Frames<R> {
    fn handle(&mut self, head: Head, payload: &[u8]) -> Result<(), Ended> {
        #[cfg(test)]
        crate::panics::faults::frame(head.kind);
        if !self.is_settled {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(Reason::PROTOCOL_ERROR.into());
            }
            self.is_settled = true;
        }
        match (head.kind, self.open.take()) {
            (kind::CONTINUATION, Some(open)) if open.stream == head.stream => {
                self.continuation(open, head, payload)
            }
            // Nothing may come between the frames of a header block (RFC 9113 §6.10).
            (_, Some(_)) => Err(Reason::PROTOCOL_ERROR.into()),
            (kind::HEADERS, None) => self.headers(head, payload),
            (_, None) => Ok(self.core.borrow_mut().receive(head, payload)?),
        }
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Ended> {
        let (part, parent) = frame::unpad(head, payload)?;
        let ends = head.has(flag::END_STREAM);
        let mut core = self.core.borrow_mut();
        let mut block = core.expects(head.stream, ends)?;
        if parent == Some(head.stream) {
            // A stream that depends on itself (RFC 9113 §5.3.1 of its predecessor).
            core.stream_error(head.stream, Reason::PROTOCOL_ERROR)?;
            block = Block::Dropped;
        }
        drop(core);
        if head.has(flag::END_HEADERS) {
            return self.complete(head.stream, block, ends, part);
        }
        self.block.clear();
        self.block.extend_from_slice(part);
        self.open = Some(Open {
            stream: head.stream,
            block,
            ends,
            frames: 0,
        });
        Ok(())
    }

    fn continuation(&mut self, mut open: Open, head: Head, part: &[u8]) -> Result<(), Ended> {
        open.frames += 1;
        let most = self.core.borrow().head_bytes() + MAX_PAYLOAD;
        if open.frames > MAX_CONTINUATIONS || self.block.len() + part.len() > most {
            return Err(Reason::ENHANCE_YOUR_CALM.into());
        }
        self.block.extend_from_slice(part);
        if !head.has(flag::END_HEADERS) {
            self.open = Some(open);
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let done = self.complete(open.stream, open.block, open.ends, &block);
        if block.capacity() <= 2 * MAX_PAYLOAD {
            self.block = block;
        }
        done
    }

    /// Decodes a whole header block and hands it over.
    fn complete(&mut self, id: u32, block: Block, ends: bool, bytes: &[u8]) -> Result<(), Ended> {
        let limit = self.core.borrow().head_bytes();
        let input = (bytes, limit);
        match block {
            Block::Request => return self.request(id, ends, input),
            Block::Answer => return self.answer(id, ends, input),
            Block::Trailers => {
                let (trailers, fault) = head::trailers(&mut self.decoder, input)?;
                let mut core = self.core.borrow_mut();
                core.receive_trailers(id, trailers, fault)?;
            }
            Block::Dropped => self.decoder.decode(bytes, |_, _, _| {})?,
        }
        Ok(())
    }

    fn request(&mut self, id: u32, ends: bool, input: (&[u8], usize)) -> Result<(), Ended> {
        let mut workspace = self.requests.workspace();
        let fault = self.decode_request(ends, input, &mut workspace)?;
        let expected = workspace.head().fields.content_length;
        let taken = self
            .core
            .borrow_mut()
            .receive_request(id, fault, (expected, ends))?;
        match taken {
            Some(id) => self.requests.start(id, workspace),
            None => self.requests.recycle(workspace),
        }
        Ok(())
    }

    fn decode_request(
        &mut self,
        ends: bool,
        input: (&[u8], usize),
        workspace: &mut Workspace,
    ) -> Result<Option<Fault>, Invalid> {
        let told = self.told(ends, false);
        workspace.known = self.asked.recall(input.0, told);
        if workspace.known.is_some() {
            return Ok(None);
        }
        let Workspace { request, bytes, .. } = workspace;
        let fault = head::request(&mut self.decoder, input, ends, (request, bytes))?;
        if fault.is_none() {
            let told = (told, self.decoder.changes());
            self.asked.remember(input.0, told, (request, bytes));
        }
        Ok(fault)
    }

    fn answer(&mut self, id: u32, ends: bool, input: (&[u8], usize)) -> Result<(), Ended> {
        let to_head = self.core.borrow().is_to_head(id);
        let told = self.told(ends, to_head);
        let known = self.answered.recall(input.0, told);
        let (answer, fault) = match known {
            Some(known) => (Came::Again(known), None),
            None => self.decode_answer(input, told)?,
        };
        let mut core = self.core.borrow_mut();
        Ok(core.receive_answer(id, answer, fault, ends)?)
    }

    fn decode_answer(
        &mut self,
        input: (&[u8], usize),
        told: Told,
    ) -> Result<(Came, Option<Fault>), Invalid> {
        let mut answer = self.core.borrow().memory.head();
        let how = (told.to_head, told.ends);
        let fault = head::response(&mut self.decoder, input, how, &mut answer)?;
        if fault.is_none() {
            let told = (told, self.decoder.changes());
            self.answered.remember(input.0, told, &answer);
        }
        Ok((Came::New(answer), fault))
    }

    fn told(&self, ends: bool, to_head: bool) -> Told {
        Told {
            changes: self.decoder.changes(),
            ends,
            to_head,
        }
    }
}

/// A side that lets the peer open nothing.
pub(super) struct NoRequests;

impl Requests for NoRequests {
    fn workspace(&mut self) -> Box<Workspace> {
        Box::default()
    }

    fn recycle(&mut self, _: Box<Workspace>) {}

    fn start(&mut self, _: u32, _: Box<Workspace>) {
        // Not reached: a client's `expects` never says that a block is a request.
    }
}

#[cfg(any(test, fuzzing))]
pub(super) mod steps;
#[cfg(test)]
mod tests;
