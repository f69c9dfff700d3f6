//! Where clients of HTTP/3 come in: a socket for datagrams beside that of a TLS listener.
//!
//! Handshakes are bounded as those over TCP are, and together with them. Anybody can claim any
//! address in a first datagram, so once half of the places are taken, clients must show first that
//! they are where they say; once all are taken, they have to ask again.

use std::cell::RefCell;
use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;

use ::http3::{Choose, Chosen, Code, Endpoint, Incoming, Limits, Place, Refusal};
use lifecycle::Snapshots;
use routing::Snapshot;
use rustls::AlertDescription;
use tokio::sync::Notify;

use super::{alternative, connection};
use crate::entry::{Entry, Scope};
use crate::open::ConnectionGuard;
use crate::overload;
use crate::tls::{Issuer, datagram_config};
use crate::worker::Worker;

/// One socket of one thread.
pub(super) struct Door {
    worker: Rc<Worker>,
    endpoint: Endpoint,
    /// Where clients come in; `None` lets nobody in.
    entry: RefCell<Option<Rc<Entry>>>,
    /// Nobody is let in any more.
    closed: Notify,
    /// Places for handshakes that there are.
    handshakes: usize,
}

impl Door {
    pub(super) fn open(
        worker: &Rc<Worker>,
        (socket, place): (UdpSocket, Place),
        entry: &Rc<Entry>,
    ) -> io::Result<Self> {
        let limits = &worker.limits;
        let handshakes = worker.handshakes.available_permits();
        let most = Limits {
            head_bytes: limits.head_bytes,
            streams: limits.streams,
            waiting: handshakes,
            idle_frames: limits.idle_frames,
        };
        let names = Names::of(worker, entry);
        Ok(Self {
            worker: Rc::clone(worker),
            endpoint: Endpoint::new(socket, most, place, names)?,
            entry: RefCell::new(Some(Rc::clone(entry))),
            closed: Notify::new(),
            handshakes,
        })
    }

    /// Lets clients in by another entry; those who are in stay what they are.
    ///
    /// # Errors
    /// The provider of cryptography refuses something.
    pub(super) fn open_again(&self, entry: &Rc<Entry>) -> io::Result<()> {
        self.endpoint.choose_by(Names::of(&self.worker, entry))?;
        self.entry.replace(Some(Rc::clone(entry)));
        Ok(())
    }

    /// Whether clients come in by this entry.
    pub(super) fn is_of(&self, entry: &Rc<Entry>) -> bool {
        let own = self.entry.borrow();
        own.as_ref().is_some_and(|own| Rc::ptr_eq(own, entry))
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        if let Some(entry) = self.entry.take() {
            entry.serves_http3.set(false);
        }
        // One permit is kept if nobody waits yet.
        self.closed.notify_one();
    }

    /// Ends all connections, too.
    pub(super) fn leave(&self) {
        self.close();
        self.endpoint.close(Code::NO_ERROR);
    }

    /// Lets clients in, until the door is closed and all who came in are gone.
    pub(super) async fn serve(&self) {
        let greeting = async {
            while let Some(incoming) = self.endpoint.accept().await {
                self.greet(incoming);
            }
        };
        let over = async {
            loop {
                while self.entry.borrow().is_some() {
                    self.closed.notified().await;
                }
                self.idle().await;
                // It may have been opened again.
                if self.entry.borrow().is_none() {
                    return;
                }
            }
        };
        tokio::select! {
            // Nobody comes any more; who is here is to be told.
            () = greeting => self.idle().await,
            () = over => {}
        }
    }

    fn greet(&self, incoming: Incoming) {
        let worker = &self.worker;
        let Some(entry) = self.entry.borrow().clone() else {
            // They will try TCP.
            return incoming.refuse();
        };
        let free = worker.handshakes.available_permits();
        if let Some(shed) = overload::is_full(worker, &entry) {
            worker.counters.shed[shed as usize].add(1);
            incoming.refuse();
        } else if free == 0 {
            incoming.ignore();
        } else if free * 2 <= self.handshakes && !incoming.is_validated() {
            incoming.retry();
        } else {
            let guard = ConnectionGuard::new(worker);
            tokio::task::spawn_local(connection::serve(guard, incoming, entry));
        }
    }

    /// Waits until clients know that their connections are closed.
    pub(super) async fn idle(&self) {
        self.endpoint.idle().await;
    }
}

/// The names that are served at one place.
struct Names {
    snapshots: Snapshots<Snapshot>,
    scope: Scope,
    issuer: Option<Arc<dyn Issuer>>,
}

impl Names {
    fn of(worker: &Worker, entry: &Entry) -> Arc<Self> {
        Arc::new(Self {
            snapshots: worker.snapshots.clone(),
            scope: entry.scope().clone(),
            issuer: worker.issuer.clone(),
        })
    }
}

impl Choose for Names {
    fn choose(&self, name: Option<&str>) -> Result<Chosen, Refusal> {
        let snapshot = self.snapshots.current();
        let Some(tls) = self.scope.tls(&snapshot, name) else {
            return Err(Refusal {
                alert: AlertDescription::UnrecognisedName,
                reason: "no certificate for this host".to_owned(),
            });
        };
        // Passed on, refused, or not for this version of anything: TCP has the answer.
        if !alternative::is_offered(tls) {
            return Err(Refusal {
                alert: AlertDescription::NoApplicationProtocol,
                reason: "this host is not served over HTTP/3".to_owned(),
            });
        }
        let config = datagram_config(tls, self.issuer.as_ref()).map_err(|reason| Refusal {
            alert: AlertDescription::InternalError,
            reason,
        })?;
        Ok(Chosen {
            config,
            context: Arc::clone(tls) as _,
        })
    }
}
