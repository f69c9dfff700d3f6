//! What gateways tell the controllers, and the channel that carries it in one process.
//!
//! The channel never blocks a request and never loses a [`Report::Poke`], [`Report::Open`] or
//! [`Report::Drained`]; their number is bounded by the revisions and pods there are. Stats are
//! dropped, oldest first, when nobody reads: an old average is worth nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use routing::RevisionId;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Stats kept while nobody reads; at one per active revision and second.
const LONGEST_STATS: usize = 65_536;

/// One message from a gateway to the controllers.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// What one revision's requests did in the period of about a second that ended at `at`.
    /// Sent only for periods with at least one request; a missing period means zero.
    Stat {
        revision: RevisionId,
        at: Instant,
        /// Requests in the gateway, waiting ones included, averaged over time, beyond those that
        /// the period's pokes told.
        average_concurrency: f64,
        /// Requests that arrived in the period, beyond those that the period's pokes told.
        requests: f64,
    },
    /// Requests wait, and no endpoint is ready or as many wait as the ready ones hold: decide
    /// now, as if a whole period had had this much more than what was told before. The first of
    /// a period, then one each time the number of requests has doubled: at most 20 per period.
    Poke {
        revision: RevisionId,
        /// Requests in the gateway, less those that were told before.
        concurrency: u32,
        /// Requests that arrived, less those that were told before.
        requests: u32,
    },
    /// Requests in flight to each pod (`namespace/name`) of a revision at the end of a period, for
    /// revisions with several pods and at least one request in the period. A pod that is not
    /// named has none.
    Busy {
        revision: RevisionId,
        pods: Vec<(Arc<str>, u32)>,
    },
    /// From now on the gateway may send requests to this pod (`namespace/name`).
    Open { pod: Arc<str> },
    /// No request is in flight to this pod (`namespace/name`) and none will be sent, until a
    /// later [`Report::Open`].
    Drained { pod: Arc<str> },
}

/// Creates the two ends of a report channel.
pub fn reports() -> (ReportSender, ReportReceiver) {
    let shared = Arc::new(Shared {
        senders: AtomicUsize::new(1),
        ..Shared::default()
    });
    (
        ReportSender {
            shared: Arc::clone(&shared),
        },
        ReportReceiver { shared },
    )
}

/// The end that gateways write to. Clone freely.
#[derive(Debug)]
pub struct ReportSender {
    shared: Arc<Shared>,
}

/// The end that the controllers read; there is one.
#[derive(Debug)]
pub struct ReportReceiver {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    senders: AtomicUsize,
}

/// Reports not read yet. Events keep their order among themselves and go before stats.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Report>,
    stats: VecDeque<Report>,
}

impl ReportSender {
    /// Hands over a report. Never blocks and never fails.
    pub fn send(&self, report: Report) {
        {
            let mut waiting = self.shared.lock();
            match report {
                Report::Stat { .. } | Report::Busy { .. } => {
                    if waiting.stats.len() == LONGEST_STATS {
                        waiting.stats.pop_front();
                    }
                    waiting.stats.push_back(report);
                }
                Report::Poke { .. } | Report::Open { .. } | Report::Drained { .. } => {
                    waiting.events.push_back(report)
                }
            }
        }
        self.shared.arrived.notify_one();
    }
}

impl Clone for ReportSender {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for ReportSender {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.arrived.notify_one();
        }
    }
}

impl ReportReceiver {
    /// The next report; `None` once every sender is gone and all is read. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Report> {
        loop {
            // Read before looking: a sender that ends in between notifies again.
            let last = self.shared.senders.load(Ordering::Acquire) == 0;
            if let Some(report) = self.try_recv() {
                return Some(report);
            }
            if last {
                return None;
            }
            self.shared.arrived.notified().await;
        }
    }

    /// The next report, if one is there already.
    pub fn try_recv(&mut self) -> Option<Report> {
        let mut waiting = self.shared.lock();
        waiting
            .events
            .pop_front()
            .or_else(|| waiting.stats.pop_front())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str) -> RevisionId {
        RevisionId {
            namespace: "default".into(),
            name: name.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn events_overtake_stats_and_keep_their_order() {
        let (sender, mut receiver) = reports();
        let stat = Report::Stat {
            revision: revision("a"),
            at: Instant::now(),
            average_concurrency: 1.0,
            requests: 2.0,
        };
        sender.send(stat.clone());
        sender.send(Report::Open {
            pod: "default/p".into(),
        });
        sender.clone().send(Report::Drained {
            pod: "default/p".into(),
        });
        assert_eq!(
            receiver.recv().await,
            Some(Report::Open {
                pod: "default/p".into()
            })
        );
        assert_eq!(
            receiver.recv().await,
            Some(Report::Drained {
                pod: "default/p".into()
            })
        );
        assert_eq!(receiver.recv().await, Some(stat));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_waits_is_told_that_the_last_sender_is_gone() {
        let (sender, mut receiver) = reports();
        let mut readers = tokio::task::JoinSet::new();
        readers.spawn(async move { receiver.recv().await });
        tokio::task::yield_now().await;
        drop(sender.clone());
        drop(sender);
        assert_eq!(readers.join_all().await, [None]);
    }

    #[test]
    fn unread_stats_are_bounded_and_the_oldest_go_first() {
        let (sender, mut receiver) = reports();
        for number in 0..=LONGEST_STATS {
            let stat = Report::Stat {
                revision: revision("a"),
                at: Instant::now(),
                average_concurrency: 0.0,
                requests: number as f64,
            };
            sender.send(stat);
        }
        let first = receiver.try_recv();
        assert!(
            matches!(first, Some(Report::Stat { requests, .. }) if requests == 1.0),
            "{first:?}"
        );
    }
}
