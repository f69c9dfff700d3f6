//! Average concurrency and request count of each revision, per second, without locks or scraping.
//!
//! The average over a period is the integral of the number of requests over time. One word per
//! revision holds both that number and the sum of all times of leaving minus all times of
//! entering, so an instant's integral is `sum + number × now`, always consistent. Sums are kept
//! modulo 2^44 µs; only differences over about a second are read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use routing::RevisionId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::report::{Report, ReportSender};
use crate::throttler::Throttler;
use crate::wakes::{Step, Wakes};

/// Knative's reporting period, and the width of the autoscaler's buckets.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// Low bits of a meter's word: requests now. The rest: the sum, in µs.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const SUM_BITS: u32 = u64::BITS - COUNT_BITS;
const SUM_MASK: u64 = (1 << SUM_BITS) - 1;

/// The revisions with requests, and where their reports go.
#[derive(Debug)]
pub(crate) struct Collector {
    epoch: Instant,
    /// Revisions that had a request in this period or the last. Idle ones cost nothing.
    active: Mutex<Vec<Active>>,
    activated: Notify,
    reports: ReportSender,
    wakes: Wakes,
}

#[derive(Debug)]
struct Active {
    meter: Arc<Meter>,
    /// The meter's integral when it was last read.
    integral: u64,
}

/// One revision's measurements.
#[derive(Debug)]
pub(crate) struct Meter {
    revision: RevisionId,
    collector: Arc<Collector>,
    word: AtomicU64,
    requests: AtomicU64,
    is_active: AtomicBool,
    told: Mutex<Told>,
    /// The backends that lead to the revision.
    backends: Mutex<Vec<Weak<Throttler>>>,
}

/// What pokes have said in this period already; the period's stat says the rest.
#[derive(Debug, Default)]
struct Told {
    concurrency: u32,
    requests: u64,
}

