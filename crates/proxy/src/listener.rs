//! The threads of the gateway: each accepts on its own sockets and serves what it accepted.
//!
//! A drain has two steps that the product's [`Tasks`] order: first nobody accepts any more, then
//! the requests in flight finish. Whatever a thread still holds when its time is over is dropped.

use std::future::Future;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Stage, Tasks};
use routing::Visibility;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::metrics::Counters;
use crate::worker::{Parts, Worker};
use crate::{Error, connection};

/// How far the drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serve,
    /// Accept nothing more.
    Close,
    /// End idle connections, finish requests.
    Finish,
    /// Drop what is left.
    Abort,
}

/// How long to wait after `accept` failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Starts one thread per element of `listeners` and hands their drain to `tasks`.
pub(crate) fn start(
    parts: &Parts,
    listeners: Vec<Vec<(StdListener, Visibility)>>,
    counters: &[Arc<Counters>],
    tasks: &Tasks,
) -> Result<(), Error> {
    let (phase, phases) = watch::channel(Phase::Serve);
    let (closed, closings) = mpsc::unbounded_channel();
    let (finished, finishings) = mpsc::unbounded_channel();
    let phase = Arc::new(phase);
    for (number, (listeners, counters)) in listeners.into_iter().zip(counters).enumerate() {
        let thread = Thread {
            parts: parts.clone(),
            listeners,
            counters: Arc::clone(counters),
            phase: phases.clone(),
            closed: closed.clone(),
        };
        let finished = finished.clone();
        std::thread::Builder::new()
            .name(format!("gateway-{number}"))
            .spawn(move || {
                if let Err(error) = thread.run() {
                    tracing::error!(%error, "gateway thread failed");
                }
                drop(finished);
            })
            .map_err(Error::Thread)?;
    }
    drop((closed, finished));
    let stop = tasks.shutdown(Stage::Listeners);
    tasks.spawn(
        "gateway-listeners",
        Stage::Listeners,
        step(Arc::clone(&phase), Phase::Close, stop, closings),
    );
    let stop = tasks.shutdown(Stage::Requests);
    tasks.spawn(
        "gateway-requests",
        Stage::Requests,
        step(phase, Phase::Finish, stop, finishings),
    );
    Ok(())
}

/// Waits for the stage, tells the threads, and waits until each has dropped its end of `done`.
async fn step(
    phase: Arc<watch::Sender<Phase>>,
    next: Phase,
    mut stop: lifecycle::Shutdown,
    mut done: mpsc::UnboundedReceiver<()>,
) -> Result<(), Error> {
    // If this task is cut short, so are the threads.
    let guard = AbortOnDrop(phase);
    let all = async { while done.recv().await.is_some() {} };
    tokio::select! {
        () = stop.requested() => {}
        // Threads end by themselves only if they fail.
        () = all => return Err(Error::Ended),
    }
    guard.0.send_if_modified(|current| {
        next > *current && {
            *current = next;
            true
        }
    });
    while done.recv().await.is_some() {}
    std::mem::forget(guard);
    Ok(())
}

struct AbortOnDrop(Arc<watch::Sender<Phase>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.send_replace(Phase::Abort);
    }
}

/// What a thread is given.
struct Thread {
    parts: Parts,
    listeners: Vec<(StdListener, Visibility)>,
    counters: Arc<Counters>,
    phase: watch::Receiver<Phase>,
    /// Dropped once nothing is accepted any more.
    closed: mpsc::UnboundedSender<()>,
}

impl Thread {
    fn run(self) -> std::io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> std::io::Result<()> {
        let worker = Worker::new(self.parts, self.counters);
        for (listener, visibility) in self.listeners {
            let listener = TcpListener::from_std(listener)?;
            let (worker, phase, closed) =
                (Rc::clone(&worker), self.phase.clone(), self.closed.clone());
            tokio::task::spawn_local(async move {
                accept(&worker, &listener, visibility, phase).await;
                drop((listener, closed));
            });
        }
        drop(self.closed);
        let pool = Rc::clone(&worker);
        tokio::task::spawn_local(async move { pool.pool.maintain(pool.snapshots.clone()).await });
        let mut phase = self.phase;
        reached(&mut phase, Phase::Finish).await;
        worker.drain();
        tokio::select! {
            () = all_closed(&worker) => {}
            () = reached(&mut phase, Phase::Abort) => {
                tracing::warn!(connections = worker.open_connections(), "connections cut by the end of the drain");
            }
        }
        Ok(())
    }
}

async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error means that the tasks are gone, and the process with them.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

async fn all_closed(worker: &Worker) {
    while worker.open_connections() > 0 {
        worker.connection_closed().await;
    }
}

/// Accepts until the drain begins, while there is room for another connection.
async fn accept(
    worker: &Rc<Worker>,
    listener: &TcpListener,
    visibility: Visibility,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        // Beyond the limit, clients wait in the kernel's queue.
        let accepted = async {
            while worker.is_full() {
                worker.connection_closed().await;
            }
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = reached(&mut phase, Phase::Close) => break,
        };
        match accepted {
            Ok((stream, peer)) => open(worker, stream, peer, visibility),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closing the listener would reset those who are connected already.
    while let Some(Ok((stream, peer))) = now(listener.accept()).await {
        open(worker, stream, peer, visibility);
    }
}

fn open(
    worker: &Rc<Worker>,
    stream: tokio::net::TcpStream,
    peer: std::net::SocketAddr,
    visibility: Visibility,
) {
    // Fails only if the client is gone already, which reading finds out.
    let _ = stream.set_nodelay(true);
    tokio::task::spawn_local(connection::serve(worker.enter(), stream, peer, visibility));
}

/// The future's result if it has one now.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}
