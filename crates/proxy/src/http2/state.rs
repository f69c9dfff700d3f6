//! One stream of a connection: what was received for its task, its windows and how it ends.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::task::{Context, Poll, Waker};

use super::frame::Reason;
use super::head::Came;
use crate::trailers::Trailers;

/// Why a stream ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer reset it, or broke the protocol on it.
    Reset(Reason),
    /// The peer says that it did not act on it and will not.
    Refused,
    /// The connection is gone.
    Gone,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Payload that its task has not taken yet.
    pub(super) received: Vec<u8>,
    /// Payload that was taken and is being used.
    pub(super) taken: usize,
    /// What the peer may still send.
    pub(super) receive_window: i64,
    /// Used bytes that the peer was not told of yet.
    pub(super) credit: usize,
    /// What its window has beyond that of a new stream.
    pub(super) grown: usize,
    pub(super) send_window: i64,
    /// Body bytes still to come, if its head said how many.
    pub(super) expected: Option<u64>,
    /// The request was HEAD; client role only.
    pub(super) to_head: bool,
    /// Answer heads; client role only.
    pub(super) heads: Heads,
    pub(super) trailers: Option<Box<Trailers>>,
    /// The final head of the answer came; client role only.
    pub(super) answered: bool,
    /// The peer sends nothing more.
    pub(super) remote_closed: bool,
    /// We send nothing more.
    pub(super) local_closed: bool,
    pub(super) end: Option<End>,
    pub(super) waker: Option<Waker>,
    pub(super) waits_for_window: bool,
    pub(super) waits_for_room: bool,
}

/// Heads of answers in their order; nearly always there is one.
#[derive(Debug, Default)]
pub(super) struct Heads {
    first: Option<Came>,
    further: VecDeque<Came>,
}

impl Heads {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.further.len()
    }

    pub(super) fn push(&mut self, head: Came) {
        if self.first.is_none() {
            self.first = Some(head);
        } else {
            self.further.push_back(head);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Came> {
        std::mem::replace(&mut self.first, self.further.pop_front())
    }
}

impl Stream {
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Remembers whom to wake. All halves of a stream belong to one task.
    pub(super) fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether either side may still send.
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none() && !(self.local_closed && self.remote_closed)
    }

    /// Takes payload into account. `Err`: it is more or less than the head said.
    pub(super) fn expect(&mut self, len: usize, ends: bool) -> Result<(), Reason> {
        if let Some(left) = &mut self.expected {
            *left = left.checked_sub(len as u64).ok_or(Reason::PROTOCOL_ERROR)?;
            if ends && *left > 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
        }
        Ok(())
    }
}

/// Stream numbers are small and consecutive, so nobody can choose them to collide.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
