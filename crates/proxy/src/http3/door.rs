//! Where clients of HTTP/3 come in: a socket for datagrams beside that of a TLS listener.
//!
//! Handshakes are bounded as those over TCP are, and together with them. Anybody can claim any
//! address in a first datagram, so once half of the places are taken, clients must show first that
//! they are where they say; once all are taken, they have to ask again.

use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;

use ::http3::{Choose, Chosen, Endpoint, Incoming, Limits, Place, Refusal};
use lifecycle::Snapshots;
use routing::Snapshot;
use rustls::AlertDescription;

use super::{alternative, connection};
use crate::entry::{Entry, Scope};
use crate::open::ConnectionGuard;
use crate::tls::{Issuer, server_config};
use crate::worker::Worker;

/// One socket of one thread.
#[derive(Clone)]
pub(crate) struct Door {
    worker: Rc<Worker>,
    endpoint: Endpoint,
    entry: Rc<Entry>,
    /// Places for handshakes that there are.
    handshakes: usize,
}

impl Door {
    pub(crate) fn open(
        worker: &Rc<Worker>,
        (socket, place): (UdpSocket, Place),
        entry: Rc<Entry>,
    ) -> io::Result<Self> {
        let limits = &worker.limits;
        let handshakes = worker.handshakes.available_permits();
        let most = Limits {
            head_bytes: limits.head_bytes,
            streams: limits.streams,
            waiting: handshakes,
            idle_frames: limits.idle_frames,
        };
        let names = Names {
            snapshots: worker.snapshots.clone(),
            scope: entry.scope().clone(),
            issuer: worker.issuer.clone(),
        };
        Ok(Self {
            worker: Rc::clone(worker),
            endpoint: Endpoint::new(socket, most, place, Arc::new(names))?,
            entry,
            handshakes,
        })
    }

    /// Lets clients in.
    pub(crate) async fn serve(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            self.greet(incoming);
        }
    }

    fn greet(&self, incoming: Incoming) {
        let worker = &self.worker;
        let free = worker.handshakes.available_permits();
        if worker.is_full() {
            worker.counters.connections_refused.add(1);
            incoming.refuse();
        } else if free == 0 {
            incoming.ignore();
        } else if free * 2 <= self.handshakes && !incoming.is_validated() {
            incoming.retry();
        } else {
            let guard = ConnectionGuard::new(worker);
            let entry = Rc::clone(&self.entry);
            tokio::task::spawn_local(connection::serve(guard, incoming, entry));
        }
    }

    /// Tells whoever comes that there is no place; they will try TCP.
    pub(crate) async fn refuse(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            incoming.refuse();
        }
    }

    /// Waits until clients know that their connections are closed.
    pub(crate) async fn idle(&self) {
        self.endpoint.idle().await;
    }
}

/// The names that are served at one place.
struct Names {
    snapshots: Snapshots<Snapshot>,
    scope: Scope,
    issuer: Option<Arc<dyn Issuer>>,
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
        let config = server_config(tls, self.issuer.as_ref()).map_err(|reason| Refusal {
            alert: AlertDescription::InternalError,
            reason,
        })?;
        Ok(Chosen {
            config,
            context: Arc::clone(tls) as _,
        })
    }
}
