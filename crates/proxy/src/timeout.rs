//! Deadlines of a request and the one timer that watches them.
//!
//! Arming a timer per request and phase would cost more than the routing does. A connection has
//! one sleep that is only moved forward when a nearer deadline comes up or when it fires early;
//! clocks of silence start when something is found to be pending, not when it begins.

use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use routing::model::Timeouts;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Limits;

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

/// How long a client may leave others waiting, whatever its route says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience<'a> {
    pub(crate) limits: &'a Limits,
    /// Streams of gRPC may be slow on purpose, both ways.
    pub(crate) is_grpc: bool,
}

impl Patience<'_> {
    /// How long a body may keep us waiting in all of which so many bytes have come; `None` if that
    /// is not bounded.
    pub(crate) fn for_body(&self, taken: u64) -> Option<Duration> {
        let rate = if self.is_grpc {
            0
        } else {
            self.limits.body_rate
        };
        let seconds = taken.checked_div(rate.into())?;
        Some(self.limits.stall + Duration::from_secs(seconds.min(u32::MAX.into())))
    }
}

/// The deadlines of one request.
#[derive(Debug)]
pub(crate) struct Deadlines<'a> {
    start: Instant,
    timeouts: Timeouts,
    patience: Patience<'a>,
    /// When the current silence was first seen; `None` after progress.
    silent_since: Cell<Option<Instant>>,
    answered: Cell<bool>,
    reading: Cell<bool>,
    writing: Cell<bool>,
    tunnel: Cell<bool>,
    /// Bytes of the body that came, for how many ms they were waited for in all, and how many ms
    /// after the start the wait for the next ones began. Small: every connection has them.
    taken: Cell<u64>,
    waited_ms: Cell<u32>,
    waits_since_ms: Cell<Option<NonZeroU32>>,
}

impl<'a> Deadlines<'a> {
    pub(crate) fn new(start: Instant, timeouts: Timeouts, patience: Patience<'a>) -> Self {
        Self {
            start,
            timeouts,
            patience,
            // Knative's idle timeout runs from the start, not from the first byte.
            silent_since: Cell::new(Some(start)),
            answered: Cell::new(false),
            reading: Cell::new(false),
            writing: Cell::new(false),
            tunnel: Cell::new(false),
            taken: Cell::new(0),
            waited_ms: Cell::new(0),
            waits_since_ms: Cell::new(None),
        }
    }

    /// When the whole request must be over. A tunnel lasts as long as both sides like, but for
    /// those of Knative, whose limits hold for them too.
    fn total(&self) -> Option<Instant> {
        let holds = !self.tunnel.get() || self.timeouts.ends_answer;
        let limit = self.timeouts.request.filter(|_| holds);
        limit.map(|limit| self.start + limit)
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
        self.tunnel.set(true);
        self.progress();
    }

    /// The client owes body bytes.
    pub(crate) fn reading(&self) {
        self.reading.set(true);
    }

    /// So many came, and nothing is due until more are asked for. What did not keep us waiting
    /// costs no look at the clock.
    pub(crate) fn took(&self, bytes: usize) {
        self.reading.set(false);
        self.taken.set(self.taken.get() + bytes as u64);
        if let Some(since) = self.waits_since_ms.take() {
            let ms = self.now_ms().get().saturating_sub(since.get());
            self.waited_ms.set(self.waited_ms.get().saturating_add(ms));
        }
    }

    /// The client must take what is being written (`true`), or all is written.
    pub(crate) fn writing(&self, is_due: bool) {
        self.writing.set(is_due);
    }

