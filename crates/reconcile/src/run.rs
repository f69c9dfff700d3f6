//! The loop that turns keys into reconciles.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use lifecycle::{Stage, Tasks};

use crate::{Error, Queue};

/// When to look again although nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only when something changes.
    Await,
    /// After this time at the latest.
    After(Duration),
}

/// First pause after a failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Calls `reconcile` for the keys of `queue` with at most `workers` at once, after every future
/// of `synced` has resolved. Failures are logged and retried with exponential backoff; conflicts
/// are retried without a log line, since the newer object is on its way to the cache.
pub fn run<K, F, Fut>(
    name: &'static str,
    queue: Queue<K>,
    workers: usize,
    synced: Vec<BoxFuture<'static, ()>>,
    tasks: &Tasks,
    reconcile: F,
) where
    K: Clone + Ord + Hash + std::fmt::Display + Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let mut shutdown = tasks.shutdown(Stage::Controllers);
    let failures = Arc::new(Mutex::new(HashMap::new()));
    tasks.spawn(
        format!("controller {name}"),
        Stage::Controllers,
        async move {
            let work = async {
                join_all(synced).await;
                join_all((0..workers.max(1)).map(|_| work(name, &queue, &failures, &reconcile)))
                    .await;
            };
            tokio::select! {
                () = work => {}
                () = shutdown.requested() => {}
            }
            Ok::<(), Error>(())
        },
    );
}

async fn work<K, F, Fut>(
    name: &str,
    queue: &Queue<K>,
    failures: &Mutex<HashMap<K, u32>>,
    reconcile: &F,
) where
    K: Clone + Ord + Hash + std::fmt::Display,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<Action, Error>>,
{
    loop {
        let key = queue.next().await;
        let result = reconcile(key.clone()).await;
        let mut counts = failures.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(action) => {
                counts.remove(&key);
                if let Action::After(delay) = action {
                    queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                let count = counts.entry(key.clone()).or_insert(0);
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << (*count).min(13))
                    .min(LONGEST_PAUSE);
                *count += 1;
                // An object that vanished while it was worked on is no news either: the cache is
                // about to learn of it.
                if error.is_conflict() || error.is_not_found() {
                    tracing::debug!(controller = name, %key, %error, "overtaken, trying again");
                } else {
                    tracing::warn!(controller = name, %key, %error, ?pause, "reconcile failed, trying again");
                }
                queue.add_after(key.clone(), pause);
            }
        }
        drop(counts);
        queue.done(&key);
    }
}
