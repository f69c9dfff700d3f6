//! The same head again: who asks for one thing over and over sends the same bytes. What they came
//! to is kept with the connection and shared. A head that differs costs a comparison.

use std::num::NonZeroU64;
use std::rc::Rc;

use super::head::RequestHead;

/// Bytes of a head that is remembered.
const LARGEST: usize = 1024;

/// The last head of a connection.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    bytes: Vec<u8>,
    /// What they came to, from the second time on: most heads come once.
    head: Option<Rc<RequestHead>>,
    /// Heads that were kept so far.
    kept: u64,
}

impl Recent {
    /// What `filled` begins with, if that is the last head again. A head says itself where
    /// it ends, so what follows does not matter.
    pub(crate) fn recall(&self, filled: &[u8]) -> Option<Rc<RequestHead>> {
        let before = self.head.as_ref()?;
        filled.starts_with(&self.bytes).then(|| Rc::clone(before))
    }

    /// Remembers a head that was read from the first of these bytes.
    pub(crate) fn remember(&mut self, filled: &[u8], head: &RequestHead) {
        let bytes = &filled[..head.len];
        if !head.persistent || bytes.len() > LARGEST {
            self.head = None;
            self.bytes.clear();
        } else if bytes == self.bytes {
            self.kept += 1;
            self.head = Some(Rc::new(RequestHead {
                again: NonZeroU64::new(self.kept),
                ..head.clone()
            }));
        } else {
            self.head = None;
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: a.example\r\nX: y\r\n\r\n";
    const OTHER: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: a.example\r\nX: z\r\n\r\n";
    const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

    /// As a connection does it; the number of a head that was known.
    fn read(recent: &mut Recent, bytes: &[u8]) -> (RequestHead, Option<u64>) {
        let mut head = RequestHead::default();
        match recent.recall(bytes) {
            Some(before) => head = RequestHead::clone(&before),
            None => {
                assert_eq!(head.parse(bytes), Ok(true));
                recent.remember(bytes, &head);
            }
        }
        let again = head.again.take().map(NonZeroU64::get);
        (head, again)
    }

    #[test]
    fn the_third_of_the_same_is_not_parsed_and_means_the_same() {
        let mut recent = Recent::default();
        let first = format!("{:?}", read(&mut recent, ONE).0);
        assert_eq!(read(&mut recent, ONE).1, None);
        // What follows is no part of it.
        let (third, again) = read(&mut recent, &[ONE, b"GET /b"].concat());
        assert_eq!((format!("{third:?}"), again), (first, Some(1)));
        assert_eq!(read(&mut recent, OTHER).1, None);
        assert_eq!(read(&mut recent, ONE).1, None);
        assert_eq!(read(&mut recent, ONE).1, None);
        assert_eq!(read(&mut recent, ONE).1, Some(2));
        // A longer one that begins the same way.
        let longer = [&ONE[..ONE.len() - 2], b"Z: z\r\n\r\n"].concat();
        assert_eq!(read(&mut recent, &longer).1, None);
        // No other comes after it.
        for _ in 0..3 {
            assert_eq!(read(&mut recent, LAST).1, None);
        }
        // A part of it is no head.
        for _ in 0..2 {
            read(&mut recent, ONE);
        }
        assert!(recent.recall(&ONE[..ONE.len() - 1]).is_none());
    }
}
