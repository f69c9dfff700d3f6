//! Free ports of the machine for pods that share its network.
//!
//! Ports are handed out round-robin: one that was just given back comes last, so a client with a
//! stale address does not reach the next pod.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

/// Every port of the range is taken.
#[derive(Debug, thiserror::Error)]
#[error("no free port is left from {} to {}: stop other programs or pods, or set a larger range", range.start(), range.end())]
pub struct NoPort {
    range: RangeInclusive<u16>,
}

/// A range of ports. Clone freely; clones share it.
#[derive(Clone)]
pub struct Ports {
    range: RangeInclusive<u16>,
    state: Arc<Mutex<State>>,
}

struct State {
    next: u16,
    taken: HashSet<u16>,
}

impl Ports {
    /// All ports of the range are free as far as we know.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let state = State {
            next: *range.start(),
            taken: HashSet::new(),
        };
        Self {
            range,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A port that nobody listens on, until it is given back.
    pub fn take(&self) -> Result<u16, NoPort> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in self.range.clone() {
            let port = state.next;
            state.next = if port >= *self.range.end() {
                *self.range.start()
            } else {
                port + 1
            };
            if !state.taken.contains(&port) && is_free(port) {
                state.taken.insert(port);
                return Ok(port);
            }
        }
        Err(NoPort {
            range: self.range.clone(),
        })
    }

    /// The ports may be used again.
    pub fn give_back(&self, ports: impl Iterator<Item = u16>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for port in ports {
            state.taken.remove(&port);
        }
    }
}

/// A program may listen on every address, so none may be in use.
fn is_free(port: u16) -> bool {
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let v6 = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(_) => true,
        // A machine without IPv6 has nobody there either.
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    };
    v4 && v6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_skipped_and_a_returned_one_comes_last() {
        let used = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let port = used.local_addr().expect("an address").port();
        assert!(Ports::new(port..=port).take().is_err());
        drop(used);
        let ports = Ports::new(port..=port);
        assert_eq!(ports.take().ok(), Some(port));
        assert!(ports.take().is_err());
        ports.give_back([port].into_iter());
        assert_eq!(ports.take().ok(), Some(port));
    }
}
