//! The task that gathers what requests leave behind and brings it to somebody, batch by batch.
//!
//! Nobody waits for it: what comes is taken at once, or dropped and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifecycle::{Stage, Tasks};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::send::Refused;

/// Items that may wait; more are dropped. OpenTelemetry's SDKs wait with 2,048 spans.
pub(crate) const MOST_WAITING: usize = 8 * 1024;
/// One try to bring a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tries of one batch, with a pause that doubles from the first.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What is still waiting may take this long once it is over.
const LAST: Duration = Duration::from_secs(2);

/// What became of the items since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Those that somebody took.
    pub fn exported(&self) -> u64 {
        self.0.exported.load(Ordering::Relaxed)
    }

    /// Those that nobody got: they were refused, or whoever should take them was away for too
    /// long or too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn add(&self, items: usize, are_exported: bool) {
        let counter = if are_exported {
            &self.0.exported
        } else {
            &self.0.dropped
        };
        counter.fetch_add(items as u64, Ordering::Relaxed);
    }
}

/// A batch, and the way to whoever takes it.
pub(crate) trait Carrier: Send + 'static {
    type Item: Send + 'static;

    /// How long an item waits for others, at most.
    fn delay(&self) -> Duration;
    fn add(&mut self, item: Self::Item);
    /// Items in the batch.
    fn count(&self) -> usize;
    /// Nothing more is waited for.
    fn is_enough(&self) -> bool;
    /// Nothing more goes into it.
    fn is_full(&self) -> bool;
    fn clear(&mut self);
    /// The batch as it is sent.
    fn encode(&self) -> Vec<u8>;
    /// Tries to bring it once.
    fn send(&mut self, batch: Vec<u8>) -> impl Future<Output = Result<(), Refused>> + Send;
    /// There was no answer in time.
    fn unanswered(&mut self);
    /// For whom it is, for errors.
    fn to(&self) -> String;
    /// Says that items are dropped from now on, and why, or that they are not any more.
    fn tell(&self, result: Result<(), &str>);
}

/// Takes items. Dropping it brings what is waiting and ends its task.
#[derive(Debug)]
pub(crate) struct Inlet<I> {
    items: mpsc::Sender<I>,
    counts: Counts,
}

impl<I: Send + 'static> Inlet<I> {
    /// Starts the task; `counts` may be those of others, too.
    pub(crate) fn open<C: Carrier<Item = I>>(
        name: &'static str,
        carrier: C,
        counts: Counts,
        tasks: &Tasks,
    ) -> Self {
        let (items, taken) = mpsc::channel(MOST_WAITING);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        let task = Task {
            carrier,
            counts: counts.clone(),
            is_failing: false,
        };
        tasks.spawn(name, Stage::Controllers, async move {
            task.run(taken, async move { shutdown.requested().await })
                .await;
            Ok::<(), Infallible>(())
        });
        Self { items, counts }
    }

    /// Takes an item, or drops it if too many wait.
    pub(crate) fn take(&self, item: I) {
        if self.items.try_send(item).is_err() {
            self.counts.add(1, false);
        }
    }
}

struct Task<C> {
    carrier: C,
    counts: Counts,
    is_failing: bool,
}

impl<C: Carrier> Task<C> {
    async fn run(mut self, mut taken: mpsc::Receiver<C::Item>, over: impl Future<Output = ()>) {
        let gathering = async {
            while self.gather(&mut taken).await {
                self.bring(TRIES).await;
            }
        };
        tokio::select! {
            () = gathering => return,
            () = over => {}
        }
        // What was gathered or on its way is brought once more: twice is better than never.
        let rest = async {
            loop {
                self.fill(&mut taken);
                if self.carrier.count() == 0 {
                    return;
                }
                self.bring(1).await;
            }
        };
        if tokio::time::timeout(LAST, rest).await.is_err() {
            self.counts.add(self.carrier.count() + taken.len(), false);
        }
    }

    /// Fills a batch; `false` once nothing comes any more. What has come while the batch before
    /// was brought goes along.
    async fn gather(&mut self, taken: &mut mpsc::Receiver<C::Item>) -> bool {
        let Some(first) = taken.recv().await else {
            return false;
        };
        self.carrier.add(first);
        let end = Instant::now() + self.carrier.delay();
        self.fill(taken);
        while !self.carrier.is_enough() && !self.carrier.is_full() {
            match tokio::time::timeout_at(end, taken.recv()).await {
                Ok(Some(item)) => self.carrier.add(item),
                Ok(None) | Err(_) => break,
            }
        }
        true
    }

    /// Takes what has come already.
    fn fill(&mut self, taken: &mut mpsc::Receiver<C::Item>) {
        while !self.carrier.is_full()
            && let Ok(item) = taken.try_recv()
        {
            self.carrier.add(item);
        }
    }

    /// Brings the batch, or counts it as dropped. It is empty then.
    async fn bring(&mut self, tries: u32) {
        let result = self.try_often(tries).await;
        self.counts.add(self.carrier.count(), result.is_ok());
        self.carrier.clear();
        if result.is_err() != self.is_failing {
            self.carrier
                .tell(result.as_ref().copied().map_err(String::as_str));
        }
        self.is_failing = result.is_err();
    }

    async fn try_often(&mut self, tries: u32) -> Result<(), String> {
        let batch = self.carrier.encode();
        let mut pause = FIRST_PAUSE;
        let mut made = 1;
        loop {
            let sent = tokio::time::timeout(PATIENCE, self.carrier.send(batch.clone())).await;
            let refused = match sent {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refused)) => refused,
                Err(_) => {
                    self.carrier.unanswered();
                    Refused::for_now(format!("no answer for {PATIENCE:?}"))
                }
            };
            if made == tries || !refused.is_worth_another_try {
                return Err(format!("{}: {}", self.carrier.to(), refused.why));
            }
            made += 1;
            let wait = refused.wait.unwrap_or_default().max(pause).min(PATIENCE);
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }
}
