//! The doors of one thread: of the gateway's own listeners, and of binds, which come and go.
//!
//! Who is in when a door closes is served to the end. Until then its socket stays open, and a bind
//! that comes to the same address gets the door as it is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::addresses::DoorSocket;
use super::door::Door;
use crate::entry::Entry;
use crate::panics::enduring;
use crate::worker::Worker;

/// How long clients may take to be told of the end of their connections. They would notice it by
/// themselves, much later.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often other tasks have a turn before a socket that nobody uses is closed.
const TURNS: usize = 4;

/// See the module. Clones are one.
#[derive(Clone)]
pub(crate) struct Doors {
    worker: Rc<Worker>,
    all: Rc<RefCell<HashMap<SocketAddr, Rc<Door>>>>,
}

impl Doors {
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        Self {
            worker: Rc::clone(worker),
            all: Rc::default(),
        }
    }

    /// Lets clients in there.
    ///
    /// # Errors
    /// The system refuses something.
    pub(crate) fn open(&self, door: DoorSocket, entry: &Rc<Entry>) -> io::Result<()> {
        let DoorSocket {
            socket,
            place,
            lease,
        } = door;
        let address = socket.local_addr()?;
        if let Some(door) = self.all.borrow().get(&address) {
            return door.open_again(entry);
        }
        let door = Rc::new(Door::open(&self.worker, (socket, place), entry)?);
        self.all.borrow_mut().insert(address, Rc::clone(&door));
        let (all, worker) = (Rc::clone(&self.all), Rc::clone(&self.worker));
        tokio::task::spawn_local(async move {
            enduring(&worker, "let HTTP/3 clients in", || door.serve()).await;
            let is_this = all
                .borrow()
                .get(&address)
                .is_some_and(|it| Rc::ptr_eq(it, &door));
            if is_this {
                all.borrow_mut().remove(&address);
            }
            drop(door);
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            drop(lease);
        });
        Ok(())
    }

    /// Lets nobody in any more who would come in by this entry.
    pub(crate) fn close(&self, entry: &Rc<Entry>) {
        for door in self.all.borrow().values().filter(|door| door.is_of(entry)) {
            door.close();
        }
    }

    /// Lets nobody in any more anywhere.
    pub(crate) fn close_all(&self) {
        for door in self.all.borrow().values() {
            door.close();
        }
    }

    /// Ends all connections there, because somebody else needs the address.
    pub(crate) fn leave(&self, address: SocketAddr) {
        let door = self.all.borrow_mut().remove(&address);
        if let Some(door) = door {
            door.leave();
        }
    }

    /// Waits until all clients were told that their connections have ended.
    pub(crate) async fn told(&self) {
        let doors: Vec<_> = self.all.borrow().values().cloned().collect();
        let told = async {
            for door in doors {
                door.idle().await;
            }
        };
        // Those who were not told in time find out.
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
    }
}
