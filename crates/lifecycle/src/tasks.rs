//! Named tasks that stop stage by stage.
//!
//! `drain` walks the stages in order: it signals one, waits until its tasks have ended or the
//! stage's share of time is over, and only then signals the next.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// When a task stops, in drain order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Stops accepting connections.
    Listeners,
    /// Finishes requests in flight; cold starts still work while it does.
    Requests,
    /// Stops pods.
    Pods,
    /// Stops reconciling.
    Controllers,
    /// Stops the API server and its watches.
    Api,
    /// Writes what is still in memory and closes the store.
    Store,
}

const STAGES: [Stage; 6] = [
    Stage::Listeners,
    Stage::Requests,
    Stage::Pods,
    Stage::Controllers,
    Stage::Api,
    Stage::Store,
];

/// What a drain achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every task ended by itself.
    Clean,
    /// These tasks were still running when their time was over and were aborted.
    Forced(Vec<String>),
}

/// Resolves once a task's stage is told to stop. Clone freely.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Waits for the signal.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone, which is as good as the signal.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether the signal has been given.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// Spawns and stops the product's tasks. Clone freely; all clones are one set.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

struct Shared {
    stop: Vec<watch::Sender<bool>>,
    running: mpsc::UnboundedSender<Running>,
    collected: tokio::sync::Mutex<mpsc::UnboundedReceiver<Running>>,
    failed: watch::Sender<Option<String>>,
}

struct Running {
    name: String,
    stage: Stage,
    handle: JoinHandle<()>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty set. Tasks run on the tokio runtime that is current when they are spawned.
    pub fn new() -> Self {
        let (running, collected) = mpsc::unbounded_channel();
        let stop = STAGES.iter().map(|_| watch::channel(false).0).collect();
        let failed = watch::channel(None).0;
        Self {
            shared: Arc::new(Shared {
                stop,
                running,
                collected: tokio::sync::Mutex::new(collected),
                failed,
            }),
        }
    }

    /// The stop signal of a stage.
    pub fn shutdown(&self, stage: Stage) -> Shutdown {
        Shutdown(self.shared.stop[stage as usize].subscribe())
    }

    /// Runs a future until it ends or, at the latest, until its stage is forced. If it returns
    /// an error or panics, [`Self::failed`] resolves and the process should drain.
    pub fn spawn<F, E>(&self, name: impl Into<String>, stage: Stage, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let name = name.into();
        let failed = self.shared.failed.clone();
        let task = name.clone();
        #[allow(clippy::disallowed_methods)] // The one place that spawns, on behalf of all.
        let handle = tokio::spawn(async move {
            let guard = PanicGuard {
                task: &task,
                failed: &failed,
            };
            if let Err(error) = future.await {
                tracing::error!(task, %error, "task failed");
                failed.send_replace(Some(format!("{task}: {error}")));
            }
            std::mem::forget(guard);
        });
        // The receiver lives as long as `self`, so sending cannot fail.
        let _ = self.shared.running.send(Running {
            name,
            stage,
            handle,
        });
    }

    /// Runs the futures that `make` returns one after another until the stage stops: a task that
    /// ends or fails is started again after a pause that doubles from 50 ms to 5 s.
    pub fn spawn_restarting<M, F, E>(&self, name: impl Into<String>, stage: Stage, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let name = name.into();
        let mut shutdown = self.shutdown(stage);
        let task = name.clone();
        self.spawn(name, stage, async move {
            let mut pause = Duration::from_millis(50);
            loop {
                tokio::select! {
                    ended = make() => match ended {
                        Ok(()) => tracing::debug!(task, "task ended, starting it again"),
                        Err(error) => tracing::warn!(task, %error, "task failed, starting it again"),
                    },
                    () = shutdown.requested() => return Ok::<(), E>(()),
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
                    () = shutdown.requested() => return Ok(()),
                }
            }
        });
    }

    /// Resolves with the name and error of the first task that failed.
    pub async fn failed(&self) -> String {
        let mut failed = self.shared.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops every stage in order. A stage that is still busy after `limit` is aborted, so the
    /// whole drain takes at most `limit` times the number of stages.
    pub async fn drain(&self, limit: Duration) -> Outcome {
        let mut collected = self.shared.collected.lock().await;
        let mut running: Vec<Running> = Vec::new();
        let mut forced = Vec::new();
        for stage in STAGES {
            self.shared.stop[stage as usize].send_replace(true);
            let deadline = tokio::time::Instant::now() + limit;
            loop {
                while let Ok(task) = collected.try_recv() {
                    running.push(task);
                }
                let Some(at) = running.iter().position(|task| task.stage == stage) else {
                    break;
                };
                let mut task = running.swap_remove(at);
                if tokio::time::timeout_at(deadline, &mut task.handle)
                    .await
                    .is_err()
                {
                    task.handle.abort();
                    forced.push(task.name);
                }
            }
        }
        if forced.is_empty() {
            Outcome::Clean
        } else {
            Outcome::Forced(forced)
        }
    }
}

/// Turns a panic of a task into a failure that [`Tasks::failed`] reports.
struct PanicGuard<'a> {
    task: &'a str,
    failed: &'a watch::Sender<Option<String>>,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed
                .send_replace(Some(format!("{}: panicked", self.task)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test(start_paused = true)]
    async fn stages_stop_in_order_and_each_waits_for_the_one_before() {
        let tasks = Tasks::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        for stage in [Stage::Store, Stage::Listeners, Stage::Requests] {
            let mut shutdown = tasks.shutdown(stage);
            let order = Arc::clone(&order);
            tasks.spawn(format!("{stage:?}"), stage, async move {
                shutdown.requested().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                order.lock().expect("not poisoned").push(stage);
                Ok::<(), String>(())
            });
        }
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, Outcome::Clean);
        assert_eq!(
            *order.lock().expect("not poisoned"),
            [Stage::Listeners, Stage::Requests, Stage::Store]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_aborted_and_named() {
        let tasks = Tasks::new();
        tasks.spawn(
            "stuck",
            Stage::Requests,
            std::future::pending::<Result<(), String>>(),
        );
        assert_eq!(
            tasks.drain(Duration::from_secs(5)).await,
            Outcome::Forced(vec!["stuck".into()])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_restarting_task_is_started_again_until_shutdown() {
        let tasks = Tasks::new();
        let (count, mut seen) = watch::channel(0);
        tasks.spawn_restarting("flaky", Stage::Controllers, move || {
            count.send_modify(|n| *n += 1);
            async { Err::<(), _>("no luck") }
        });
        assert!(seen.wait_for(|n| *n >= 3).await.is_ok());
        assert_eq!(tasks.drain(Duration::from_secs(60)).await, Outcome::Clean);
    }

    #[tokio::test]
    async fn a_failure_or_panic_is_reported_with_the_name_of_its_task() {
        let tasks = Tasks::new();
        tasks.spawn("bad", Stage::Api, async { Err("port taken") });
        assert_eq!(tasks.failed().await, "bad: port taken");
    }
}
