//! Free ports of the machine for pods that share its network.
//!
//! Ports are handed out round-robin: one that was just given back comes last, so a client with a
//! stale address does not reach the next pod. Between handing a port out and the program's
//! listening on it, other processes of ours could take it for free: a claim keeps them off.

use std::collections::HashMap;
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
    taken: HashMap<u16, Claim>,
}

impl Ports {
    /// All ports of the range are free as far as we know.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let state = State {
            next: *range.start(),
            taken: HashMap::new(),
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
            if state.taken.contains_key(&port) || !is_free(port) {
                continue;
            }
            if let Some(claim) = claim(port) {
                state.taken.insert(port, claim);
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

/// Keeps other processes of ours off a port; the kernel drops it with this process.
#[cfg(target_os = "linux")]
type Claim = std::os::unix::net::UnixListener;
#[cfg(not(target_os = "linux"))]
type Claim = ();

/// An abstract socket's name is unique on the machine's network, whoever owns it.
#[cfg(target_os = "linux")]
fn claim(port: u16) -> Option<Claim> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = SocketAddr::from_abstract_name(format!("suimon-port-{port}")).ok()?;
    UnixListener::bind_addr(&name).ok()
}

#[cfg(not(target_os = "linux"))]
fn claim(_port: u16) -> Option<Claim> {
    Some(())
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
        assert!(
            Ports::new(port..=port).take().is_err() || cfg!(not(target_os = "linux")),
            "claimed"
        );
        ports.give_back([port].into_iter());
        assert_eq!(ports.take().ok(), Some(port));
    }
}
