//! The same head again: who calls one method over and over, and the server that answers it, send
//! the same header block, byte for byte. What it came to is kept and shared, which takes a fraction
//! of decoding and judging it. A block that differs costs a comparison.

use std::num::NonZeroU64;
use std::rc::Rc;

use super::head::Answered;
use crate::http1::head::RequestHead;

/// Bytes of a block that is remembered, and of the head that it came to.
const LARGEST_BLOCK: usize = 512;
const LARGEST_HEAD: usize = 2048;

/// A request's head and what its spans point into.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) head: RequestHead,
    pub(crate) bytes: Vec<u8>,
}

/// The last header block of one direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Recent<H> {
    block: Vec<u8>,
    told: Told,
    /// What it came to, from the second time on: most blocks come once.
    head: Option<Rc<H>>,
    /// Heads that were kept so far.
    kept: u64,
}

/// What the meaning of a block depends on besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The state of the dynamic table, see [`super::hpack::Decoder::changes`].
    pub(super) changes: u64,
    /// Nothing follows the head.
    pub(super) ends: bool,
    /// It answers HEAD.
    pub(super) to_head: bool,
}

impl<H> Recent<H> {
    /// What this block came to, if it is the last one again.
    pub(super) fn recall(&self, block: &[u8], told: Told) -> Option<Rc<H>> {
        let head = self.head.as_ref()?;
        (told == self.told && block == self.block).then(|| Rc::clone(head))
    }

    /// Remembers a block that came to a head of `len` bytes, and `head` if it came before, too. `told` is as it was before; if the
    /// block itself has changed the table, it will mean something else the next time.
    fn put(
        &mut self,
        block: &[u8],
        (told, changes): (Told, u64),
        len: usize,
        head: impl FnOnce(Option<NonZeroU64>) -> H,
    ) {
        if told.changes != changes || block.len() > LARGEST_BLOCK || len > LARGEST_HEAD {
            self.head = None;
            self.block.clear();
            return;
        }
        if told == self.told && block == self.block {
            self.kept += 1;
            self.head = Some(Rc::new(head(NonZeroU64::new(self.kept))));
            return;
        }
        self.head = None;
        self.told = told;
        self.block.clear();
        self.block.extend_from_slice(block);
    }
}

impl Recent<Asked> {
    /// Remembers a head that has no fault.
    pub(super) fn remember(
        &mut self,
        block: &[u8],
        (told, changes): (Told, u64),
        (head, bytes): (&RequestHead, &[u8]),
    ) {
        self.put(block, (told, changes), bytes.len(), |again| Asked {
            head: RequestHead {
                again,
                ..head.clone()
            },
            bytes: bytes.to_vec(),
        });
    }
}

impl Recent<Answered> {
    /// Remembers a head that has no fault.
    pub(super) fn remember(
        &mut self,
        block: &[u8],
        (told, changes): (Told, u64),
        answer: &Answered,
    ) {
        let len = answer.bytes.len();
        self.put(block, (told, changes), len, |_| answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http2::head::{self, Fault};
    use crate::http2::hpack::{Decoder, Invalid, write, write_target};

    const LIMIT: usize = 4096;

    type Read = Result<(Option<Fault>, String), Invalid>;

    fn text(fault: Option<Fault>, head: &RequestHead, bytes: &[u8]) -> (Option<Fault>, String) {
        // What a faulty head came to is nobody's business.
        let text = fault.map_or_else(|| format!("{head:?} {bytes:?}"), |_| String::new());
        (fault, text)
    }

    fn plainly(decoder: &mut Decoder, block: &[u8], ends: bool) -> Read {
        let (mut head, mut bytes) = Default::default();
        let fault = head::request(decoder, (block, LIMIT), ends, (&mut head, &mut bytes))?;
        Ok(text(fault, &head, &bytes))
    }

    /// As the driver does it; whether it was remembered.
    fn remembering(
        (decoder, recent): (&mut Decoder, &mut Recent<Asked>),
        block: &[u8],
        ends: bool,
    ) -> (Read, bool) {
        let (mut head, mut bytes) = Default::default();
        let told = Told {
            changes: decoder.changes(),
            ends,
            to_head: false,
        };
        if let Some(asked) = recent.recall(block, told) {
            (head, bytes) = (asked.head.clone(), asked.bytes.clone());
            assert!(head.again.take().is_some());
            return (Ok(text(None, &head, &bytes)), true);
        }
        let read = head::request(decoder, (block, LIMIT), ends, (&mut head, &mut bytes));
        if read == Ok(None) {
            recent.remember(block, (told, decoder.changes()), (&head, &bytes));
        }
        (read.map(|fault| text(fault, &head, &bytes)), false)
    }

    /// Blocks that build on the table, change it, or do neither.
    fn block(kind: u8) -> Vec<u8> {
        let mut block = Vec::new();
        if kind == 5 {
            // A smaller table.
            block.push(0x21);
        }
        write_target(&mut block, (b"GET", true), b"a.example", b"/x");
        match kind {
            0 => write(&mut block, b"accept", b"text/plain"),
            1 => write(&mut block, b"accept", b"text/html"),
            // Added to the table.
            2 => block.extend_from_slice(b"\x40\x03one\x01a"),
            3 => block.extend_from_slice(b"\x40\x03one\x01b"),
            // The youngest of the table.
            4 => block.push(0xbe),
            5 => {}
            // No field of a request.
            _ => write(&mut block, b"connection", b"close"),
        }
        block
    }

    proptest! {
        #[test]
        fn a_block_that_is_remembered_means_what_it_means(
            kinds in prop::collection::vec((0u8..7, any::<bool>(), 1usize..4), 1..20),
        ) {
            let (mut one, mut other) = (Decoder::default(), Decoder::default());
            let mut recent = Recent::default();
            for (kind, ends, times) in kinds {
                for _ in 0..times {
                    let block = block(kind);
                    let (read, _) = remembering((&mut one, &mut recent), &block, ends);
                    let expected = plainly(&mut other, &block, ends);
                    let is_over = expected.is_err();
                    prop_assert_eq!(read, expected);
                    if is_over {
                        return Ok(());
                    }
                }
            }
        }
    }

    #[test]
    fn the_third_of_the_same_is_not_decoded() {
        let (mut decoder, mut recent) = (Decoder::default(), Recent::default());
        let mut recalled = |kind| {
            let tools = (&mut decoder, &mut recent);
            remembering(tools, &block(kind), true).1
        };
        assert_eq!([0, 0, 0, 0].map(&mut recalled), [false, false, true, true]);
        assert_eq!([1, 0, 0, 0].map(&mut recalled), [false, false, false, true]);
        // They change what they mean.
        assert_eq!([2, 2, 2].map(&mut recalled), [false; 3]);
        assert_eq!([4, 4, 4].map(&mut recalled), [false, false, true]);
        assert_eq!([2, 4, 4].map(&mut recalled), [false; 3]);
    }
}
