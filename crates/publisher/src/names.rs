//! Looks up the host names that backends outside of the cluster have, again and again.
//!
//! A name that cannot be looked up keeps its last addresses: a name server that is away for a
//! while must not take a backend away. Nothing is looked up that no translation asked for.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use lifecycle::Tasks;

use crate::asking::{Asking, Question};
use crate::inbox::{Inbox, Pending};

/// Names that are looked up; a name beyond is reported in the log and has no address.
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
pub(crate) struct LookUp(Arc<dyn Resolver>);

impl Asking<LookUp> {
    pub(crate) fn start(resolver: Arc<dyn Resolver>, inbox: &Arc<Inbox>, tasks: &Tasks) -> Self {
        Self::of(LookUp(resolver), inbox, tasks)
    }
}

impl Question for LookUp {
    /// Sorted.
    type Told = Arc<[IpAddr]>;

    const TASK: &'static str = "host names";
    const EVERY: Duration = Duration::from_secs(30);
    const AGAIN: Duration = Duration::from_secs(5);
    const PATIENCE: Duration = Duration::from_secs(5);
    const MOST: usize = MOST_NAMES;

    async fn ask(&self, host: &str) -> Result<Self::Told, Option<Self::Told>> {
        match self.0.look_up(host).await {
            Ok(addresses) if !addresses.is_empty() => Ok(sorted(addresses)),
            Ok(_) => Err(None),
            Err(error) => {
                tracing::debug!(%host, %error, "cannot look up");
                Err(None)
            }
        }
    }

    fn silence(_: &str) -> Option<Self::Told> {
        None
    }

    fn too_many(host: &str) -> Option<Self::Told> {
        tracing::warn!(%host, "not looked up: {MOST_NAMES} host names are looked up already");
        None
    }

    fn kept(_: &str, _: &Self::Told) {}

    fn tell(pending: &mut Pending, host: Arc<str>, addresses: Self::Told) {
        pending.dns.insert(host, addresses);
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
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::index::NameChange;

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
