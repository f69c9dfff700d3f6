//! Upgraded connections: how many there may be, when they are idle, and that all of them end
//! with the API stage.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use lifecycle::{Stage, Tasks};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::status::Status;

/// The sessions of one server. Clones are the same sessions.
#[derive(Clone)]
pub(super) struct Sessions {
    places: Arc<Semaphore>,
    start: mpsc::Sender<BoxFuture<'static, ()>>,
}

impl Sessions {
    pub(super) fn start(most: usize, tasks: &Tasks) -> Self {
        let (start, mut started) = mpsc::channel::<BoxFuture<'static, ()>>(most.max(1));
        let mut stop = tasks.shutdown(Stage::Api);
        tasks.spawn("api-streams", Stage::Api, async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    () = stop.requested() => break,
                    Some(session) = started.recv() => {
                        running.spawn(session);
                    }
                    Some(_) = running.join_next() => {}
                }
            }
            // Dropping the set ends every session, and each session what it has started.
            Ok::<(), Infallible>(())
        });
        Self {
            places: Arc::new(Semaphore::new(most)),
            start,
        }
    }

    /// Runs a session beside the requests.
    pub(super) fn run(
        &self,
        session: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Status> {
        let full =
            || Status::too_many_requests("too many streams are open, please try again later");
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| full())?;
        let session = Box::pin(async move {
            session.await;
            drop(place);
        });
        self.start.try_send(session).map_err(|_| full())
    }
}

/// When data last moved on a connection.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    begin: Instant,
    /// Milliseconds after `begin`.
    last: Arc<AtomicU64>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: Arc::default(),
        }
    }

    /// Data moves.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Resolves once nothing has moved for so long.
    pub(super) async fn idle(&self, most: Duration) {
        loop {
            let last = self.begin + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if last + most <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(last + most).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_after_the_last_byte() {
        let activity = Activity::new();
        let begin = Instant::now();
        let watched = activity.clone();
        let idle = async move {
            watched.idle(Duration::from_secs(10)).await;
            begin.elapsed()
        };
        let moves = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            activity.touch();
        };
        let (elapsed, ()) = tokio::join!(idle, moves);
        assert!(elapsed >= Duration::from_secs(17), "{elapsed:?}");
    }

    #[tokio::test]
    async fn one_session_too_many_is_refused_and_a_place_is_given_back() {
        let tasks = Tasks::new();
        let sessions = Sessions::start(1, &tasks);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        sessions
            .run(async move {
                let _ = ended.await;
            })
            .expect("a place is free");
        let refused = sessions.run(async {}).expect_err("the place is taken");
        assert_eq!(refused.code, 429);
        end.send(()).expect("the session waits");
        while sessions.run(async {}).is_err() {
            tokio::task::yield_now().await;
        }
    }
}
