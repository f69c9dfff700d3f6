//! HTTP/3 beside binds: which of them should have it, and which cannot.
//!
//! A bind is there over TCP whatever becomes of this. A port that somebody else has is tried again
//! until it can be had; one that the gateway itself shall pass datagrams on at goes to them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::Shutdown;
use routing::BindId;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::addresses::Addresses;
use crate::Error;
use crate::binder::Order;

/// When to try again what could not be had.
const RETRY: Duration = Duration::from_secs(2);
/// How long a port is left to who asked for it, and who may have to ask again.
const LEFT: Duration = Duration::from_secs(30);

/// See the module. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    threads: Vec<mpsc::UnboundedSender<Order>>,
    addresses: Addresses,
    state: Arc<Mutex<State>>,
    /// Something could not be had.
    missing: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    wanted: HashMap<BindId, Wanted>,
    /// Ports that others go first at, and until when.
    left: HashMap<SocketAddr, Instant>,
}

#[derive(Debug)]
struct Wanted {
    address: SocketAddr,
    is_served: bool,
}

impl Beside {
    pub(crate) fn new(threads: Vec<mpsc::UnboundedSender<Order>>, addresses: Addresses) -> Self {
        Self {
            threads,
            addresses,
            state: Arc::default(),
            missing: Arc::default(),
        }
    }

    /// Serves a bind over HTTP/3, which the threads have been told of, as soon as that is possible.
    pub(crate) fn open(&self, id: &BindId, address: SocketAddr) {
        let mut state = self.lock();
        let opened = self.attempt(&state, id, address);
        let wanted = Wanted {
            address,
            is_served: opened.is_ok(),
        };
        state.wanted.insert(id.clone(), wanted);
        if let Err(error) = opened {
            tracing::warn!(bind = %id, %address, %error, "cannot listen over UDP, no HTTP/3 here until that is possible");
            self.missing.notify_one();
        }
    }

    /// To be called before threads are told that the bind is closed.
    pub(crate) fn close(&self, id: &BindId) {
        self.lock().wanted.remove(id);
    }

    /// Leaves a port to somebody else; it is free soon.
    pub(crate) fn leave(&self, address: SocketAddr) {
        let mut state = self.lock();
        let now = Instant::now();
        state.left.retain(|_, until| *until > now);
        state.left.insert(address, now + LEFT);
        let here = state
            .wanted
            .iter_mut()
            .filter(|(_, it)| it.address == address);
        for (id, wanted) in here.filter(|(_, it)| it.is_served) {
            tracing::warn!(bind = %id, %address, "no HTTP/3 here any more: the port is wanted for other datagrams");
            wanted.is_served = false;
        }
        for thread in &self.threads {
            let _ = thread.send(Order::Leave(address));
        }
        self.missing.notify_one();
    }

    /// Binds without HTTP/3 that should have it.
    pub(crate) fn missing(&self) -> u64 {
        let state = self.lock();
        state.wanted.values().filter(|it| !it.is_served).count() as u64
    }

    /// Tries again what could not be had, until the drain begins.
    pub(crate) async fn retry(self, mut stop: Shutdown) -> Result<(), Error> {
        let trying = async {
            loop {
                self.missing.notified().await;
                while self.missing() > 0 {
                    tokio::time::sleep(RETRY).await;
                    self.try_again();
                }
            }
        };
        tokio::select! {
            () = stop.requested() => Ok(()),
            () = trying => Ok(()),
        }
    }

    fn try_again(&self) {
        let mut state = self.lock();
        let missing = state.wanted.iter().filter(|(_, it)| !it.is_served);
        let missing: Vec<_> = missing.map(|(id, it)| (id.clone(), it.address)).collect();
        for (id, address) in missing {
            if self.attempt(&state, &id, address).is_err() {
                continue;
            }
            tracing::info!(bind = %id, %address, "HTTP/3 is served now");
            if let Some(wanted) = state.wanted.get_mut(&id) {
                wanted.is_served = true;
            }
        }
    }

    fn attempt(&self, state: &State, id: &BindId, address: SocketAddr) -> io::Result<()> {
        let left = state.left.get(&address);
        if left.is_some_and(|until| *until > Instant::now()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let sockets = self.addresses.open(address, self.threads.len())?;
        // There may be more threads than sockets; all of them say that there is HTTP/3.
        let doors = sockets
            .into_iter()
            .map(Some)
            .chain(std::iter::repeat_with(|| None));
        for (thread, door) in self.threads.iter().zip(doors) {
            let _ = thread.send(Order::OpenBeside(id.clone(), door));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
