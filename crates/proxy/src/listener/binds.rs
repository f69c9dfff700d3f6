//! Sockets of binds that come and go while a thread of the gateway runs.

use std::collections::HashMap;
use std::net::{TcpListener as StdListener, UdpSocket};
use std::rc::Rc;

use routing::{BindId, BindKey};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Phase, accept, reached, rest};
use crate::binder::Order;
use crate::entry::Entry;
use crate::panics::enduring;
use crate::socket::probed_after;
use crate::worker::Worker;
use crate::{datagram, socket};

/// The sockets of one thread that come and go.
pub(super) struct Binds {
    pub(super) worker: Rc<Worker>,
    phase: watch::Receiver<Phase>,
    /// Dropping the sender ends the accepting; what is sent is dropped with the socket.
    open: HashMap<BindId, oneshot::Sender<mpsc::Sender<()>>>,
}

impl Binds {
    pub(super) fn new(worker: &Rc<Worker>, phase: &watch::Receiver<Phase>) -> Self {
        Self {
            worker: Rc::clone(worker),
            phase: phase.clone(),
            open: HashMap::new(),
        }
    }

    /// Carries out orders until the drain begins.
    pub(super) async fn follow(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        closed: &mpsc::UnboundedSender<()>,
    ) {
        let mut phase = self.phase.clone();
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = reached(&mut phase, Phase::Close) => return,
            };
            match order {
                Some(Order::Open(id, listener, entry)) => self.serve(id, listener, entry, closed),
                Some(Order::OpenDatagrams(key, socket)) => self.pass_on(key, socket, closed),
                Some(Order::Close(id, done)) => {
                    if let Some(stop) = self.open.remove(&id) {
                        let _ = stop.send(done);
                    }
                }
                None => return reached(&mut phase, Phase::Close).await,
            }
        }
    }

    fn serve(
        &mut self,
        id: BindId,
        listener: StdListener,
        entry: Entry,
        closed: &mpsc::UnboundedSender<()>,
    ) {
        let probed = socket::keep_alive(&listener, probed_after(self.worker.limits.probe));
        let listener = match probed.and_then(|()| TcpListener::from_std(listener)) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(bind = %id, %error, "cannot accept at a bind on this thread");
                return;
            }
        };
        let (stop, mut stopped) = oneshot::channel();
        self.open.insert(id, stop);
        let (worker, phase, closed) = (Rc::clone(&self.worker), self.phase.clone(), closed.clone());
        tokio::task::spawn_local(async move {
            let entry = Rc::new(entry);
            let done = tokio::select! {
                done = &mut stopped => done.ok(),
                () = enduring(&worker, "accept", || {
                    accept(&worker, &listener, &entry, phase.clone())
                }) => None,
            };
            // Those who are connected already are served.
            rest(&worker, &listener, &entry).await;
            if done.is_some() {
                entry.close();
                worker.wake_idle();
            }
            drop((listener, closed, done));
        });
    }

    /// The same for datagrams.
    fn pass_on(&mut self, key: BindKey, socket: UdpSocket, closed: &mpsc::UnboundedSender<()>) {
        let id = key.id().clone();
        let door = match datagram::Door::new(&self.worker, key, socket) {
            Ok(door) => door,
            Err(error) => {
                tracing::error!(bind = %id, %error, "cannot receive at a bind on this thread");
                return;
            }
        };
        let (stop, stopped) = oneshot::channel();
        self.open.insert(id, stop);
        let (mut phase, closed) = (self.phase.clone(), closed.clone());
        tokio::task::spawn_local(async move {
            let stopped = async {
                match stopped.await {
                    Ok(done) => done,
                    // The drain has begun, and sessions have time until its end.
                    Err(_) => std::future::pending().await,
                }
            };
            let closing = async {
                reached(&mut phase, Phase::Close).await;
                door.close();
                drop(closed);
                // Sessions go on; the thread's end ends this.
                std::future::pending::<()>().await;
            };
            let done = tokio::select! {
                done = stopped => Some(done),
                () = door.serve() => None,
                () = closing => None,
            };
            door.end().await;
            drop(done);
        });
    }
}
