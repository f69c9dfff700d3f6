//! Looks up the host names that backends outside of the cluster have, again and again.
//!
//! A name that cannot be looked up keeps its last addresses: a name server that is away for a
//! while must not take a backend away. What failed is told with them. Nothing is looked up that no
//! translation asked for.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dialects::LookedUp;
use futures::FutureExt;
use futures::future::BoxFuture;
use lifecycle::Tasks;

use crate::asking::{Asking, Question};
use crate::inbox::{Inbox, Pending};

/// How often, unless the settings say otherwise. The system's resolver tells nobody for how long
/// an answer holds.
pub const LOOK_UP_EVERY: Duration = Duration::from_secs(30);
/// The same after a failure, if that is sooner.
const AGAIN: Duration = Duration::from_secs(5);
/// Names that are looked up; a name beyond has no address.
const MOST_NAMES: usize = 2048;
/// Addresses of one name.
const MOST_ADDRESSES: usize = 64;

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

/// The names that are looked up.
pub(crate) type Names = Asking<LookUp>;

/// What the addresses of a name are.
pub(crate) struct LookUp {
    resolver: Arc<dyn Resolver>,
    every: Duration,
}

impl Asking<LookUp> {
    pub(crate) fn start(
        resolver: Arc<dyn Resolver>,
        every: Duration,
        inbox: &Arc<Inbox>,
        tasks: &Tasks,
    ) -> Self {
        Self::of(LookUp { resolver, every }, inbox, tasks)
    }
}

impl Question for LookUp {
    type Told = LookedUp;

    const TASK: &'static str = "host names";
    const PATIENCE: Duration = Duration::from_secs(5);
    const MOST: usize = MOST_NAMES;

    fn every(&self) -> Duration {
        self.every
    }

    fn again(&self) -> Duration {
        self.every.min(AGAIN)
    }

    async fn ask(&self, host: &str) -> Result<LookedUp, LookedUp> {
        match self.resolver.look_up(host).await {
            Ok(addresses) if !addresses.is_empty() => Ok(LookedUp {
                addresses: sorted(addresses),
                failure: None,
            }),
            Ok(_) => Err(failed("it has no address")),
            Err(error) => Err(failed(&error.to_string())),
        }
    }

    fn silence(_: &str) -> LookedUp {
        failed("nobody answers in time")
    }

    fn too_many(host: &str) -> LookedUp {
        tracing::warn!(%host, "not looked up: {MOST_NAMES} host names are looked up already");
        failed(&format!("{MOST_NAMES} other names are looked up already"))
    }

    fn kept(host: &str, known: &LookedUp, failure: LookedUp) -> LookedUp {
        let why = failure.failure.as_deref().unwrap_or_default();
        tracing::debug!(%host, %why, "a host name keeps the addresses that were found last");
        LookedUp {
            addresses: Arc::clone(&known.addresses),
            ..failure
        }
    }

    fn tell(pending: &mut Pending, host: Arc<str>, found: LookedUp) {
        pending.dns.insert(host, found);
    }
}

fn failed(why: &str) -> LookedUp {
    LookedUp {
        failure: Some(why.into()),
        ..LookedUp::default()
    }
}

