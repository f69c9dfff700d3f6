//! Keys that wait for a reconcile.
//!
//! A key is in the queue at most once, is never handed out while it is being worked on, and is
//! handed out again if it was added meanwhile. Delayed keys keep the earliest time asked for.
//!
//! What waits when the work begins is everything that there is; most of it needs nothing. Changes
//! that come after that go ahead of it, so a user does not wait for ten thousand objects of others
//! after a restart. The old ones still get every few turns, so that they are done some day.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A work queue. Clone freely; clones are one queue.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

/// Of so many keys that are handed out, one is of those that waited when the work began.
const TURNS: u32 = 4;

/// Where a key waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    First,
    Ready,
}

struct State<K> {
    ready: VecDeque<K>,
    /// What waited when the work began; `None` before that.
    first: Option<VecDeque<K>>,
    turn: u32,
    waiting: HashMap<K, Lane>,
    working: HashSet<K>,
    again: HashSet<K>,
    delayed: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
}

impl<K: Clone + Ord + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            first: None,
            turn: 0,
            waiting: HashMap::new(),
            working: HashSet::new(),
            again: HashSet::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                wake: Notify::new(),
            }),
        }
    }

    /// Asks for a reconcile now.
    pub fn add(&self, key: K) {
        let mut state = self.lock();
        state.add(key);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Asks for a reconcile after `delay`, or earlier if that was asked for already.
    pub fn add_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.lock();
        match state.due.get(&key).copied() {
            Some(earlier) if earlier <= at => return,
            Some(later) => {
                state.delayed.remove(&(later, key.clone()));
            }
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.delayed.insert((at, key));
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Waits for the next key. It counts as being worked on until [`Self::done`].
    pub async fn next(&self) -> K {
        loop {
            let wake = self.shared.wake.notified();
            let until = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    state.working.insert(key.clone());
                    if !state.waiting.is_empty() {
                        self.shared.wake.notify_one();
                    }
                    return key;
                }
                state.delayed.first().map(|(at, _)| *at)
            };
            match until {
                Some(at) => tokio::select! {
                    () = wake => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => wake.await,
            }
        }
    }

    /// Work on this key is over; it is handed out again if it was added meanwhile.
    pub fn done(&self, key: &K) {
        let mut state = self.lock();
        state.working.remove(key);
        if state.again.remove(key) {
            state.add(key.clone());
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Ord + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.working.contains(&key) {
            self.again.insert(key);
        } else if self.waiting.insert(key.clone(), Lane::Ready) != Some(Lane::Ready) {
            self.ready.push_back(key);
        }
    }

    /// The key whose turn it is.
    fn take(&mut self) -> Option<K> {
        if self.first.is_none() {
            self.waiting
                .values_mut()
                .for_each(|lane| *lane = Lane::First);
            self.first = Some(std::mem::take(&mut self.ready));
        }
        self.turn = (self.turn + 1) % TURNS;
        let key = match self.turn {
            0 => self.take_first().or_else(|| self.ready.pop_front()),
            _ => self.ready.pop_front().or_else(|| self.take_first()),
        }?;
        self.waiting.remove(&key);
        Some(key)
    }

    /// The next that nothing happened to since the work began: the others are in `ready` as well.
    fn take_first(&mut self) -> Option<K> {
        let Self { first, waiting, .. } = self;
        let first = first.as_mut()?;
        if first.is_empty() {
            *first = VecDeque::new(); // Gives its memory back.
        }
        std::iter::from_fn(|| first.pop_front()).find(|key| waiting.get(key) == Some(&Lane::First))
    }

    fn promote(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_added_twice_is_handed_out_once_and_again_if_added_while_worked_on() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "b");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test]
    async fn changes_go_ahead_of_what_was_there_and_that_still_gets_its_turns() {
        let queue = Queue::new();
        (0..6).for_each(|old| queue.add(old));
        assert_eq!(queue.next().await, 0);
        (10..14).for_each(|new| queue.add(new));
        queue.add(4);
        let mut order = Vec::new();
        for _ in 0..9 {
            order.push(queue.next().await);
        }
        assert_eq!(order, [10, 11, 1, 12, 13, 4, 2, 3, 5]);
        queue.done(&4);
        queue.add(4);
        assert_eq!(queue.next().await, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_key_comes_at_the_earliest_time_asked_for() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(2));
        queue.add_after("a", Duration::from_secs(5));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn two_workers_share_a_burst() {
        let queue = Queue::new();
        let other = queue.clone();
        #[allow(clippy::disallowed_methods)] // Ends with the test.
        let worker = tokio::spawn(async move { other.next().await });
        tokio::task::yield_now().await;
        queue.add(1);
        queue.add(2);
        let mine = queue.next().await;
        let theirs = worker.await.expect("ended");
        assert_eq!(mine + theirs, 3);
    }
}
