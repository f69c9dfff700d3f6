//! Deadlines of a request and the one timer that watches them.
//!
//! Arming a timer per request and phase would cost more than the routing does. A connection has
//! one sleep that is only moved forward when a nearer deadline comes up or when it fires early;
//! clocks of silence start when something is found to be pending, not when it begins.

use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use routing::model::Timeouts;
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of one connection or stream.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The sleep was polled since it was set, so that it wakes the task when it is over. Tasks
    /// do not change their wakers.
    is_armed: bool,
}

/// A deadline that counts from the first time that it is asked for: what does not wait need not
/// look at the clock.
pub(crate) fn once_pending(limit: Duration) -> impl Fn() -> Option<Instant> {
    let start = OnceCell::new();
    move || Some(*start.get_or_init(Instant::now) + limit)
}

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Timer {
    /// Runs `future`, but only until the deadline that `next` names whenever it is pending. Large
    /// futures should come pinned: they are moved otherwise.
    pub(crate) async fn limit<T>(
        &mut self,
        next: impl Fn() -> Option<Instant>,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => self.poll_deadline(cx, &next).map(Err),
        })
        .await
    }

    /// Ready when the deadline that `next` names has passed.
    pub(crate) fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        next: &impl Fn() -> Option<Instant>,
    ) -> Poll<Elapsed> {
        loop {
            let Some(deadline) = next() else {
                return Poll::Pending;
            };
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if deadline < sleep.deadline() {
                sleep.as_mut().reset(deadline);
                self.is_armed = false;
            }
            if self.is_armed && !sleep.is_elapsed() {
                return Poll::Pending;
            }
            self.is_armed = sleep.as_mut().poll(cx).is_pending();
            if self.is_armed {
                return Poll::Pending;
            }
            // It may have been set for something that is over by now.
            if Instant::now() >= deadline {
                return Poll::Ready(Elapsed);
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Which limit of a request was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Request,
    ResponseStart,
    Idle,
    /// The client neither sent the body that is due nor took the answer.
    ClientStalled,
}

/// The deadlines of one request.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    timeouts: Timeouts,
    stall: Duration,
    /// When the current silence was first seen; `None` after progress.
    silent_since: Cell<Option<Instant>>,
    answered: Cell<bool>,
    reading: Cell<bool>,
    writing: Cell<bool>,
}

impl Deadlines {
    /// `stall` bounds how long a client may neither send nor take what is due.
    pub(crate) fn new(start: Instant, timeouts: Timeouts, stall: Duration) -> Self {
        Self {
            start,
            timeouts,
            stall,
            // Knative's idle timeout runs from the start, not from the first byte.
            silent_since: Cell::new(Some(start)),
            answered: Cell::new(false),
            reading: Cell::new(false),
            writing: Cell::new(false),
        }
    }

    /// When the whole request must be over.
    fn total(&self) -> Option<Instant> {
        self.timeouts.request.map(|limit| self.start + limit)
    }

    /// Bytes moved.
    pub(crate) fn progress(&self) {
        self.silent_since.set(None);
    }

    /// The answer began.
    pub(crate) fn answered(&self) {
        self.answered.set(true);
        self.progress();
    }

    /// The connection is a tunnel now: its first byte from the server is what starts the answer.
    pub(crate) fn upgraded(&self) {
        self.answered.set(false);
        self.reading.set(false);
        self.writing.set(false);
        self.progress();
    }

    /// The client owes body bytes (`true`), or does not.
    pub(crate) fn reading(&self, is_due: bool) {
        self.reading.set(is_due);
    }

    /// The client must take what is being written (`true`), or all is written.
    pub(crate) fn writing(&self, is_due: bool) {
        self.writing.set(is_due);
    }

    /// The nearest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        // Most requests have this one alone.
        if self.timeouts.response_start.is_none() && self.timeouts.idle.is_none() && !self.stalls()
        {
            return self.total();
        }
        self.each().map(|(deadline, _)| deadline).min()
    }

    /// Whether the client has to do something.
    fn stalls(&self) -> bool {
        // A client may stay silent once it is being answered: streams go both ways.
        self.writing.get() || (self.reading.get() && !self.answered.get())
    }

    /// Which deadline has passed; the first in the order of [`Limit`].
    pub(crate) fn passed(&self) -> Limit {
        let now = Instant::now();
        let mut each = self.each().collect::<Vec<_>>();
        each.sort_by_key(|(deadline, _)| *deadline > now);
        each.first().map_or(Limit::Request, |(_, limit)| *limit)
    }

    fn each(&self) -> impl Iterator<Item = (Instant, Limit)> {
        let timeouts = self.timeouts;
        let since = || {
            let since = self.silent_since.get().unwrap_or_else(Instant::now);
            self.silent_since.set(Some(since));
            since
        };
        let total = timeouts
            .request
            .map(|limit| (self.start + limit, Limit::Request));
        let first = timeouts.response_start.filter(|_| !self.answered.get());
        let first = first.map(|limit| (self.start + limit, Limit::ResponseStart));
        let idle = timeouts.idle.map(|limit| (since() + limit, Limit::Idle));
        let stall = self
            .stalls()
            .then(|| (since() + self.stall, Limit::ClientStalled));
        [total, first, idle, stall].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_nearest_deadline_ends_the_future_and_the_timer_is_used_again() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let far = timer
            .limit(|| Some(start + 10 * SECOND), std::future::pending::<()>())
            .await;
        assert_eq!((far, start.elapsed()), (Err(Elapsed), 10 * SECOND));
        let near = timer
            .limit(|| Some(start + 11 * SECOND), std::future::pending::<()>())
            .await;
        assert_eq!((near, start.elapsed()), (Err(Elapsed), 11 * SECOND));
        assert_eq!(timer.limit(|| None, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_restarts_the_idle_clock_but_not_the_total() {
        let timeouts = Timeouts {
            request: Some(10 * SECOND),
            response_start: None,
            idle: Some(3 * SECOND),
            ..Timeouts::default()
        };
        let start = Instant::now();
        let deadlines = Deadlines::new(start, timeouts, 60 * SECOND);
        tokio::time::sleep(2 * SECOND).await;
        deadlines.progress();
        assert_eq!(deadlines.next(), Some(start + 5 * SECOND));
        tokio::time::sleep(4 * SECOND).await;
        assert_eq!(deadlines.passed(), Limit::Idle);
        tokio::time::sleep(4 * SECOND).await;
        assert_eq!(deadlines.passed(), Limit::Request);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_owes_its_body_is_given_up_only_before_the_answer() {
        let deadlines = Deadlines::new(Instant::now(), Timeouts::default(), 5 * SECOND);
        assert_eq!(deadlines.next(), None);
        deadlines.reading(true);
        assert!(deadlines.next().is_some());
        deadlines.answered();
        assert_eq!(deadlines.next(), None);
        deadlines.writing(true);
        assert!(deadlines.next().is_some());
    }
}
