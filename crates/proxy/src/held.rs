//! Bodies that are read before their request is forwarded, because somebody is asked about them.
//!
//! What was read is kept in memory, within a bound per request (the caller's) and one for all
//! requests of the gateway, and goes first when the body is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

use crate::message::{Chunk, Source, SourceError};
use crate::timeout::Patience;
use crate::trailers::Trailers;

/// Bytes that all requests of a gateway may hold at once.
const ALL: usize = 256 * 1024 * 1024;

/// What all requests hold; shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Account(AtomicUsize);

impl Account {
    fn take(&self, bytes: usize) -> bool {
        let taken = |all: usize| all.checked_add(bytes).filter(|all| *all <= ALL);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, taken).is_ok()
    }
}

/// The bounds of holding.
pub(crate) struct Room<'a> {
    pub(crate) account: &'a Arc<Account>,
    /// How long a client may send nothing, or too little.
    pub(crate) patience: Patience<'a>,
}

/// Why a body cannot be held.
#[derive(Debug)]
pub(crate) enum HoldError {
    Source(SourceError),
    /// The client sent nothing for too long.
    Stalled,
    /// Other requests hold all that may be held.
    NoRoom,
}

/// The beginning of a body.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// A copy of the head, for those whose head makes room for the body.
    pub(crate) head: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    /// Nothing follows.
    pub(crate) is_whole: bool,
    is_taken: bool,
    trailers: Option<Box<Trailers>>,
    charged: Option<(Arc<Account>, usize)>,
}

impl Held {
    /// Reads on until `most` bytes or the end are there.
    async fn fill(
        &mut self,
        source: &mut impl Source,
        most: usize,
        room: &Room<'_>,
    ) -> Result<(), HoldError> {
        let start = Instant::now();
        while !self.is_whole && self.bytes.len() < most {
            let all = room.patience.for_body(self.bytes.len() as u64);
            let left = all.map(|all| all.saturating_sub(start.elapsed()));
            let stall = room.patience.limits.stall;
            let left = left.map_or(stall, |left| left.min(stall));
            let chunk = tokio::time::timeout(left, source.next()).await;
            let chunk = chunk.map_err(|_| HoldError::Stalled)?;
            let chunk = chunk.map_err(HoldError::Source)?;
            self.charge(chunk.data.len(), room.account)?;
            self.bytes.extend_from_slice(chunk.data);
            self.is_whole = chunk.last;
            self.trailers = chunk.trailers;
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize, account: &Arc<Account>) -> Result<(), HoldError> {
        if !account.take(bytes) {
            return Err(HoldError::NoRoom);
        }
        let new = || (Arc::clone(account), 0);
        self.charged.get_or_insert_with(new).1 += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((account, bytes)) = &self.charged {
            account.0.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

/// A source whose beginning may have been read before.
#[derive(Debug)]
pub(crate) struct Holding<S> {
    pub(crate) source: S,
    pub(crate) held: Option<Box<Held>>,
}

impl<S: Source> Holding<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source, held: None }
    }

    /// Holds on until `most` bytes or the end are there.
    pub(crate) async fn hold(&mut self, most: usize, room: &Room<'_>) -> Result<(), HoldError> {
        let held = self.held.get_or_insert_default();
        held.fill(&mut self.source, most, room).await
    }

    /// What was read; it is lent until the next part is asked for.
    fn take(&mut self) -> Chunk<'_> {
        let Some(held) = &mut self.held else {
            return Chunk::end(None);
        };
        held.is_taken = true;
        Chunk {
            data: &held.bytes,
            last: held.is_whole,
            trailers: held.trailers.take(),
        }
    }

    /// Whether something was read that nobody has taken yet.
    fn has_held(&self) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| !held.is_taken && (held.is_whole || !held.bytes.is_empty()))
    }
}

impl<S: Source> Source for Holding<S> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        if self.has_held() {
            return Ok(self.take());
        }
        // What was taken is no longer lent.
        if let Some(held) = self.held.take()
            && held.is_whole
        {
            return Ok(Chunk::end(None));
        }
        self.source.next().await
    }

    fn has_input(&self) -> bool {
        self.has_held() || self.source.has_input()
    }

    async fn gone(&mut self) {
        self.source.gone().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Limits;

    /// Gives its parts one after another, then waits forever unless the last one is the end.
    struct Parts(Vec<&'static [u8]>, bool);

    impl Source for Parts {
        async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
            if self.0.is_empty() {
                return std::future::pending().await;
            }
            let data = self.0.remove(0);
            let last = self.1 && self.0.is_empty();
            Ok(Chunk {
                data,
                last,
                trailers: None,
            })
        }

        fn has_input(&self) -> bool {
            !self.0.is_empty()
        }

        async fn gone(&mut self) {
            std::future::pending().await
        }
    }

    const LIMITS: Limits = Limits {
        stall: Duration::from_secs(5),
        body_rate: 1,
        ..Limits::STANDARD
    };

    fn room(account: &Arc<Account>) -> Room<'_> {
        Room {
            account,
            patience: Patience {
                limits: &LIMITS,
                is_grpc: false,
            },
        }
    }

    #[tokio::test]
    async fn what_was_held_goes_first_and_the_rest_follows() {
        let account = Arc::default();
        let mut body = Holding::new(Parts(vec![b"ab", b"cd", b"ef"], true));
        body.hold(3, &room(&account)).await.expect("held");
        let held = body.held.as_ref().expect("held");
        assert_eq!((&*held.bytes, held.is_whole), (&b"abcd"[..], false));
        assert_eq!(account.0.load(Ordering::Relaxed), 4);
        assert!(body.has_input());
        let first = body.next().await.expect("a part");
        assert_eq!((first.data, first.last), (&b"abcd"[..], false));
        let second = body.next().await.expect("a part");
        assert_eq!((second.data, second.last), (&b"ef"[..], true));
        assert_eq!(account.0.load(Ordering::Relaxed), 0, "given back");
    }

    #[tokio::test]
    async fn a_whole_body_is_one_part_and_nothing_is_read_after_it() {
        let account = Arc::default();
        let mut body = Holding::new(Parts(vec![b"ab", b"cd"], true));
        body.hold(100, &room(&account)).await.expect("held");
        let all = body.next().await.expect("a part");
        assert_eq!((all.data, all.last), (&b"abcd"[..], true));
        assert!(body.next().await.expect("an end").last);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_and_a_gateway_that_is_full_are_told_apart() {
        let account = Arc::default();
        let mut body = Holding::new(Parts(vec![b"ab"], false));
        let stalled = body.hold(100, &room(&account)).await;
        assert!(matches!(stalled, Err(HoldError::Stalled)));
        assert!(account.take(ALL - 2));
        let mut other = Holding::new(Parts(vec![b"ab"], false));
        let full = other.hold(100, &room(&account)).await;
        assert!(matches!(full, Err(HoldError::NoRoom)));
        drop(body);
        other.source.0.push(b"cd");
        let again = other.hold(2, &room(&account)).await;
        assert!(again.is_ok(), "there is room again");
    }
}
