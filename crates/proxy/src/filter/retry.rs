//! Tries of a request as its route asks for them: how long one may take, and when there is another.
//!
//! Only what the client can still be spared is tried again: nothing of an answer has reached it,
//! and nothing of its body was taken, since it will not send that again.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Retry, Timeouts};
use tokio::time::Instant;

use crate::failure::Failure;

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

    /// Statuses that are not passed on, because there is another try after `made`.
    pub(crate) fn withheld(&self, made: u32) -> &[u16] {
        let retry = self.retry.as_ref().filter(|retry| made < retry.attempts);
        retry.map_or(&[], |retry| &retry.statuses)
    }

    /// How long to pause before the next try, if there is one after `made` and this failure.
    pub(crate) fn pause(&self, failure: &Failure, made: u32) -> Option<Duration> {
        let retry = self.retry.as_ref().filter(|retry| made < retry.attempts)?;
        let is_failure = match failure {
            Failure::Withheld { .. } => true,
            Failure::Connect { .. }
            | Failure::Unanswered { .. }
            | Failure::AnswerCut { .. }
            | Failure::Reset { .. }
            | Failure::RequestTimeout => retry.on_failure,
            _ => false,
        };
        is_failure.then_some(retry.pause)
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
        assert_eq!(tries.withheld(0), [503]);
        assert_eq!(tries.withheld(1), [0; 0]);
        let failure = Failure::RequestTimeout;
        assert_eq!(tries.pause(&failure, 0), Some(SECOND));
        assert_eq!(tries.pause(&failure, 1), None);
        assert_eq!(tries.pause(&Failure::ClientGone, 0), None);
    }
}
