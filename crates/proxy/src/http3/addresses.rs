//! The sockets for datagrams of every address that HTTP/3 is served at.
//!
//! The kernel chooses a thread by a socket's number in its group, and closing one renumbers the
//! others. So all sockets of an address stay open until no thread needs any of them, and an address
//! that is wanted again before that has the sockets that it had: connections that still finish
//! are on them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ::http3::Place;

use crate::socket;

/// A socket of one thread, and which of its address it is.
#[derive(Debug)]
pub(crate) struct DoorSocket {
    pub(super) socket: UdpSocket,
    pub(super) place: Place,
    /// To be dropped once the socket is closed.
    pub(super) lease: Arc<Lease>,
}

/// See the module. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(Arc<Mutex<HashMap<SocketAddr, Held>>>);

#[derive(Debug)]
struct Held {
    sockets: Vec<UdpSocket>,
    lease: Weak<Lease>,
}

/// Keeps the sockets of an address.
#[derive(Debug)]
pub(crate) struct Lease {
    address: SocketAddr,
    addresses: Addresses,
}

impl Addresses {
    /// A socket for each thread, or for as many as can share the address.
    ///
    /// # Errors
    /// Whatever the system says, for example that the port is taken.
    pub(crate) fn open(&self, address: SocketAddr, threads: usize) -> io::Result<Vec<DoorSocket>> {
        let (sockets, lease) = self.lease(address, threads)?;
        let sockets = sockets.into_iter().collect::<io::Result<Vec<_>>>()?;
        let of = sockets.len() as u8;
        let door = |(at, socket)| DoorSocket {
            socket,
            place: Place { at, of },
            lease: Arc::clone(&lease),
        };
        Ok((0..of).zip(sockets).map(door).collect())
    }

    /// Nothing that holds a lease may be dropped in here: that needs the same lock.
    fn lease(&self, address: SocketAddr, threads: usize) -> io::Result<Leased> {
        let mut all = self.lock();
        let held = match all.entry(address) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(free) => free.insert(Held {
                sockets: bind(address, threads)?,
                lease: Weak::new(),
            }),
        };
        let lease = held.lease.upgrade().unwrap_or_else(|| {
            let lease = Arc::new(Lease {
                address,
                addresses: self.clone(),
            });
            held.lease = Arc::downgrade(&lease);
            lease
        });
        let sockets = held.sockets.iter().map(UdpSocket::try_clone).collect();
        Ok((sockets, lease))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Leased = (Vec<io::Result<UdpSocket>>, Arc<Lease>);

impl Drop for Lease {
    fn drop(&mut self) {
        let mut all = self.addresses.lock();
        let held = all.get(&self.address);
        // Somebody may have come for the sockets just before.
        if held.is_some_and(|held| held.lease.strong_count() == 0) {
            all.remove(&self.address);
        }
    }
}

fn bind(address: SocketAddr, threads: usize) -> io::Result<Vec<UdpSocket>> {
    // Where the kernel cannot choose by connections, one thread has all of them.
    let most = if cfg!(target_os = "linux") { 255 } else { 1 };
    let sockets = socket::datagrams(address, threads.min(most))?;
    #[cfg(target_os = "linux")]
    if sockets.len() > 1 {
        socket::steer(&sockets, ::http3::STEERED)?;
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn here(number: u8) -> SocketAddr {
        ([127, 0, 3, number], 4433).into()
    }

    #[test]
    fn an_address_is_free_when_nobody_needs_it_any_more() {
        let (addresses, here) = (Addresses::default(), here(1));
        let mut first = addresses.open(here, 2).expect("a free port");
        UdpSocket::bind(here).expect_err("taken");
        // One thread is done, and the address comes again.
        drop(first.remove(0));
        let again = addresses.open(here, 2).expect("its sockets");
        drop(first);
        UdpSocket::bind(here).expect_err("still taken");
        drop(again);
        UdpSocket::bind(here).expect("free");
        addresses.open(here, 2).expect("a free port");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_that_are_done_do_not_move_the_connections_of_others() {
        let (addresses, here) = (Addresses::default(), here(2));
        let mut doors = addresses.open(here, 4).expect("a free port");
        drop(doors.remove(1));
        for door in &doors {
            let DoorSocket { socket, place, .. } = door;
            socket.set_nonblocking(false).expect("an open socket");
            let limit = Some(Duration::from_secs(20));
            socket.set_read_timeout(limit).expect("an open socket");
            // Whatever the address of the client.
            for _ in 0..8 {
                let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
                // A short header, and the first byte of an identifier.
                let datagram = [0x40, 4 + place.at];
                client.send_to(&datagram, here).expect("sent");
                let mut received = [0; 2];
                socket.recv(&mut received).expect("it comes here");
                assert_eq!(received, datagram);
            }
        }
    }
}
