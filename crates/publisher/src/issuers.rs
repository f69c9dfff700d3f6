//! Asks issuers of tokens where their keys are, again and again (OpenID Connect Discovery 1.0,
//! section 4).
//!
//! An issuer that does not answer any more keeps what it said: one that is away for a while must
//! not shut its users out. Nobody is asked that no translation asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialects::Discovered;
use futures::StreamExt;
use futures::future::BoxFuture;
use lifecycle::{Stage, Tasks};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::inbox::Inbox;
use crate::index::NameChange;

/// When an issuer is asked again: Istio's.
const EVERY: Duration = Duration::from_secs(20 * 60);
/// The same after a failure.
const AGAIN: Duration = Duration::from_secs(10);
/// How long one question may take: Istio's.
const PATIENCE: Duration = Duration::from_secs(5);
/// Issuers that are asked; of one beyond, the status says so.
const MOST_ISSUERS: usize = 256;
/// Characters of what went wrong that are told.
const LONGEST: usize = 512;
const AT_ONCE: usize = 8;

/// Finds where the keys of an issuer are.
pub trait Discover: Send + Sync {
    /// The `jwks_uri` of the document at [`document`].
    ///
    /// # Errors
    /// What went wrong, as the end of a sentence.
    fn keys_of<'d>(&'d self, issuer: &'d str) -> BoxFuture<'d, Result<String, String>>;
}

/// Asks nobody: for files that are only read.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Discover for Nobody {
    fn keys_of<'d>(&'d self, _: &'d str) -> BoxFuture<'d, Result<String, String>> {
        Box::pin(std::future::ready(Err("nobody is asked here".to_owned())))
    }
}

/// Where an issuer publishes what it is: the path is added to that of the issuer, whose slash at
/// the end is left out.
pub fn document(issuer: &str) -> String {
    let issuer = issuer.trim_end_matches('/');
    format!("{issuer}/.well-known/openid-configuration")
}

/// The issuers that are asked. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct Issuers {
    shared: Arc<Shared>,
}

struct Shared {
    discover: Arc<dyn Discover>,
    inbox: Arc<Inbox>,
    issuers: Mutex<BTreeMap<Arc<str>, Issuer>>,
    wake: Notify,
}

struct Issuer {
    due: Instant,
    /// As it was told last.
    found: Option<Discovered>,
}

impl Issuers {
    pub(crate) fn start(discover: Arc<dyn Discover>, inbox: &Arc<Inbox>, tasks: &Tasks) -> Self {
        let issuers = Self {
            shared: Arc::new(Shared {
                discover,
                inbox: Arc::clone(inbox),
                issuers: Mutex::default(),
                wake: Notify::new(),
            }),
        };
        let shared = Arc::clone(&issuers.shared);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        tasks.spawn("issuers of tokens", Stage::Controllers, async move {
            tokio::select! {
                () = shared.run() => {}
                () = shutdown.requested() => {}
            }
            Ok::<(), reconcile::Error>(())
        });
        issuers
    }