impl Collector {
    pub(crate) fn new(reports: ReportSender) -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            active: Mutex::default(),
            activated: Notify::new(),
            reports,
            wakes: Wakes::default(),
        })
    }

    pub(crate) fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    pub(crate) fn meter(self: &Arc<Self>, revision: RevisionId) -> Arc<Meter> {
        Arc::new(Meter {
            revision,
            collector: Arc::clone(self),
            word: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            is_active: AtomicBool::new(false),
            told: Mutex::default(),
            backends: Mutex::default(),
        })
    }

    /// Reports every period with requests, until the runtime ends. Sleeps while there are none.
    pub(crate) async fn run(&self) {
        loop {
            if self.lock().is_empty() {
                self.activated.notified().await;
            }
            let started = Instant::now();
            tokio::time::sleep(PERIOD).await;
            self.report(started.elapsed());
        }
    }

    /// Ends a period of this length.
    pub(crate) fn report(&self, period: Duration) {
        let at = Instant::now();
        let now = self.micros();
        self.lock().retain_mut(|active| {
            let seen = active.read(now);
            if seen.integral > 0 || seen.requests > 0 || seen.told.concurrency > 0 {
                let average = seen.integral as f64 / period.as_micros().max(1) as f64;
                let requests = seen.requests.saturating_sub(seen.told.requests);
                self.reports.send(Report::Stat {
                    revision: active.meter.revision.clone(),
                    at,
                    // A poke speaks for a whole period, so it may have said more than happened.
                    average_concurrency: (average - f64::from(seen.told.concurrency)).max(0.0),
                    requests: requests as f64,
                });
                if let Some(pods) = active.meter.busy() {
                    self.reports.send(Report::Busy {
                        revision: active.meter.revision.clone(),
                        pods,
                    });
                }
                return true;
            }
            active.meter.rest()
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the collector's start: 44 bits last half a year, then wrap unnoticed.
    fn micros(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }
}

/// What one period had.
struct Seen {
    /// Requests × µs.
    integral: u64,
    requests: u64,
    told: Told,
}

impl Active {
    fn read(&mut self, now: u64) -> Seen {
        let integral = self.meter.integral(now);
        let grown = integral.wrapping_sub(self.integral) & SUM_MASK;
        // A request that entered after `now` was read makes the difference slightly negative;
        // the next period sees it, because the old mark stays.
        let is_negative = grown >> (SUM_BITS - 1) != 0;
        if !is_negative {
            self.integral = integral;
        }
        // Under the lock of what was told, so that a poke never tells requests that are gone.
        let mut told = self.meter.told();
        Seen {
            integral: if is_negative { 0 } else { grown },
            requests: self.meter.requests.swap(0, Ordering::SeqCst),
            told: std::mem::take(&mut *told),
        }
    }
}

impl Meter {
    /// A backend that leads to the revision.
    pub(crate) fn attach(&self, backend: &Arc<Throttler>) {
        let mut backends = self.backends();
        backends.retain(|backend| backend.strong_count() > 0);
        backends.push(Arc::downgrade(backend));
    }

    /// Requests in flight to each pod that has some; `None` if there is no choice among pods.
    fn busy(&self) -> Option<Vec<(Arc<str>, u32)>> {
        let mut pods: HashMap<Arc<str>, u32> = HashMap::new();
        for backend in self.backends().iter().filter_map(Weak::upgrade) {
            backend.each_pod(|pod, requests| {
                *pods.entry(Arc::clone(pod)).or_default() += requests;
            });
        }
        (pods.len() > 1).then(|| pods.into_iter().filter(|(_, busy)| *busy > 0).collect())
    }

    fn backends(&self) -> MutexGuard<'_, Vec<Weak<Throttler>>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in.
    pub(crate) fn enter(self: &Arc<Self>) {
        let now = self.collector.micros();
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.word.fetch_add(
            (now << COUNT_BITS).wrapping_neg().wrapping_add(1),
            Ordering::SeqCst,
        );
        // After counting: either `rest` sees the request, or we see that the meter rests.
        if !self.is_active.load(Ordering::SeqCst) && !self.is_active.swap(true, Ordering::SeqCst) {
            let integral = self.integral(now);
            self.collector.lock().push(Active {
                meter: Arc::clone(self),
                integral,
            });
            self.collector.activated.notify_one();
        }
    }

    /// Counts a request out.
    pub(crate) fn leave(&self) {
        let now = self.collector.micros();
        self.word
            .fetch_add((now << COUNT_BITS).wrapping_sub(1), Ordering::SeqCst);
    }

    /// The first request waits, and no endpoint is there.
    pub(crate) fn wakes(&self) {
        self.collector.wakes.begin(&self.revision);
    }

    /// As far as this is the wake that [`Self::wakes`] began.
    pub(crate) fn reached(&self, step: Step) {
        self.collector.wakes.reached(&self.revision, step);
    }

    /// Tells the autoscaler at once how many requests there are: the first of a period, as
    /// Knative's activator does, and again each time their number has doubled, so that a burst
    /// is known at its size after a few messages.
    pub(crate) fn poke(&self) {
        let mut told = self.told();
        // Masked: fits.
        let now = (self.word.load(Ordering::SeqCst) & COUNT_MASK) as u32;
        if now == 0 || now < told.concurrency.saturating_mul(2) {
            return;
        }
        let arrived = self.requests.load(Ordering::SeqCst);
        let before = std::mem::replace(
            &mut *told,
            Told {
                concurrency: now,
                requests: arrived,
            },
        );
        // Sent under the lock: one meter's pokes arrive in order.
        self.collector.reports.send(Report::Poke {
            revision: self.revision.clone(),
            concurrency: now - before.concurrency,
            requests: u32::try_from(arrived - before.requests).unwrap_or(u32::MAX),
        });
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests × µs up to `now`, modulo 2^44.
    fn integral(&self, now: u64) -> u64 {
        let word = self.word.load(Ordering::SeqCst);
        (word >> COUNT_BITS).wrapping_add((word & COUNT_MASK).wrapping_mul(now)) & SUM_MASK
    }

    /// Goes idle, unless a request came in meanwhile. Returns whether it is still active.
    fn rest(&self) -> bool {
        self.is_active.store(false, Ordering::SeqCst);
        let is_idle = self.word.load(Ordering::SeqCst) & COUNT_MASK == 0
            && self.requests.load(Ordering::SeqCst) == 0;
        !is_idle && !self.is_active.swap(true, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
