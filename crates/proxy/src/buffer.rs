//! Read buffers that connections borrow from their thread.
//!
//! An idle connection holds no buffer: it takes one when its socket becomes readable and gives
//! it back once it is empty, so memory follows the bytes in transit and not the number of
//! connections. Buffers are zeroed once, when they are made.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use crate::spare::Spare;
use crate::transport::ReadHalf;

/// Enough for nearly every head and small body, in bytes.
pub(crate) const SMALL: usize = 16 * 1024;
/// For long bodies, in bytes. Of a megabyte, half as much costs a quarter more CPU time, and less
/// than that half as much again.
pub(crate) const LARGE: usize = 256 * 1024;

/// The free buffers of one thread.
#[derive(Debug)]
pub(crate) struct Buffers {
    small: Spare<Vec<u8>>,
    large: Spare<Vec<u8>>,
    out: Spare<Vec<u8>>,
    /// Large ones in use.
    lent: Cell<usize>,
}

/// Large buffers that a thread has at once, 32 MiB: who reads a long body slowly holds one. All
/// beyond that are read through small ones.
const MOST_LARGE: usize = 128;
// What a burst leaves behind, until nobody has needed it for a while: 4 MiB of small and 4 MiB of
// large buffers per thread.
const KEEP_SMALL: usize = 256;
const KEEP_LARGE: usize = 16;
/// Empty memory for what is written, and the bytes that the largest piece may have: small bodies
/// are copied beside their heads. Nearly always one is enough, since what is written leaves at once.
const KEEP_OUT: usize = 64;
const LARGEST_OUT: usize = 32 * 1024;

impl Default for Buffers {
    fn default() -> Self {
        Self {
            small: Spare::new(KEEP_SMALL),
            large: Spare::new(KEEP_LARGE),
            out: Spare::new(KEEP_OUT),
            lent: Cell::new(0),
        }
    }
}

impl Buffers {
    fn take(&self, size: usize) -> Vec<u8> {
        let free = if size <= SMALL {
            &self.small
        } else {
            &self.large
        };
        free.take()
            .filter(|memory| memory.len() >= size)
            .unwrap_or_else(|| vec![0; size])
    }

    fn put(&self, memory: Vec<u8>) {
        match memory.len() {
            SMALL => self.small.put(memory),
            LARGE => self.large.put(memory),
            _ => {}
        }
    }

    /// Counts a large buffer, if there may be one more.
    fn lend(&self) -> bool {
        let lent = self.lent.get();
        self.lent.set(lent + usize::from(lent < MOST_LARGE));
        lent < MOST_LARGE
    }

    /// Empty memory to be written from. What a connection has sent is not kept for its next
    /// message: of the memory that another one has just used the processor still knows.
    pub(crate) fn take_out(&self) -> Vec<u8> {
        self.out.take().unwrap_or_default()
    }

    /// Takes it back.
    pub(crate) fn put_out(&self, mut memory: Vec<u8>) {
        if (1..=LARGEST_OUT).contains(&memory.capacity()) {
            memory.clear();
            self.out.put(memory);
        }
    }

    /// Lets go of what was not needed since the last call.
    pub(crate) fn shed(&self) {
        drop((self.small.shed(), self.large.shed(), self.out.shed()));
    }
}

/// Bytes read and not yet consumed.
#[derive(Debug)]
pub(crate) struct Buffer {
    buffers: Rc<Buffers>,
    /// Empty while the buffer holds no memory; else its length is the capacity.
    memory: Vec<u8>,
    start: usize,
    end: usize,
    /// The memory counts among the large ones in use.
    is_lent: bool,
}

impl Buffer {
    pub(crate) fn new(buffers: Rc<Buffers>) -> Self {
        Self {
            buffers,
            memory: Vec::new(),
            start: 0,
            end: 0,
            is_lent: false,
        }
    }

    /// The bytes that wait to be consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// The same, to be decoded in place.
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count.min(self.end - self.start);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Whether the buffer holds `limit` bytes, so that reading on would exceed it.
    pub(crate) fn is_full(&self, limit: usize) -> bool {
        self.end - self.start >= limit
    }

