//! Memory of one thread's HTTP/2 connections that the next frames use again.
//!
//! A connection without streams holds none: between two requests it would have to be made anew, so
//! it comes from here and goes back.

use super::head::Answered;
use crate::http1::head::Most;
use crate::spare::Spare;

/// Pieces that are kept, and the bytes that the largest of them may have.
const PIECES: usize = 1024;
const LARGEST: usize = 32 * 1024;
/// As many connections as have something to write in one turn of the event loop.
const OUTS: usize = 256;
/// Heads of answers that are kept.
const HEADS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    pieces: Spare<Vec<u8>>,
    /// For frames that wait for their sockets.
    outs: Spare<Vec<u8>>,
    // Boxed, because they move to a stream and back.
    heads: Spare<Box<Answered>>,
    most: Most,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            pieces: Spare::new(PIECES),
            outs: Spare::new(OUTS),
            heads: Spare::new(HEADS),
            most: Most::default(),
        }
    }
}

impl Memory {
    /// `most` is how many fields a head may have.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: Most(most),
            ..Self::default()
        }
    }

    /// An empty vector, with room if there is one.
    pub(super) fn take(&self) -> Vec<u8> {
        self.pieces.take().unwrap_or_default()
    }

    /// Takes one back.
    pub(super) fn put(&self, mut bytes: Vec<u8>) {
        if (1..=LARGEST).contains(&bytes.capacity()) {
            bytes.clear();
            self.pieces.put(bytes);
        }
    }

    /// Empty memory for frames, with room if there is some.
    pub(super) fn take_out(&self) -> Vec<u8> {
        self.outs.take().unwrap_or_default()
    }

    /// Empties memory whose frames are sent, and takes it back unless a long body made it large:
    /// the next connection has it while the processor still knows of it.
    pub(super) fn put_out(&self, out: &mut Vec<u8>) {
        out.clear();
        if (1..=LARGEST).contains(&out.capacity()) {
            self.outs.put(std::mem::take(out));
        }
    }

    /// For the head of an answer.
    pub(super) fn head(&self) -> Box<Answered> {
        self.heads.take().unwrap_or_else(|| {
            let mut head = Box::<Answered>::default();
            head.head.fields.most = self.most;
            head
        })
    }

    /// Takes it back.
    pub(super) fn put_head(&self, head: Box<Answered>) {
        if head.is_small() {
            self.heads.put(head);
        }
    }

    /// Lets go of what was not needed since the last call.
    pub(crate) fn shed(&self) {
        drop((self.pieces.shed(), self.outs.shed(), self.heads.shed()));
    }
}
