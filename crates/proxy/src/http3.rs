//! HTTP/3 towards clients, where the build has it (feature `http3`).
//!
//! The crate of the same name has connections and frames; this module has their meaning: heads as
//! the spans that every protocol's are, and each request as a task that runs [`crate::request`].
//! A thread serves whole connections, as with TCP: [`crate::socket`] has the kernel bring the
//! datagrams of a connection to the thread that it began on, whatever its client's address.

mod addresses;
pub(crate) mod alternative;
mod beside;
mod connection;
mod door;
mod doors;
mod downstream;
mod encode;
mod qpack;
mod stream;
mod tables;

use std::rc::Rc;

use tokio::sync::{mpsc, watch};

pub(crate) use addresses::{Addresses, DoorSocket};
pub(crate) use beside::Beside;
pub(crate) use doors::Doors;

use crate::entry::Entry;
use crate::listener::{Phase, Sockets, reached};
use crate::metrics::Listeners;
use crate::worker::Worker;

/// Gives each thread its socket beside a listener; if there are any, the listener says so.
pub(crate) fn hand_out(
    sockets: Vec<DoorSocket>,
    entry: &Entry,
    threads: &mut [Sockets],
    listeners: &Listeners,
) {
    entry.serves_http3.set(!sockets.is_empty());
    for (socket, thread) in sockets.into_iter().zip(threads) {
        thread.doors.push((socket, entry.counted(listeners)));
    }
}

/// Lets clients in, until the drain begins.
pub(crate) fn serve(
    worker: &Rc<Worker>,
    sockets: Vec<(DoorSocket, Entry)>,
    phase: &watch::Receiver<Phase>,
    closed: &mpsc::UnboundedSender<()>,
) -> std::io::Result<Doors> {
    let doors = Doors::new(worker);
    for (socket, entry) in sockets {
        doors.open(socket, &Rc::new(entry))?;
    }
    let (all, mut phase, closed) = (doors.clone(), phase.clone(), closed.clone());
    tokio::task::spawn_local(async move {
        reached(&mut phase, Phase::Close).await;
        all.close_all();
        drop(closed);
    });
    Ok(doors)
}
