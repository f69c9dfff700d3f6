//! Questions about things that translations named, asked again and again, a few at once.
//!
//! Whatever was known of a thing is kept while the question fails: somebody who is away for a
//! while must not take away what depends on them. Nothing is asked that no translation wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
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
    /// How long one question may take.
    const PATIENCE: Duration;
    /// Things that are asked about.
    const MOST: usize;

    /// When a thing is asked about again.
    fn every(&self) -> Duration;

    /// The same after a failure.
    fn again(&self) -> Duration;

    /// `Err` is a failure, with what is told of it as long as nothing better is known.
    fn ask(&self, about: &str) -> impl Future<Output = Result<Self::Told, Self::Told>> + Send;

    /// What is told if nobody answers in time.
    fn silence(about: &str) -> Self::Told;

    /// What is told of a thing too many.
    fn too_many(about: &str) -> Self::Told;

    /// A thing was known, and now the question fails: what is told of it now.
    fn kept(about: &str, known: &Self::Told, failure: Self::Told) -> Self::Told;

    fn tell(pending: &mut Pending, about: Arc<str>, told: Self::Told);
}

/// The things that are asked about. Clone freely; clones are one.
pub(crate) struct Asking<Q: Question>(Arc<Shared<Q>>);

struct Shared<Q: Question> {
    question: Q,
    inbox: Arc<Inbox>,
    things: Mutex<BTreeMap<Arc<str>, Thing<Q::Told>>>,
    /// Things too many, which are asked about once there is room.
    beyond: Mutex<BTreeSet<Arc<str>>>,
    wake: Notify,
}

struct Thing<T> {
    due: Instant,
    is_being_asked: bool,
    /// As it was told last.
    told: Option<T>,
    /// It was no failure, now or once.
    is_known: bool,
}

impl<T> Thing<T> {
    fn new(due: Instant) -> Self {
        Self {
            due,
            is_being_asked: false,
            told: None,
            is_known: false,
        }
    }
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
            beyond: Mutex::default(),
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
        let beyond = self.0.beyond.lock();
        let mut beyond = beyond.unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                NameChange::Unwanted(about) => {
                    things.remove(&about);
                    beyond.remove(&about);
                }
                NameChange::Wanted(about) if things.len() >= Q::MOST => {
                    let told = Q::too_many(&about);
                    self.0.tell(Arc::clone(&about), told);
                    beyond.insert(about);
                }
                NameChange::Wanted(about) => {
                    things.entry(about).or_insert_with(|| Thing::new(now));
                }
            }
        }
        while things.len() < Q::MOST
            && let Some(about) = beyond.pop_first()
        {
            things.insert(about, Thing::new(now));
        }
        drop(beyond);
        drop(things);
        self.0.wake.notify_one();
    }
}

impl<Q: Question> Shared<Q> {
    /// One that is slow to be answered keeps no other waiting, as long as fewer than [`AT_ONCE`]
    /// are.
    async fn run(&self) {
        let mut asked = FuturesUnordered::new();
        loop {
            let woken = self.wake.notified();
            let room = AT_ONCE - asked.len();
            let due = self.take_due(Instant::now(), room);
            let has_room = due.len() < room;
            asked.extend(due.into_iter().map(|about| self.ask(about)));
            let next = self.next_due().filter(|_| has_room);
            let at = next.unwrap_or_else(Instant::now);
            tokio::select! {
                () = woken => {}
                Some(()) = asked.next() => {}
                () = tokio::time::sleep_until(at), if next.is_some() => {}
            }
        }
    }

    /// Those that wait for longest, up to so many.
    fn take_due(&self, now: Instant, most: usize) -> Vec<Arc<str>> {
        let mut things = self.lock();
        let due = things.iter_mut();
        let due = due.filter(|(_, thing)| !thing.is_being_asked && thing.due <= now);
        let mut due: Vec<_> = due.collect();
        if due.len() > most {
            due.select_nth_unstable_by_key(most, |(_, thing)| thing.due);
            due.truncate(most);
        }
        due.into_iter()
            .map(|(about, thing)| {
                thing.is_being_asked = true;
                Arc::clone(about)
            })
            .collect()
    }

    fn next_due(&self) -> Option<Instant> {
        let things = self.lock();
        let waiting = things.values().filter(|thing| !thing.is_being_asked);
        waiting.map(|thing| thing.due).min()
    }

    async fn ask(&self, about: Arc<str>) {
        let asked = tokio::time::timeout(Q::PATIENCE, self.question.ask(&about)).await;
        let (told, is_known) = match asked {
            Ok(Ok(told)) => (told, true),
            Ok(Err(failure)) => (failure, false),
            Err(_) => (Q::silence(&about), false),
        };
        let mut things = self.lock();
        let Some(thing) = things.get_mut(&about) else {
            return;
        };
        let question = &self.question;
        let pause = if is_known {
            question.every()
        } else {
            question.again()
        };
        thing.due = Instant::now() + pause;
        thing.is_being_asked = false;
        let told = match &thing.told {
            Some(known) if thing.is_known && !is_known => Q::kept(&about, known, told),
            Some(_) | None => told,
        };
        thing.is_known |= is_known;
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