    /// The nearest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        // Most requests have this one alone.
        if self.timeouts.response_start.is_none() && self.idle().is_none() && !self.stalls() {
            return self.total();
        }
        self.each().map(|(deadline, _)| deadline).min()
    }

    fn idle(&self) -> Option<Duration> {
        let own = self
            .tunnel
            .get()
            .then_some(self.patience.limits.tunnel_idle);
        self.timeouts.idle.or(own)
    }

    /// When a body that is due is too slow.
    fn body(&self) -> Option<Instant> {
        if !self.reading.get() || self.answered.get() {
            return None;
        }
        let all = self.patience.for_body(self.taken.get())?;
        let since = self.waits_since_ms.get().unwrap_or_else(|| self.now_ms());
        self.waits_since_ms.set(Some(since));
        let since = self.start + Duration::from_millis(since.get().into());
        let waited = Duration::from_millis(self.waited_ms.get().into());
        Some(since + all.saturating_sub(waited))
    }

    /// Since the start, and never 0.
    fn now_ms(&self) -> NonZeroU32 {
        let ms = self.start.elapsed().as_millis();
        u32::try_from(ms).map_or(NonZeroU32::MAX, |ms| NonZeroU32::MIN.saturating_add(ms))
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
        let total = self.total().map(|end| (end, Limit::Request));
        let first = timeouts.response_start.filter(|_| !self.answered.get());
        let first = first.map(|limit| (self.start + limit, Limit::ResponseStart));
        let idle = self.idle().map(|limit| (since() + limit, Limit::Idle));
        let stalls = self.stalls();
        let stall = stalls.then(|| (since() + self.patience.limits.stall, Limit::ClientStalled));
        let body = self.body().map(|end| (end, Limit::ClientStalled));
        [total, first, idle, stall, body].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(stall: u64, body_rate: u32) -> Limits {
        Limits {
            stall: Duration::from_secs(stall),
            body_rate,
            tunnel_idle: 1_000 * SECOND,
            ..Limits::STANDARD
        }
    }

    fn patience(limits: &Limits) -> Patience<'_> {
        Patience {
            limits,
            is_grpc: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_buys_time_with_its_bytes_and_a_slow_server_costs_it_none() {
        let limits = limits(10, 100);
        let deadlines = Deadlines::new(Instant::now(), Timeouts::default(), patience(&limits));
        let trickle = async |bytes: usize, seconds: u64| {
            deadlines.reading();
            let end = deadlines.next().expect("something is due");
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let is_late = Instant::now() >= end;
            deadlines.took(bytes);
            deadlines.progress();
            is_late
        };
        // Fast enough, for ever.
        for _ in 0..100 {
            assert!(!trickle(500, 5).await);
        }
        // The server takes its time.
        tokio::time::sleep(1_000 * SECOND).await;
        assert!(!trickle(0, 9).await);
        assert!(trickle(1, 9).await);
        deadlines.reading();
        deadlines.answered();
        assert_eq!(deadlines.next(), None, "it is being answered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_when_nothing_moves_for_long_and_its_route_may_say_when() {
        let start = Instant::now();
        for (own, seconds) in [(None, 1_000), (Some(7 * SECOND), 7)] {
            let timeouts = Timeouts {
                idle: own,
                ..Timeouts::default()
            };
            let limits = limits(5, 0);
            let deadlines = Deadlines::new(start, timeouts, patience(&limits));
            deadlines.upgraded();
            let wanted = start + Duration::from_secs(seconds);
            assert_eq!(deadlines.next(), Some(wanted));
            assert_eq!(deadlines.passed(), Limit::Idle);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_for_requests_ends_no_tunnel_but_those_of_knative() {
        let start = Instant::now();
        let limits = limits(5, 0);
        for (ends_answer, seconds) in [(false, 1_000), (true, 7)] {
            let timeouts = Timeouts {
                request: Some(7 * SECOND),
                ends_answer,
                ..Timeouts::default()
            };
            let deadlines = Deadlines::new(start, timeouts, patience(&limits));
            assert_eq!(deadlines.next(), Some(start + 7 * SECOND));
            deadlines.upgraded();
            let end = start + Duration::from_secs(seconds);
            assert_eq!(deadlines.next(), Some(end), "{ends_answer}");
        }
    }

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
        let limits = limits(60, 0);
        let deadlines = Deadlines::new(start, timeouts, patience(&limits));
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
        let limits = limits(5, 0);
        let deadlines = Deadlines::new(Instant::now(), Timeouts::default(), patience(&limits));
        assert_eq!(deadlines.next(), None);
        deadlines.reading();
        assert!(deadlines.next().is_some());
        deadlines.answered();
        assert_eq!(deadlines.next(), None);
        deadlines.writing(true);
        assert!(deadlines.next().is_some());
    }
}
