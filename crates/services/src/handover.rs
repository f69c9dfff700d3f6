//! Places that another part of the process answers for a while.
//!
//! The listening socket itself changes hands: whoever has it accepts what the kernel has queued,
//! so no connection is refused or lost when rules for a Service come or go. Connections that were
//! accepted stay where they are.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::front;

/// Lends the sockets of cluster IPs. Clone freely; clones are one.
#[derive(Clone, Default)]
pub struct Handover(Arc<Mutex<HashMap<SocketAddr, Held>>>);

struct Held {
    listener: TcpListener,
    is_lent: watch::Sender<bool>,
    /// Whether the Service's connections are passed on here while it is not lent.
    is_open: bool,
}

/// Keeps a place open for this crate; dropping it lets go.
pub(crate) struct Kept {
    handover: Handover,
    address: SocketAddr,
}

impl Handover {
    /// Takes over the connections of an address, whether somebody listens there already or not.
    ///
    /// # Errors
    /// Whatever the system says if nobody did.
    pub fn lend(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let mut held = self.held();
        let held = held_at(&mut held, address)?;
        let lent = held.listener.try_clone()?;
        held.is_lent.send_replace(true);
        Ok(lent)
    }

    /// Ends that.
    pub fn take_back(&self, address: SocketAddr) {
        let mut all = self.held();
        if let Some(held) = all.get(&address) {
            held.is_lent.send_replace(false);
            if !held.is_open {
                all.remove(&address);
            }
        }
    }

    /// Listens for this crate. Nothing is to be accepted while the other half says so.
    pub(crate) fn keep(
        &self,
        address: SocketAddr,
    ) -> io::Result<(Kept, TcpListener, watch::Receiver<bool>)> {
        let mut held = self.held();
        let held = held_at(&mut held, address)?;
        let listener = held.listener.try_clone()?;
        held.is_open = true;
        let kept = Kept {
            handover: self.clone(),
            address,
        };
        Ok((kept, listener, held.is_lent.subscribe()))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<SocketAddr, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held_at(all: &mut HashMap<SocketAddr, Held>, address: SocketAddr) -> io::Result<&mut Held> {
    use std::collections::hash_map::Entry;
    match all.entry(address) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => Ok(entry.insert(Held {
            listener: front::listen(address)?,
            is_lent: watch::Sender::new(false),
            is_open: false,
        })),
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut all = self.handover.held();
        if let Some(held) = all.get_mut(&self.address) {
            held.is_open = false;
            if !*held.is_lent.borrow() {
                all.remove(&self.address);
            }
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({})", self.address)
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handover")
    }
}
