//! HTTP/3 towards clients, where the build has it (feature `http3`).
//!
//! The crate of the same name has connections and frames; this module has their meaning: heads as
//! the spans that every protocol's are, and each request as a task that runs [`crate::request`].
//! A thread serves whole connections, as with TCP: [`crate::socket`] has the kernel bring the
//! datagrams of a connection to the thread that it began on, whatever its client's address.

pub(crate) mod alternative;
mod connection;
pub(crate) mod door;
mod downstream;
mod encode;
mod qpack;
mod stream;
mod tables;

use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use ::http3::Place;
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::entry::Entry;
use crate::listener::{Phase, Sockets, reached};
use crate::socket;
use crate::worker::Worker;
use door::Door;

/// How long clients may take to be told of the end of their connections. They would notice it by
/// themselves, much later.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A socket for datagrams of one thread, and which of them it is.
pub(crate) struct DoorSocket {
    socket: UdpSocket,
    place: Place,
    entry: Entry,
}

/// The sockets beside a listener, one of each thread.
#[derive(Default)]
pub(crate) struct Doors(Vec<UdpSocket>);

impl Doors {
    pub(crate) fn open(address: SocketAddr, threads: usize) -> Result<Self, Error> {
        let failed = |source| Error::Datagrams { address, source };
        // Where the kernel cannot choose by connections, one thread has all of them.
        let most = if cfg!(target_os = "linux") { 255 } else { 1 };
        let sockets = socket::datagrams(address, threads.min(most)).map_err(failed)?;
        #[cfg(target_os = "linux")]
        if sockets.len() > 1 {
            socket::steer(&sockets, ::http3::STEERED).map_err(failed)?;
        }
        Ok(Self(sockets))
    }

    /// Gives each thread its socket; if there are any, the listener says so.
    pub(crate) fn hand_out(self, entry: &mut Entry, threads: &mut [Sockets]) {
        if self.0.is_empty() {
            return;
        }
        let of = self.0.len() as u8;
        entry.alternative = Some(alternative::value(entry.port));
        for (at, (socket, thread)) in (0..of).zip(self.0.into_iter().zip(threads)) {
            thread.doors.push(DoorSocket {
                socket,
                place: Place { at, of },
                entry: entry.clone(),
            });
        }
    }
}

/// Lets clients in, until the drain begins.
pub(crate) fn serve(
    worker: &Rc<Worker>,
    sockets: Vec<DoorSocket>,
    phase: &watch::Receiver<Phase>,
    closed: &mpsc::UnboundedSender<()>,
) -> std::io::Result<Vec<Door>> {
    let opened = sockets.into_iter().map(|door| {
        let door = Door::open(worker, (door.socket, door.place), Rc::new(door.entry))?;
        let (own, mut phase, closed) = (door.clone(), phase.clone(), closed.clone());
        tokio::task::spawn_local(async move {
            tokio::select! {
                () = own.serve() => {}
                () = reached(&mut phase, Phase::Close) => {}
            }
            drop(closed);
            own.refuse().await;
        });
        Ok(door)
    });
    opened.collect()
}

/// Waits until all clients were told that their connections have ended.
pub(crate) async fn told(doors: &[Door]) {
    let told = async {
        for door in doors {
            door.idle().await;
        }
    };
    // Those who were not told in time find out.
    let _ = tokio::time::timeout(LAST_WORDS, told).await;
}