/// Each once, in order: names are told only when their addresses change.
fn sorted(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::index::NameChange;

    /// Answers with what the test said last.
    #[derive(Default)]
    struct Book(Mutex<(usize, Option<Vec<IpAddr>>)>);

    impl Resolver for Book {
        fn look_up<'r>(&'r self, host: &'r str) -> BoxFuture<'r, io::Result<Vec<IpAddr>>> {
            if host.contains("silent") {
                return std::future::pending().boxed();
            }
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
        fn start(every: Duration) -> Self {
            let (book, inbox, tasks) = (Arc::<Book>::default(), Arc::default(), Tasks::new());
            let resolver = Arc::clone(&book) as Arc<dyn Resolver>;
            let names = Names::start(resolver, every, &inbox, &tasks);
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

        /// What came after this time: addresses, and whether the last look-up failed.
        async fn told_after(&self, time: Duration) -> Option<(Vec<IpAddr>, bool)> {
            tokio::time::sleep(time).await;
            let told = self.inbox.take().dns.remove("api.example.com")?;
            Some((told.addresses.to_vec(), told.failure.is_some()))
        }

        fn wants(&self, host: &str) {
            let wanted = NameChange::Wanted(host.into());
            self.names.change(vec![wanted], Instant::now());
        }
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    const NAME: &str = "api.example.com";
    const SOON: Duration = Duration::from_millis(1);
    const LATER: Duration = Duration::from_secs(31);

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_at_once_then_again_and_told_when_it_changes() {
        let rig = Rig::start(LOOK_UP_EVERY);
        rig.says(Some(&[2, 1, 1]));
        rig.wants(NAME);
        let told = rig.told_after(SOON).await;
        assert_eq!(told, Some((vec![ip(1), ip(2)], false)));
        assert_eq!((rig.told_after(LATER).await, rig.look_ups()), (None, 2));
        rig.says(Some(&[3]));
        assert_eq!(rig.told_after(LATER).await, Some((vec![ip(3)], false)));
        let unwanted = NameChange::Unwanted(NAME.into());
        rig.names.change(vec![unwanted], Instant::now());
        let before = rig.look_ups();
        assert_eq!(rig.told_after(LATER).await, None);
        assert_eq!(rig.look_ups(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_cannot_be_looked_up_keeps_its_addresses_and_that_is_told_once() {
        let rig = Rig::start(LOOK_UP_EVERY);
        rig.says(None);
        rig.wants(NAME);
        assert_eq!(rig.told_after(SOON).await, Some((vec![], true)));
        assert_eq!(rig.told_after(AGAIN).await, None);
        rig.says(Some(&[1]));
        assert_eq!(rig.told_after(AGAIN).await, Some((vec![ip(1)], false)));
        for answer in [None, Some(&[][..])] {
            rig.says(answer);
            assert_eq!(rig.told_after(LATER).await, Some((vec![ip(1)], true)));
            assert_eq!(rig.told_after(LATER).await, None);
        }
        rig.says(Some(&[1]));
        assert_eq!(rig.told_after(AGAIN).await, Some((vec![ip(1)], false)));
    }

    #[tokio::test(start_paused = true)]
    async fn how_often_is_as_set_after_failures_too() {
        let rig = Rig::start(Duration::from_secs(1));
        rig.says(Some(&[1]));
        rig.wants(NAME);
        rig.told_after(Duration::from_millis(3_500)).await;
        assert_eq!(rig.look_ups(), 4);
        rig.says(None);
        rig.told_after(Duration::from_secs(4)).await;
        assert_eq!(rig.look_ups(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_nobody_answers_for_keeps_no_other_waiting() {
        let rig = Rig::start(Duration::from_secs(1));
        rig.says(Some(&[1]));
        rig.wants("a.silent.example");
        rig.wants(NAME);
        assert!(rig.told_after(SOON).await.is_some());
        rig.says(Some(&[2]));
        let told = rig.told_after(Duration::from_secs(1)).await;
        assert_eq!(told, Some((vec![ip(2)], false)));
    }

    #[tokio::test(start_paused = true)]
    async fn more_names_than_are_asked_at_once_are_all_looked_up() {
        let rig = Rig::start(LOOK_UP_EVERY);
        rig.says(Some(&[1]));
        for number in 0..100 {
            rig.wants(&format!("{number}.example.com"));
        }
        tokio::time::sleep(SOON).await;
        assert_eq!((rig.look_ups(), rig.inbox.take().dns.len()), (100, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_too_many_is_told_and_looked_up_once_there_is_room() {
        let rig = Rig::start(LOOK_UP_EVERY);
        rig.says(Some(&[1]));
        for number in 0..MOST_NAMES {
            rig.wants(&format!("{number}.example.com"));
        }
        rig.wants(NAME);
        assert_eq!(rig.told_after(SOON).await, Some((vec![], true)));
        assert_eq!(rig.told_after(LATER).await, None);
        let unwanted = NameChange::Unwanted("0.example.com".into());
        rig.names.change(vec![unwanted], Instant::now());
        assert_eq!(rig.told_after(SOON).await, Some((vec![ip(1)], false)));
    }
}
