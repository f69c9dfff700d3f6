//! A watch of a kind that is known by its name only and need not be there: a definition that a
//! user installs later, or replaces by one with other versions.
//!
//! There is no cache: what is told is kept by whom it is told to. Only the keys are kept, so that
//! what went away while nobody watched is told too.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use lifecycle::{Stage, Tasks};
use tokio::sync::watch;

use crate::Key;

/// Pauses between looking for a kind that is not there: the first, doubled up to the longest.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// What happened to an object.
#[derive(Debug)]
pub enum Told {
    Applied(Box<DynamicObject>),
    Deleted(Key),
}

type Listener = Box<dyn Fn(Told) + Send + Sync>;

/// Watches a kind in all namespaces, in the first of these versions that is served. Returns what
/// resolves once everything was told, or it is known that there is no such kind.
///
/// # Panics
/// If there is no version at all.
pub fn watch(
    client: &Client,
    versions: Vec<ApiResource>,
    tell: impl Fn(Told) + Send + Sync + 'static,
    tasks: &Tasks,
) -> BoxFuture<'static, ()> {
    let first = versions.first().expect("a kind has a version");
    let name = format!("watch of {}.{}", first.plural, first.group);
    let (synced, mut is_synced) = watch::channel(false);
    let mut following = Following {
        client: client.clone(),
        tell: Box::new(tell),
        known: HashSet::new(),
        synced,
    };
    let mut shutdown = tasks.shutdown(Stage::Controllers);
    tasks.spawn(name, Stage::Controllers, async move {
        tokio::select! {
            () = following.run(&versions) => {}
            () = shutdown.requested() => {}
        }
        Ok::<(), crate::Error>(())
    });
    async move {
        if is_synced.wait_for(|done| *done).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    .boxed()
}

struct Following {
    client: Client,
    tell: Listener,
    known: HashSet<Key>,
    synced: watch::Sender<bool>,
}

impl Following {
    async fn run(&mut self, versions: &[ApiResource]) {
        let mut pause = FIRST_LOOK;
        loop {
            for version in versions {
                if self.follow(version).await {
                    // It was there, and may be again in a moment.
                    pause = FIRST_LOOK;
                }
            }
            self.keep_only(&HashSet::new());
            self.synced.send_replace(true);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Follows the kind in one version until that is not served (any more). Returns whether it was.
    async fn follow(&mut self, version: &ApiResource) -> bool {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), version);
        let config = watcher::Config::default().streaming_lists();
        let mut events = pin!(kube::runtime::WatchStreamExt::backoff(
            watcher::watcher(api, config),
            watcher::DefaultBackoff::default()
        ));
        let mut listed = HashSet::new();
        let mut was_served = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(Key::of(&object));
                    self.apply(object);
                }
                Ok(Event::InitDone) => {
                    was_served = true;
                    self.keep_only(&listed);
                    listed = HashSet::new();
                    self.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.apply(object),
                Ok(Event::Delete(object)) => {
                    let key = Key::of(&object);
                    self.known.remove(&key);
                    (self.tell)(Told::Deleted(key));
                }
                Err(error) => match code(&error) {
                    Some(404 | 405) => return was_served,
                    Some(403) => {
                        tracing::debug!(kind = %version.kind, %error, "this kind may not be watched");
                        return was_served;
                    }
                    _ => tracing::warn!(kind = %version.kind, %error, "watch failed, renewing it"),
                },
            }
        }
        was_served
    }

    fn apply(&mut self, object: DynamicObject) {
        self.known.insert(Key::of(&object));
        (self.tell)(Told::Applied(Box::new(object)));
    }

    fn keep_only(&mut self, listed: &HashSet<Key>) {
        let (kept, gone) = std::mem::take(&mut self.known)
            .into_iter()
            .partition(|key| listed.contains(key));
        self.known = kept;
        let gone: HashSet<Key> = gone;
        for key in gone {
            (self.tell)(Told::Deleted(key));
        }
    }
}

/// The HTTP status of the API's refusal, if it is one.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
