//! What a wake from zero takes, step by step.
//!
//! Whoever makes a step says so; nobody waits for anybody. A wake counts once every step of it is
//! known, so a request that was canceled, or that found a pod on its way already, does not blur
//! the picture.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use routing::RevisionId;
use tokio::time::Instant;

/// Wakes followed at once; further ones are not measured.
const MOST: usize = 4_096;
/// Upper bounds of the buckets, in µs.
const BUCKETS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// Steps of a wake in their order; each lasts from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The autoscaler has heard of the first request.
    Queue,
    /// The number of replicas is written.
    Decide,
    /// A pod is in the API.
    Create,
    /// Its first container runs.
    Start,
    /// It passed its readiness probe.
    Ready,
    /// The gateway may send requests to it.
    Open,
    /// The head of its first answer is there.
    FirstByte,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Queue,
        Self::Decide,
        Self::Create,
        Self::Start,
        Self::Ready,
        Self::Open,
        Self::FirstByte,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Decide => "decide",
            Self::Create => "create",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Open => "open",
            Self::FirstByte => "first_byte",
        }
    }
}

/// The wakes of this process. Clone freely.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    under_way: Mutex<HashMap<RevisionId, Wake>>,
    steps: [Histogram; Step::ALL.len()],
    whole: Histogram,
}

#[derive(Debug)]
struct Wake {
    begun: Instant,
    reached: [Option<Instant>; Step::ALL.len()],
}

impl Wakes {
    /// The first request waits for a revision without endpoints. What was known of an earlier one
    /// that never ended is forgotten.
    pub(crate) fn begin(&self, revision: &RevisionId) {
        let mut under_way = self.lock();
        if under_way.len() < MOST || under_way.contains_key(revision) {
            let wake = Wake {
                begun: Instant::now(),
                reached: Default::default(),
            };
            under_way.insert(revision.clone(), wake);
        }
    }

    /// A wake of this revision, if there is one, is as far as this.
    pub fn reached(&self, revision: &RevisionId, step: Step) {
        let mut under_way = self.lock();
        let Some(wake) = under_way.get_mut(revision) else {
            return;
        };
        wake.reached[step as usize].get_or_insert_with(Instant::now);
        if let Some(durations) = wake.durations() {
            under_way.remove(revision);
            drop(under_way);
            self.tell(revision, durations);
        }
    }

    /// The revision is gone.
    pub fn forget(&self, revision: &RevisionId) {
        self.lock().remove(revision);
    }

    fn tell(&self, revision: &RevisionId, durations: [Duration; Step::ALL.len()]) {
        let whole = durations.iter().sum();
        for (histogram, duration) in self.shared.steps.iter().zip(durations) {
            histogram.add(duration);
        }
        self.shared.whole.add(whole);
        tracing::debug!(namespace = %revision.namespace, revision = %revision.name, ?whole, steps = ?durations, "woke from zero");
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self, out: &mut String) {
        const NAME: &str = "suimon_cold_start_duration_seconds";
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "# HELP {NAME} What a wake from zero took, by step; the step \"all\" is from the request to the head of its answer.\n# TYPE {NAME} histogram"
        );
        for (histogram, step) in self.shared.steps.iter().zip(Step::ALL) {
            histogram.render(out, NAME, step.word());
        }
        self.shared.whole.render(out, NAME, "all");
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RevisionId, Wake>> {
        let under_way = self.shared.under_way.lock();
        under_way.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake {
    /// How long each step took, once all are known. Who tells of a step may hear of it after the
    /// next one was made: then it was made by that time at the latest.
    fn durations(&self) -> Option<[Duration; Step::ALL.len()]> {
        let mut at = [self.begun; Step::ALL.len()];
        for (at, reached) in at.iter_mut().zip(self.reached) {
            *at = reached?;
        }
        for step in (1..at.len()).rev() {
            at[step - 1] = at[step - 1].min(at[step]);
        }
        let mut before = self.begun;
        Some(at.map(|at| {
            let took = at.saturating_duration_since(before);
            before = before.max(at);
            took
        }))
    }
}

/// Many may add at once; wakes are rare enough for that.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, step: &str) {
        let mut total = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&self.buckets) {
            total += bucket.load(Ordering::Relaxed);
            let bound = *bound as f64 / 1e6;
            let _ = writeln!(
                out,
                "{name}_bucket{{step=\"{step}\",le=\"{bound}\"}} {total}"
            );
        }
        total += self.buckets[BUCKETS.len()].load(Ordering::Relaxed);
        let sum = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_bucket{{step=\"{step}\",le=\"+Inf\"}} {total}\n{name}_sum{{step=\"{step}\"}} {sum}\n{name}_count{{step=\"{step}\"}} {total}"
        );
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

    async fn pass(milliseconds: u64) {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    fn line<'t>(text: &'t str, start: &str) -> &'t str {
        let found = text.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or("nothing").trim()
    }

    fn sum(wakes: &Wakes, step: &str) -> String {
        let mut text = String::new();
        wakes.render(&mut text);
        let name = format!("suimon_cold_start_duration_seconds_sum{{step=\"{step}\"}}");
        line(&text, &name).to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_lasts_from_the_one_before_and_all_is_their_sum() {
        let (wakes, revision) = (Wakes::default(), revision("a"));
        wakes.begin(&revision);
        for (milliseconds, step) in (1..).zip(Step::ALL) {
            pass(milliseconds).await;
            wakes.reached(&revision, step);
            wakes.reached(&revision, step); // once is enough
        }
        for (step, expected) in [
            ("queue", "0.001"),
            ("decide", "0.002"),
            ("first_byte", "0.007"),
            ("all", "0.028"),
        ] {
            assert_eq!(sum(&wakes, step), expected, "{step}");
        }
        let mut text = String::new();
        wakes.render(&mut text);
        let bucket = "suimon_cold_start_duration_seconds_bucket{step=\"decide\",le=";
        assert_eq!(line(&text, &format!("{bucket}\"0.001\"}}")), "0");
        assert_eq!(line(&text, &format!("{bucket}\"0.0025\"}}")), "1");
        assert!(wakes.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_is_told_late_was_made_before_the_next() {
        let (wakes, revision) = (Wakes::default(), revision("a"));
        wakes.begin(&revision);
        for step in [Step::Queue, Step::Decide, Step::Create, Step::Start] {
            wakes.reached(&revision, step);
        }
        pass(5).await;
        wakes.reached(&revision, Step::Open);
        pass(1).await;
        wakes.reached(&revision, Step::FirstByte);
        assert_eq!(sum(&wakes, "all"), "0");
        pass(100).await;
        wakes.reached(&revision, Step::Ready);
        assert_eq!(sum(&wakes, "ready"), "0.005");
        assert_eq!(sum(&wakes, "open"), "0");
        assert_eq!(sum(&wakes, "all"), "0.006");
    }

    #[tokio::test(start_paused = true)]
    async fn what_lacks_a_step_does_not_count() {
        let (wakes, revision) = (Wakes::default(), revision("a"));
        for step in Step::ALL {
            wakes.reached(&revision, step); // no request waited
        }
        wakes.begin(&revision);
        wakes.reached(&revision, Step::Queue);
        wakes.begin(&revision); // that one was canceled
        for step in &Step::ALL[1..] {
            wakes.reached(&revision, *step);
        }
        assert_eq!(sum(&wakes, "all"), "0");
        assert_eq!(wakes.lock().len(), 1);
        wakes.forget(&revision);
        assert!(wakes.lock().is_empty());
    }
}
