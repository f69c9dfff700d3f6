//! The threads of the gateway: each accepts on its own sockets and serves what it accepted.
//!
//! A drain has two steps that the product's [`Tasks`] order: first nobody accepts any more, then
//! the requests in flight finish. Whatever a thread still holds when its time is over is dropped.

mod binds;

use std::net::TcpListener as StdListener;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use lifecycle::{Stage, Tasks};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::accept::accept;
use crate::binder::{Binder, Order};
use crate::entry::Entry;
#[cfg(feature = "http3")]
use crate::http3;
use crate::metrics::{Counters, Listeners};
use crate::panics::{self, Panicked, caught, enduring};
use crate::socket::probed_after;
use crate::worker::{Parts, Worker};
use crate::{Error, health, parked, socket};

use binds::Binds;

/// How far the drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serve,
    /// Accept nothing more.
    Close,
    /// End idle connections, finish requests.
    Finish,
    /// Drop what is left.
    Abort,
}

/// Where clients of one thread come in.
#[derive(Default)]
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<(StdListener, Entry)>,
    #[cfg(feature = "http3")]
    pub(crate) doors: Vec<(http3::DoorSocket, Entry)>,
}

/// Starts one thread per element of `sockets` and hands their drain to `tasks`.
pub(crate) fn start(
    parts: &Parts,
    sockets: Vec<Sockets>,
    (counters, listeners): (&[Arc<Counters>], &Listeners),
    tasks: &Tasks,
) -> Result<Binder, Error> {
    let (phase, phases) = watch::channel(Phase::Serve);
    let (closed, closings) = mpsc::unbounded_channel();
    let (finished, finishings) = mpsc::unbounded_channel();
    let phase = Arc::new(phase);
    let mut orders = Vec::new();
    for (number, (sockets, counters)) in sockets.into_iter().zip(counters).enumerate() {
        let (order, received) = mpsc::unbounded_channel();
        orders.push(order);
        let thread = Thread {
            parts: Parts {
                thread: number,
                ..parts.clone()
            },
            sockets,
            orders: received,
            counters: Arc::clone(counters),
            phase: phases.clone(),
            closed: closed.clone(),
            checks_health: number == 0,
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
    Ok(Binder::new(orders, listeners.clone()))
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
    sockets: Sockets,
    orders: mpsc::UnboundedReceiver<Order>,
    counters: Arc<Counters>,
    phase: watch::Receiver<Phase>,
    /// Dropped once nothing is accepted any more.
    closed: mpsc::UnboundedSender<()>,
    /// One thread does, for all.
    checks_health: bool,
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
        for (listener, entry) in self.sockets.listeners {
            socket::keep_alive(&listener, probed_after(worker.limits.probe))?;
            let listener = TcpListener::from_std(listener)?;
            let (worker, phase, closed) =
                (Rc::clone(&worker), self.phase.clone(), self.closed.clone());
            tokio::task::spawn_local(async move {
                let entry = Rc::new(entry);
                let accepting = || accept(&worker, &listener, &entry, phase.clone());
                enduring(&worker, "accept", accepting).await;
                drop((listener, closed));
            });
        }
        #[cfg(feature = "http3")]
        let doors = http3::serve(&worker, self.sockets.doors, &self.phase, &self.closed)?;
        let mut binds = Binds::new(
            &worker,
            &self.phase,
            #[cfg(feature = "http3")]
            &doors,
        );
        let (mut orders, closed) = (self.orders, self.closed);
        tokio::task::spawn_local(async move {
            loop {
                let followed = caught(pin!(binds.follow(&mut orders, &closed))).await;
                match followed {
                    Ok(()) => break,
                    Err(Panicked) => panics::tell(&binds.worker, "open and close listeners").await,
                }
            }
            drop(closed);
        });
        let pool = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            let maintain = || pool.pool.maintain(pool.snapshots.clone(), || pool.shed());
            enduring(&pool, "maintain connections", maintain).await
        });
        let parking = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            enduring(&parking, "park connections", || park(Rc::clone(&parking))).await
        });
        if self.checks_health {
            let checking = Rc::clone(&worker);
            tokio::task::spawn_local(async move {
                let follow = || health::follow(Rc::clone(&checking));
                enduring(&checking, "check health", follow).await
            });
        }
        let mut phase = self.phase;
        reached(&mut phase, Phase::Finish).await;
        worker.drain();
        let ended = async {
            all_closed(&worker).await;
            #[cfg(feature = "http3")]
            doors.told().await;
        };
        tokio::select! {
            () = ended => {}
            () = reached(&mut phase, Phase::Abort) => {
                tracing::warn!(connections = worker.open_connections(), "connections cut by the end of the drain");
            }
        }
        Ok(())
    }
}

/// Parks connections that have been silent for a while, as long as the thread runs.
async fn park(worker: Rc<Worker>) {
    tokio::select! {
        watched = parked::watch(&worker) => {
            let Err(error) = watched;
            worker.parked.give_up();
            tracing::error!(%error, "idle connections are not parked any more");
        }
        () = worker.slots.look(worker.limits.rest) => {}
    }
}

pub(crate) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error means that the tasks are gone, and the process with them.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

async fn all_closed(worker: &Worker) {
    while worker.open_connections() > 0 {
        worker.connection_closed().await;
    }
}
