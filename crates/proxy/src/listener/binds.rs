//! Sockets of binds that come and go while a thread of the gateway runs.

use std::collections::HashMap;
#[cfg(feature = "http3")]
use std::net::SocketAddr;
use std::net::{TcpListener as StdListener, UdpSocket};
use std::rc::Rc;

use routing::{BindId, BindKey};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Phase, reached};
use crate::accept::{accept, rest};
use crate::binder::Order;
use crate::entry::Entry;
#[cfg(feature = "http3")]
use crate::http3;
use crate::panics::enduring;
use crate::socket::probed_after;
use crate::worker::Worker;
use crate::{datagram, socket};

/// The sockets of one thread that come and go.
pub(super) struct Binds {
    pub(super) worker: Rc<Worker>,
    phase: watch::Receiver<Phase>,
    open: HashMap<BindId, Open>,
    #[cfg(feature = "http3")]
    doors: http3::Doors,
}

/// A bind of one thread.
struct Open {
    /// Dropping it ends the accepting; what is sent is dropped with the socket.
    stop: oneshot::Sender<mpsc::Sender<()>>,
    /// Where connections come in, unless there are none.
    #[cfg(feature = "http3")]
    entry: Option<(SocketAddr, Rc<Entry>)>,
}

impl Binds {
    pub(super) fn new(
        worker: &Rc<Worker>,
        phase: &watch::Receiver<Phase>,
        #[cfg(feature = "http3")] doors: &http3::Doors,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            phase: phase.clone(),
            open: HashMap::new(),
            #[cfg(feature = "http3")]
            doors: doors.clone(),
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
                #[cfg(feature = "http3")]
                Some(Order::OpenBeside(id, door)) => self.open_beside(&id, door),
                #[cfg(feature = "http3")]
                Some(Order::Leave(address)) => self.leave(address),
                Some(Order::Close(id, done)) => {
                    if let Some(open) = self.open.remove(&id) {
                        #[cfg(feature = "http3")]
                        self.close_beside(&open);
                        let _ = open.stop.send(done);
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
        let entry = Rc::new(entry);
        let open = Open {
            stop,
            #[cfg(feature = "http3")]
            entry: (listener.local_addr().ok()).map(|own| (own, Rc::clone(&entry))),
        };
        self.open.insert(id, open);
        let (worker, phase, closed) = (Rc::clone(&self.worker), self.phase.clone(), closed.clone());
        tokio::task::spawn_local(async move {
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
        let open = Open {
            stop,
            #[cfg(feature = "http3")]
            entry: None,
        };
        self.open.insert(id, open);
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

#[cfg(feature = "http3")]
impl Binds {
    /// Serves a bind over HTTP/3, too.
    fn open_beside(&self, id: &BindId, door: Option<http3::DoorSocket>) {
        let entry = self.open.get(id).and_then(|open| open.entry.as_ref());
        let Some((_, entry)) = entry else {
            return;
        };
        match door.map(|door| self.doors.open(door, entry)) {
            None | Some(Ok(())) => entry.serves_http3.set(true),
            Some(Err(error)) => {
                tracing::error!(bind = %id, %error, "cannot serve HTTP/3 at a bind on this thread");
            }
        }
    }

    fn close_beside(&self, open: &Open) {
        if let Some((_, entry)) = &open.entry {
            entry.serves_http3.set(false);
            self.doors.close(entry);
        }
    }

    /// Leaves the address to others.
    fn leave(&self, address: SocketAddr) {
        let entries = self.open.values().filter_map(|open| open.entry.as_ref());
        for (_, entry) in entries.filter(|(own, _)| *own == address) {
            entry.serves_http3.set(false);
        }
        self.doors.leave(address);
    }
}
