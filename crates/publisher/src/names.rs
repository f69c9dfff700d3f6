//! Looks up the host names that backends outside of the cluster have, again and again.
//!
//! A name that cannot be looked up keeps its last addresses: a name server that is away for a
//! while must not take a backend away. Nothing is looked up that no translation asked for.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use lifecycle::{Stage, Tasks};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::inbox::Inbox;
use crate::index::NameChange;

/// When a name is looked up again.
const EVERY: Duration = Duration::from_secs(30);
/// The same after a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// How long one look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names that are looked up; a name beyond is reported in the log and has no address.
const MOST_NAMES: usize = 2048;
/// Addresses of one name.
const MOST_ADDRESSES: usize = 64;
const AT_ONCE: usize = 8;

/// Finds the addresses of a host name.
pub trait Resolver: Send + Sync {
    /// # Errors
    /// Whatever the name servers say.
    fn look_up<'r>(&'r self, host: &'r str) -> BoxFuture<'r, io::Result<Vec<IpAddr>>>;
}

/// As the machine is set up.
#[derive(Debug)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn look_up<'r>(&'r self, host: &'r str) -> BoxFuture<'r, io::Result<Vec<IpAddr>>> {
        async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        }
        .boxed()
    }
}

/// The names that are looked up. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct Names {
    shared: Arc<Shared>,
}

struct Shared {
    resolver: Arc<dyn Resolver>,
    inbox: Arc<Inbox>,
    names: Mutex<BTreeMap<Arc<str>, Name>>,
    wake: Notify,
}

struct Name {
    due: Instant,
    /// Sorted; as it was told last.
    addresses: Arc<[IpAddr]>,
}

impl Names {
    pub(crate) fn start(resolver: Arc<dyn Resolver>, inbox: &Arc<Inbox>, tasks: &Tasks) -> Self {
        let names = Self {
            shared: Arc::new(Shared {
                resolver,
                inbox: Arc::clone(inbox),
                names: Mutex::default(),
                wake: Notify::new(),
            }),
        };
        let shared = Arc::clone(&names.shared);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        tasks.spawn("host names", Stage::Controllers, async move {
            tokio::select! {
                () = shared.run() => {}
                () = shutdown.requested() => {}
            }
            Ok::<(), reconcile::Error>(())
        });
        names
    }

    pub(crate) fn change(&self, changes: Vec<NameChange>, now: Instant) {
        if changes.is_empty() {
            return;
        }
        let mut names = self.shared.lock();
        for change in changes {
            match change {
                NameChange::Unwanted(host) => drop(names.remove(&host)),
                NameChange::Wanted(host) if names.len() >= MOST_NAMES => {
                    tracing::warn!(%host, "not looked up: {MOST_NAMES} host names are looked up already");
                }
                NameChange::Wanted(host) => {
                    names.entry(host).or_insert_with(|| Name {
                        due: now,
                        addresses: Arc::new([]),
                    });
                }
            }
        }
        drop(names);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    async fn run(&self) {
        loop {
            let woken = self.wake.notified();
            let now = Instant::now();
            let due: Vec<_> = {
                let names = self.lock();
                let due = names.iter().filter(|(_, name)| name.due <= now);
                due.map(|(host, _)| Arc::clone(host)).collect()
            };
            futures::stream::iter(due)
                .for_each_concurrent(AT_ONCE, |host| self.look_up(host))
                .await;
            let next = self.lock().values().map(|name| name.due).min();
            match next {
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => woken.await,
            }
        }
    }

    async fn look_up(&self, host: Arc<str>) {
        let found = tokio::time::timeout(PATIENCE, self.resolver.look_up(&host)).await;
        let found = match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => Some(sorted(addresses)),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => {
                tracing::debug!(%host, %error, "cannot look up");
                None
            }
            Err(_) => None,
        };
        let now = Instant::now();
        let mut names = self.lock();
        let Some(name) = names.get_mut(&host) else {
            return;
        };
        name.due = now + if found.is_some() { EVERY } else { AGAIN };
        let Some(found) = found.filter(|found| *found != name.addresses) else {
            return;
        };
        name.addresses = Arc::clone(&found);
        drop(names);
        self.inbox
            .put(|pending| drop(pending.dns.insert(host, found)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sorted(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what the test said last.
    #[derive(Default)]
    struct Book(Mutex<(usize, Option<Vec<IpAddr>>)>);

    impl Resolver for Book {
        fn look_up<'r>(&'r self, _: &'r str) -> BoxFuture<'r, io::Result<Vec<IpAddr>>> {
            let mut held = self.0.lock().expect("not poisoned");
            held.0 += 1;
            let answer = held.1.clone();
            async move { answer.ok_or_else(|| io::ErrorKind::TimedOut.into()) }.boxed()
        }
    }

    struct Rig {
        book: Arc<Book>,
        inbox: Arc<Inbox>,
        names: Names,
        _tasks: Tasks,
    }

    impl Rig {
        fn start() -> Self {
            let (book, inbox, tasks) = (Arc::<Book>::default(), Arc::default(), Tasks::new());
            let resolver = Arc::clone(&book) as Arc<dyn Resolver>;
            let names = Names::start(resolver, &inbox, &tasks);
            Self {
                book,
                inbox,
                names,
                _tasks: tasks,
            }
        }

        fn says(&self, addresses: Option<&[u8]>) {
            let addresses = addresses.map(|all| all.iter().map(|last| ip(*last)).collect());
            self.book.0.lock().expect("not poisoned").1 = addresses;
        }

        fn look_ups(&self) -> usize {
            self.book.0.lock().expect("not poisoned").0
        }

        async fn told(&self) -> Option<Vec<IpAddr>> {
            let dns = self.inbox.take().dns;
            dns.get("api.example.com").map(|found| found.to_vec())
        }
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    const LATER: Duration = Duration::from_secs(31);

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_at_once_then_again_and_told_when_it_changes() {
        let rig = Rig::start();
        rig.says(Some(&[2, 1, 1]));
        let name: Arc<str> = "api.example.com".into();
        rig.names
            .change(vec![NameChange::Wanted(Arc::clone(&name))], Instant::now());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(rig.told().await, Some(vec![ip(1), ip(2)]));
        tokio::time::sleep(LATER).await;
        assert_eq!((rig.told().await, rig.look_ups()), (None, 2));
        rig.says(Some(&[3]));
        tokio::time::sleep(LATER).await;
        assert_eq!(rig.told().await, Some(vec![ip(3)]));
        rig.names
            .change(vec![NameChange::Unwanted(name)], Instant::now());
        let before = rig.look_ups();
        tokio::time::sleep(LATER).await;
        assert_eq!(rig.look_ups(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_cannot_be_looked_up_keeps_its_addresses() {
        let rig = Rig::start();
        rig.says(Some(&[1]));
        let wanted = NameChange::Wanted("api.example.com".into());
        rig.names.change(vec![wanted], Instant::now());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(rig.told().await.is_some());
        for answer in [None, Some(&[][..])] {
            rig.says(answer);
            tokio::time::sleep(LATER).await;
            assert_eq!(rig.told().await, None);
        }
        rig.says(Some(&[1]));
        tokio::time::sleep(LATER).await;
        assert_eq!(rig.told().await, None);
    }
}