    pub(crate) fn change(&self, changes: Vec<NameChange>, now: Instant) {
        if changes.is_empty() {
            return;
        }
        let mut issuers = self.shared.lock();
        for change in changes {
            match change {
                NameChange::Unwanted(issuer) => drop(issuers.remove(&issuer)),
                NameChange::Wanted(issuer) if issuers.len() >= MOST_ISSUERS => {
                    let why = format!("{MOST_ISSUERS} other issuers are asked already");
                    self.shared.tell(issuer, Err(why.into()));
                }
                NameChange::Wanted(issuer) => {
                    let new = || Issuer {
                        due: now,
                        found: None,
                    };
                    issuers.entry(issuer).or_insert_with(new);
                }
            }
        }
        drop(issuers);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    async fn run(&self) {
        loop {
            let woken = self.wake.notified();
            let now = Instant::now();
            let due: Vec<_> = {
                let issuers = self.lock();
                let due = issuers.iter().filter(|(_, issuer)| issuer.due <= now);
                due.map(|(issuer, _)| Arc::clone(issuer)).collect()
            };
            futures::stream::iter(due)
                .for_each_concurrent(AT_ONCE, |issuer| self.ask(issuer))
                .await;
            let next = self.lock().values().map(|issuer| issuer.due).min();
            match next {
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => woken.await,
            }
        }
    }

    async fn ask(&self, issuer: Arc<str>) {
        let asked = tokio::time::timeout(PATIENCE, self.discover.keys_of(&issuer)).await;
        let found: Discovered = match asked {
            Ok(Ok(uri)) => Ok(uri.into()),
            Ok(Err(why)) => Err(why.chars().take(LONGEST).collect::<String>().into()),
            Err(_) => Err(format!("{} does not answer in time", document(&issuer)).into()),
        };
        let mut issuers = self.lock();
        let Some(held) = issuers.get_mut(&issuer) else {
            return;
        };
        held.due = Instant::now() + if found.is_ok() { EVERY } else { AGAIN };
        if let (Some(Ok(_)), Err(why)) = (&held.found, &found) {
            tracing::warn!(%issuer, %why, "an issuer does not say any more where its keys are");
            return;
        }
        if held.found.as_ref() == Some(&found) {
            return;
        }
        held.found = Some(found.clone());
        drop(issuers);
        self.tell(issuer, found);
    }

    fn tell(&self, issuer: Arc<str>, found: Discovered) {
        self.inbox
            .put(|pending| drop(pending.issuers.insert(issuer, found)));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Issuer>> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Answers with what the test said last; never, if it said nothing.
    #[derive(Default)]
    struct Book(Mutex<(usize, Option<Result<String, String>>)>);

    impl Discover for Book {
        fn keys_of<'d>(&'d self, _: &'d str) -> BoxFuture<'d, Result<String, String>> {
            let mut held = self.0.lock().expect("not poisoned");
            held.0 += 1;
            match held.1.clone() {
                Some(answer) => std::future::ready(answer).boxed(),
                None => std::future::pending().boxed(),
            }
        }
    }

    struct Rig {
        book: Arc<Book>,
        inbox: Arc<Inbox>,
        issuers: Issuers,
        _tasks: Tasks,
    }

    const ISSUER: &str = "https://issuer.example";

    impl Rig {
        fn start() -> Self {
            let (book, inbox, tasks) = (Arc::<Book>::default(), Arc::default(), Tasks::new());
            let discover = Arc::clone(&book) as Arc<dyn Discover>;
            let issuers = Issuers::start(discover, &inbox, &tasks);
            Self {
                book,
                inbox,
                issuers,
                _tasks: tasks,
            }
        }

        fn says(&self, answer: Option<Result<&str, &str>>) {
            let answer = answer.map(|it| it.map(str::to_owned).map_err(str::to_owned));
            self.book.0.lock().expect("not poisoned").1 = answer;
        }

        fn questions(&self) -> usize {
            self.book.0.lock().expect("not poisoned").0
        }

        fn wants(&self, issuer: &str) {
            let wanted = NameChange::Wanted(issuer.into());
            self.issuers.change(vec![wanted], Instant::now());
        }

        /// What came after this time.
        async fn told_after(&self, time: Duration) -> Option<Result<String, String>> {
            tokio::time::sleep(time).await;
            let told = self.inbox.take().issuers.get(ISSUER).cloned()?;
            Some(told.map(|it| it.to_string()).map_err(|it| it.to_string()))
        }
    }

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_fails_is_asked_again_soon_and_then_keeps_what_it_said() {
        let rig = Rig::start();
        rig.says(Some(Err("it is away")));
        rig.wants(ISSUER);
        assert_eq!(rig.told_after(SOON).await, Some(Err("it is away".into())));
        assert_eq!(rig.told_after(AGAIN).await, None, "that is known");
        rig.says(Some(Ok("https://issuer.example/keys")));
        let found = Some(Ok("https://issuer.example/keys".to_owned()));
        assert_eq!(rig.told_after(AGAIN).await, found);
        rig.says(Some(Err("it is away")));
        let before = rig.questions();
        assert_eq!(rig.told_after(EVERY + SOON).await, None);
        assert_eq!(rig.questions(), before + 1);
        rig.says(Some(Ok("https://issuer.example/other")));
        let found = Some(Ok("https://issuer.example/other".to_owned()));
        assert_eq!(rig.told_after(AGAIN).await, found);
        let unwanted = NameChange::Unwanted(ISSUER.into());
        rig.issuers.change(vec![unwanted], Instant::now());
        let before = rig.questions();
        assert_eq!(rig.told_after(EVERY * 2).await, None);
        assert_eq!(rig.questions(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_silent_is_told_and_so_is_one_too_many() {
        let rig = Rig::start();
        rig.wants(ISSUER);
        let silent = rig.told_after(PATIENCE + SOON).await;
        let silent = silent.expect("told").expect_err("a failure");
        assert!(silent.contains("does not answer in time"), "{silent}");
        rig.says(Some(Ok("https://a.example/keys")));
        for number in 1..MOST_ISSUERS {
            rig.wants(&format!("https://{number}.example"));
        }
        rig.wants("https://last.example");
        let pending = rig.inbox.take().issuers;
        let last = pending.get("https://last.example").expect("told");
        let why = last.as_ref().expect_err("a failure");
        assert!(why.contains("256 other issuers"), "{why}");
    }

    #[test]
    fn a_document_is_below_its_issuer() {
        let at = "https://a.example/realms/x/.well-known/openid-configuration";
        for issuer in ["https://a.example/realms/x", "https://a.example/realms/x/"] {
            assert_eq!(document(issuer), at);
        }
    }
}
