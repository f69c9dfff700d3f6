//! Tries of a request as its route asks for them: how long one may take, and when there is another.
//!
//! Only what the client can still be spared is tried again: nothing of an answer has reached it,
//! and nothing of its body was taken, since it will not send that again. What a backend may have
//! acted on is not tried again just because no answer came, unless its method is idempotent or the
//! route says that it may be.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Retry, Timeouts};
use tokio::time::Instant;

use crate::downstream::Answer;
use crate::failure::Failure;
use crate::http2::frame::Reason;

/// What a route says about tries.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// One try, until the last byte of its answer.
    pub(crate) limit: Option<Duration>,
    pub(crate) retry: Option<Arc<Retry>>,
}

impl Tries {
    /// The limits of a try that begins now, as those of a request that began at `start`.
    pub(crate) fn limits(&self, timeouts: Timeouts, start: Instant) -> Timeouts {
        let Some(limit) = self.limit else {
            return timeouts;
        };
        let end = start.elapsed() + limit;
        let request = timeouts.request.map_or(end, |total| total.min(end));
        Timeouts {
            request: Some(request),
            ..timeouts
        }
    }

    /// Answers that are not passed on, because there is another try after `made`.
    pub(crate) fn withheld(&self, made: u32) -> Withheld<'_> {
        let retry = self.retry.as_deref();
        Withheld(retry.filter(|retry| made < retry.attempts))
    }

    /// How long to pause before the next try, if there is one after `made` and this loss.
    /// `point` of `0.0..1.0` is drawn by the caller.
    pub(crate) fn pause(&self, lost: &Lost, made: u32, point: f64) -> Option<Duration> {
        let retry = self.retry.as_ref().filter(|retry| made < retry.attempts)?;
        lost.is_tried_again(retry)
            .then(|| policy::backoff::pause(retry.pause, retry.max_pause, made + 1, point))
    }
}

/// A try that came to nothing.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) failure: Box<Failure>,
    /// Some of the client's body is gone.
    pub(crate) body_taken: bool,
    /// No backend can have acted on the request.
    pub(crate) was_refused: bool,
    /// Sending the request once more has no further effect.
    pub(crate) is_idempotent: bool,
}

impl Lost {
    fn is_tried_again(&self, retry: &Retry) -> bool {
        let when = &retry.when;
        let is_refused = || {
            let reason = match *self.failure {
                Failure::Reset { reason, .. } => Some(reason),
                _ => None,
            };
            self.was_refused || reason == Some(Reason::REFUSED_STREAM)
        };
        match *self.failure {
            Failure::Withheld { .. } => true,
            Failure::Connect { .. } => retry.on_failure || when.connect_failure,
            Failure::Unanswered { .. } | Failure::Reset { .. } if is_refused() => {
                retry.on_failure || when.refused_stream || when.reset
            }
            Failure::Unanswered { .. } => {
                when.reset || self.is_idempotent && (retry.on_failure || when.refused_stream)
            }
            Failure::Reset { .. } | Failure::AnswerCut { .. } | Failure::RequestTimeout => {
                when.reset || self.is_idempotent && retry.on_failure
            }
            _ => false,
        }
    }
}

/// Answers that are dropped, because the request can be sent again; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Withheld<'r>(Option<&'r Retry>);

