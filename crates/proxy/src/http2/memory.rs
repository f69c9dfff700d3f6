//! Memory of one thread's HTTP/2 connections that the next frames use again.
//!
//! A connection without streams holds none: between two requests it would have to be made anew, so
//! it comes from here and goes back.

use std::cell::RefCell;

/// Pieces that are kept, and the largest of them in bytes: 4 MiB of each thread.
const KEEP: usize = 128;
const LARGEST: usize = 32 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory(RefCell<Vec<Vec<u8>>>);

impl Memory {
    /// An empty vector, with room if there is one.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes one back.
    pub(super) fn put(&self, mut bytes: Vec<u8>) {
        let mut kept = self.0.borrow_mut();
        if (1..=LARGEST).contains(&bytes.capacity()) && kept.len() < KEEP {
            bytes.clear();
            kept.push(bytes);
        }
    }
}
