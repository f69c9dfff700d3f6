//! Questions about things that translations named, asked again and again, a few at once.
//!
//! Whatever was known of a thing is kept while the question fails: somebody who is away for a
//! while must not take away what depends on them. Nothing is asked that no translation wanted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use lifecycle::{Stage, Tasks};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::inbox::{Inbox, Pending};
use crate::index::NameChange;

const AT_ONCE: usize = 8;

/// What is asked, whom, and how often.
pub(crate) trait Question: Send + Sync + 'static {
    /// What is told of a thing.
    type Told: Clone + PartialEq + Send;

    const TASK: &'static str;
    /// When a thing is asked about again.
    const EVERY: Duration;
    /// The same after a failure.
    const AGAIN: Duration;
    /// How long one question may take.
    const PATIENCE: Duration;
    /// Things that are asked about.
    const MOST: usize;

    /// `Err` is a failure, with what is told of it as long as nothing better is known.
    fn ask(
        &self,
        about: &str,
    ) -> impl Future<Output = Result<Self::Told, Option<Self::Told>>> + Send;

    /// What is told if nobody answers in time.
    fn silence(about: &str) -> Option<Self::Told>;

    /// What is told of a thing too many.
    fn too_many(about: &str) -> Option<Self::Told>;

    /// A thing was known, and now the question fails.
    fn kept(about: &str, failure: &Self::Told);

    fn tell(pending: &mut Pending, about: Arc<str>, told: Self::Told);
}

/// The things that are asked about. Clone freely; clones are one.
pub(crate) struct Asking<Q: Question>(Arc<Shared<Q>>);

struct Shared<Q: Question> {
    question: Q,
    inbox: Arc<Inbox>,
    things: Mutex<BTreeMap<Arc<str>, Thing<Q::Told>>>,
    wake: Notify,
}

struct Thing<T> {
    due: Instant,
    /// As it was told last.
    told: Option<T>,
    /// That was no failure.
    is_known: bool,
}

impl<Q: Question> Clone for Asking<Q> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q: Question> Asking<Q> {
    /// Asks from now on.
    pub(crate) fn of(question: Q, inbox: &Arc<Inbox>, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            question,
            inbox: Arc::clone(inbox),
            things: Mutex::default(),
            wake: Notify::new(),
        });
        let asking = Self(Arc::clone(&shared));
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        tasks.spawn(Q::TASK, Stage::Controllers, async move {
            tokio::select! {
                () = shared.run() => {}
                () = shutdown.requested() => {}
            }
            Ok::<(), reconcile::Error>(())
        });
        asking
    }

    pub(crate) fn change(&self, changes: Vec<NameChange>, now: Instant) {
        if changes.is_empty() {
            return;
        }
        let mut things = self.0.lock();
        for change in changes {
            match change {
                NameChange::Unwanted(about) => drop(things.remove(&about)),
                NameChange::Wanted(about) if things.len() >= Q::MOST => {
                    if let Some(told) = Q::too_many(&about) {
                        self.0.tell(about, told);
                    }
                }
                NameChange::Wanted(about) => {
                    let new = || Thing {
                        due: now,
                        told: None,
                        is_known: false,
                    };
                    things.entry(about).or_insert_with(new);
                }
            }
        }
        drop(things);
        self.0.wake.notify_one();
    }
}

impl<Q: Question> Shared<Q> {
    async fn run(&self) {
        loop {
            let woken = self.wake.notified();
            let now = Instant::now();
            let due: Vec<_> = {
                let things = self.lock();
                let due = things.iter().filter(|(_, thing)| thing.due <= now);
                due.map(|(about, _)| Arc::clone(about)).collect()
            };
            futures::stream::iter(due)
                .for_each_concurrent(AT_ONCE, |about| self.ask(about))
                .await;
            let next = self.lock().values().map(|thing| thing.due).min();
            match next {
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => woken.await,
            }
        }
    }

    async fn ask(&self, about: Arc<str>) {
        let asked = tokio::time::timeout(Q::PATIENCE, self.question.ask(&about)).await;
        let (told, is_known) = match asked {
            Ok(Ok(told)) => (Some(told), true),
            Ok(Err(failure)) => (failure, false),
            Err(_) => (Q::silence(&about), false),
        };
        let mut things = self.lock();
        let Some(thing) = things.get_mut(&about) else {
            return;
        };
        thing.due = Instant::now() + if is_known { Q::EVERY } else { Q::AGAIN };
        let Some(told) = told else {
            return;
        };
        if thing.is_known && !is_known {
            return Q::kept(&about, &told);
        }
        thing.is_known = is_known;
        if thing.told.as_ref() == Some(&told) {
            return;
        }
        thing.told = Some(told.clone());
        drop(things);
        self.tell(about, told);
    }

    fn tell(&self, about: Arc<str>, told: Q::Told) {
        self.inbox.put(|pending| Q::tell(pending, about, told));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Thing<Q::Told>>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