impl Withheld<'_> {
    /// Whether an answer is one of them.
    pub(crate) fn contains(&self, answer: &Answer<'_>) -> bool {
        let Some(retry) = self.0 else { return false };
        let (status, when) = (answer.status(), &retry.when);
        if retry.statuses.contains(&status) || when.any_5xx && (500..600).contains(&status) {
            return true;
        }
        if when.headers.iter().any(|name| answer.field(name).is_some()) {
            return true;
        }
        let grpc = || {
            let code = std::str::from_utf8(answer.field("grpc-status")?).ok()?;
            code.trim().parse::<u32>().ok()
        };
        !when.grpc.is_empty() && grpc().is_some_and(|code| when.grpc.contains(&code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tries(limit: Option<Duration>, attempts: u32) -> Tries {
        let retry = Retry {
            attempts,
            statuses: vec![503],
            on_failure: true,
            when: routing::model::RetryWhen::default(),
            pause: SECOND,
            max_pause: SECOND,
            avoid_tried: false,
        };
        Tries {
            limit,
            retry: Some(Arc::new(retry)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_ends_with_its_own_limit_or_with_the_requests() {
        let timeouts = Timeouts {
            request: Some(3 * SECOND),
            ..Timeouts::default()
        };
        let tries = tries(Some(2 * SECOND), 1);
        let start = Instant::now();
        let limit = |start| tries.limits(timeouts, start).request;
        assert_eq!(limit(start), Some(2 * SECOND));
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(limit(start), Some(3 * SECOND));
    }

    #[test]
    fn the_last_try_passes_everything_on() {
        let tries = tries(None, 1);
        let withholds = |made, status| {
            let head = crate::http1::head::ResponseHead {
                status,
                ..Default::default()
            };
            tries.withheld(made).contains(&Answer {
                head: &head,
                bytes: &[],
            })
        };
        assert!(withholds(0, 503) && !withholds(0, 500) && !withholds(1, 503));
        let late = lost(Failure::RequestTimeout);
        assert_eq!(tries.pause(&late, 0, 0.5), Some(SECOND));
        assert_eq!(tries.pause(&late, 1, 0.5), None);
        assert_eq!(tries.pause(&lost(Failure::ClientGone), 0, 0.5), None);
    }

    /// Of a request whose method is idempotent.
    fn lost(failure: Failure) -> Lost {
        Lost {
            failure: failure.into(),
            body_taken: false,
            was_refused: false,
            is_idempotent: true,
        }
    }

    /// One of each kind: no connection, a stream that was refused, one that was reset, none of an
    /// answer, too late.
    fn losses(is_idempotent: bool) -> [Lost; 5] {
        let endpoint = ([127, 0, 0, 1], 1).into();
        let reset = |reason| Failure::Reset { endpoint, reason };
        let failures = [
            Failure::Connect {
                endpoint,
                backend: routing::BackendId("b".into()),
                source: std::io::ErrorKind::ConnectionRefused.into(),
            },
            reset(Reason::REFUSED_STREAM),
            reset(Reason::INTERNAL_ERROR),
            Failure::Unanswered { endpoint },
            Failure::RequestTimeout,
        ];
        failures.map(|failure| Lost {
            is_idempotent,
            ..lost(failure)
        })
    }

    #[test]
    fn what_a_backend_may_have_acted_on_is_tried_again_by_its_method() {
        let tries = tries(None, 1);
        let tried = |lost: Lost| tries.pause(&lost, 0, 0.5).is_some();
        assert_eq!(losses(true).map(tried), [true; 5]);
        assert_eq!(losses(false).map(tried), [true, true, false, false, false]);
        // Its server said that it did not.
        let refused = losses(false).map(|lost| {
            tried(Lost {
                was_refused: true,
                ..lost
            })
        });
        assert_eq!(refused, [true, true, true, true, false]);
    }

    #[test]
    fn what_is_tried_again_is_what_the_route_names() {
        use routing::model::RetryWhen;
        let tried = |when: &RetryWhen, is_idempotent| {
            let retry = Retry {
                on_failure: false,
                when: when.clone(),
                max_pause: 10 * SECOND,
                ..Retry::clone(tries(None, 1).retry.as_ref().expect("a retry"))
            };
            let tries = Tries {
                retry: Some(Arc::new(retry)),
                ..Tries::default()
            };
            // Half of the first range.
            let pause = |lost: Lost| tries.pause(&lost, 0, 0.5) == Some(SECOND / 2);
            losses(is_idempotent).map(pause)
        };
        let none = RetryWhen::default();
        assert_eq!(tried(&none, true), [false; 5]);
        let connect = RetryWhen {
            connect_failure: true,
            ..none.clone()
        };
        assert_eq!(tried(&connect, true), [true, false, false, false, false]);
        let refused = RetryWhen {
            refused_stream: true,
            ..none.clone()
        };
        assert_eq!(tried(&refused, true), [false, true, false, true, false]);
        assert_eq!(tried(&refused, false), [false, true, false, false, false]);
        let reset = RetryWhen {
            reset: true,
            ..none
        };
        assert_eq!(tried(&reset, false), [false, true, true, true, true]);
    }
}
