//! How often the counts of attached routes are written.
//!
//! Thousands of routes that come within seconds change the count of their Gateway thousands of
//! times, and every write of it is an object of its own for all who watch. So a status that
//! differs in nothing but counts waits for the end of its interval; everything else is written at
//! once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::gateway::v1::{GatewayStatus, ListenerSetStatus, ListenerStatus};
use tokio::time::Instant;

use super::Due;

/// Least time between two writes of which the second is about counts only.
const INTERVAL: Duration = Duration::from_millis(100);

/// When the status of whom was written last.
#[derive(Default)]
pub(super) struct Pace(Mutex<HashMap<Due, Instant>>);

impl Pace {
    /// How long the next status should wait; if not at all, the caller writes it now.
    pub(super) fn later<S: Counting>(
        &self,
        due: &Due,
        current: Option<&S>,
        next: &S,
    ) -> Option<Duration> {
        if current == Some(next) {
            return None;
        }
        let now = Instant::now();
        let mut written = self.written();
        if let (Some(current), Some(last)) = (current, written.get(due))
            && current.without_counts() == next.without_counts()
            && let Some(later) = (*last + INTERVAL).checked_duration_since(now)
            && !later.is_zero()
        {
            return Some(later);
        }
        written.insert(due.clone(), now);
        None
    }

    /// It is gone.
    pub(super) fn forget(&self, due: &Due) {
        self.written().remove(due);
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Due, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A status that tells how many routes are attached.
pub(super) trait Counting: Clone + PartialEq {
    /// Where it does.
    fn listeners(&mut self) -> &mut [ListenerStatus];

    /// The same, whatever the numbers are.
    fn without_counts(&self) -> Self {
        let mut status = self.clone();
        for listener in status.listeners() {
            listener.attached_routes = 0;
        }
        status
    }
}

impl Counting for GatewayStatus {
    fn listeners(&mut self) -> &mut [ListenerStatus] {
        &mut self.listeners
    }
}

impl Counting for ListenerSetStatus {
    fn listeners(&mut self) -> &mut [ListenerStatus] {
        &mut self.listeners
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dialects::Name;

    fn status(routes: i32, address: &str) -> GatewayStatus {
        GatewayStatus {
            addresses: vec![api::gateway::v1::StatusAddress {
                type_: "IPAddress".to_owned(),
                value: address.to_owned(),
                routability: None,
            }],
            listeners: vec![ListenerStatus {
                name: "http".to_owned(),
                attached_routes: routes,
                ..ListenerStatus::default()
            }],
            ..GatewayStatus::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counts_wait_for_their_interval_and_nothing_else_does() {
        let pace = Pace::default();
        let due = Due::Gateway(Name::new("default", "g"));
        let mut current = status(0, "10.0.0.1");
        assert_eq!(pace.later(&due, None, &current), None, "the first status");
        let mut writes = 0;
        for routes in 1..=1000 {
            let next = status(routes, "10.0.0.1");
            if pace.later(&due, Some(&current), &next).is_none() {
                current = next;
                writes += 1;
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(writes, 9, "one per interval after the first");
        let moved = status(1000, "10.0.0.2");
        assert_eq!(pace.later(&due, Some(&current), &moved), None);
        let next = status(7, "10.0.0.2");
        let later = pace.later(&due, Some(&moved), &next).expect("waits");
        tokio::time::advance(later).await;
        assert_eq!(pace.later(&due, Some(&moved), &next), None);
        assert_eq!(pace.later(&due, Some(&next), &next), None, "nothing to say");
        pace.forget(&due);
        assert_eq!(pace.later(&due, Some(&next), &moved), None);
    }
}