    /// Gives the memory back if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() && !self.memory.is_empty() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        self.buffers.put(std::mem::take(&mut self.memory));
        if std::mem::take(&mut self.is_lent) {
            self.buffers.lent.set(self.buffers.lent.get() - 1);
        }
    }

    /// Takes a large buffer for the next reads, if the thread has one; what is buffered moves along.
    pub(crate) fn enlarge(&mut self) {
        if self.memory.len() < LARGE && self.buffers.lend() {
            self.is_lent = true;
            let mut memory = self.buffers.take(LARGE);
            let filled = self.end - self.start;
            memory[..filled].copy_from_slice(self.filled());
            self.buffers
                .put(std::mem::replace(&mut self.memory, memory));
            (self.start, self.end) = (0, filled);
        }
    }

    /// Whether the last read left no room: more is probably coming.
    pub(crate) fn has_no_room(&self) -> bool {
        self.end == self.memory.len() && !self.is_empty()
    }

    /// A buffer that holds these bytes.
    pub(crate) fn holding(buffers: Rc<Buffers>, bytes: &[u8]) -> Self {
        let mut buffer = Self::new(buffers);
        if !bytes.is_empty() {
            buffer.memory = buffer.buffers.take(bytes.len().max(SMALL));
            buffer.memory[..bytes.len()].copy_from_slice(bytes);
            buffer.end = bytes.len();
        }
        buffer
    }

    /// Makes room for at least one byte, growing up to `limit` bytes in all.
    fn reserve(&mut self, limit: usize) {
        if self.memory.is_empty() {
            self.memory = self.buffers.take(SMALL);
        }
        if self.end < self.memory.len() {
            return;
        }
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else if self.memory.len() < limit {
            let size = (self.memory.len() * 2).min(limit.max(SMALL));
            self.memory.resize(size, 0);
        }
    }

    #[cfg(test)]
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.reserve(usize::MAX / 2);
            self.memory[self.end] = *byte;
            self.end += 1;
        }
    }

    /// Reads once, keeping memory only if the socket was readable. `Ok(0)` is the end of the
    /// stream. The caller has checked [`Self::is_full`] against `limit`.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut ReadHalf<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        // Asking whether there is something first would cost more than taking memory in vain.
        self.reserve(limit);
        let mut spare = ReadBuf::new(&mut self.memory[self.end..]);
        // A short read clears tokio's readiness without another system call.
        let read = Pin::new(stream).poll_read(cx, &mut spare);
        let count = spare.filled().len();
        match read {
            Poll::Ready(Ok(())) => {
                self.end += count;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.release();
                Poll::Pending
            }
        }
    }

    /// See [`Self::poll_read`].
    pub(crate) async fn read(
        &mut self,
        stream: &mut ReadHalf<'_>,
        limit: usize,
    ) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, stream, limit)).await
    }

    /// Reads once of something long, with as much memory as `is_more` tells: whether the read before
    /// took all that a small buffer takes. Returns the bytes, and the same for the next read.
    pub(crate) async fn read_long(
        &mut self,
        stream: &mut ReadHalf<'_>,
        is_more: bool,
    ) -> io::Result<(usize, bool)> {
        let count = poll_fn(|cx| {
            // Again each time, since none is held while there is nothing to read.
            if is_more {
                self.enlarge();
            }
            self.poll_read(cx, stream, LARGE)
        });
        let count = count.await?;
        Ok((count, count >= SMALL))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.memory.is_empty() {
            self.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_gives_its_memory_back() {
        let buffers = Rc::new(Buffers::default());
        let mut buffer = Buffer::new(Rc::clone(&buffers));
        buffer.push(b"abc");
        buffer.release();
        assert_eq!(buffer.filled(), b"abc");
        buffer.consume(3);
        buffer.release();
        assert_eq!(buffer.memory.capacity(), 0);
        assert!(buffers.small.take().is_some());
        assert!(buffers.small.take().is_none(), "one was taken");
    }

    #[test]
    fn a_thread_has_so_many_large_buffers_and_no_more() {
        let buffers = Rc::new(Buffers::default());
        let large = || {
            let mut buffer = Buffer::new(Rc::clone(&buffers));
            buffer.push(b"abc");
            buffer.enlarge();
            // A second time it has one already.
            buffer.enlarge();
            assert_eq!(buffer.filled(), b"abc");
            buffer
        };
        let mut held: Vec<_> = (0..MOST_LARGE).map(|_| large()).collect();
        assert!(held.iter().all(|it| it.memory.len() == LARGE));
        assert_eq!(large().memory.len(), SMALL);
        // One that is read empty, and one that is dropped, make room for two.
        held[0].consume(3);
        held[0].release();
        held.truncate(MOST_LARGE - 1);
        let more = [large(), large(), large()].map(|it| it.memory.len());
        assert_eq!(more, [LARGE, LARGE, SMALL]);
        drop(held);
        assert_eq!(buffers.lent.get(), 0);
    }

    #[test]
    fn consumed_room_is_used_again_before_the_buffer_grows() {
        let mut buffer = Buffer::new(Rc::default());
        buffer.push(&[1; SMALL]);
        buffer.consume(10);
        buffer.push(&[2; 10]);
        assert_eq!(buffer.memory.len(), SMALL);
        assert_eq!(buffer.filled().len(), SMALL);
    }
}
