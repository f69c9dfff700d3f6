//! Which of several sockets of one address a connection belongs to.
//!
//! A client may change its own address, so the kernel must not choose by that. The identifiers
//! that we give to connections say it: their first byte, divided by the number of sockets, leaves
//! the number of the socket ([`STEERED`] tells where that byte is in a datagram).

use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::Rng as _;
use std::time::Duration;

/// Bytes of an identifier, the first one included.
const LENGTH: usize = 9;

/// Where in a datagram the first byte of the identifier is: behind a short header and, if the
/// highest bit of its first byte is set, behind a long one (RFC 8999 §5).
pub const STEERED: (u8, u8) = (1, 6);

/// One of the sockets of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub at: u8,
    /// At least one, and more than `at`.
    pub of: u8,
}

impl Place {
    /// Where there is only one socket.
    pub const ONLY: Self = Self { at: 0, of: 1 };
}

impl ConnectionIdGenerator for Place {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; LENGTH] = rand::rng().random();
        // Below 256: the last turn may not be complete.
        let turns = 256 / u16::from(self.of);
        let turn = u16::from(id[0]) % turns;
        id[0] = (turn * u16::from(self.of) + u16::from(self.at)) as u8;
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), quinn_proto::InvalidCid> {
        let is_ours = id.first().is_some_and(|first| first % self.of == self.at);
        is_ours.then_some(()).ok_or(quinn_proto::InvalidCid)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_says_whose_it_is() {
        for of in [1, 2, 3, 64, 255] {
            for at in [0, of / 2, of - 1] {
                let mut place = Place { at, of };
                for _ in 0..200 {
                    let id = place.generate_cid();
                    assert_eq!(id[0] % of, at);
                    assert_eq!(id.len(), LENGTH);
                    assert!(place.validate(&id).is_ok());
                }
            }
        }
        let other = Place { at: 1, of: 2 }.generate_cid();
        assert!(Place { at: 0, of: 2 }.validate(&other).is_err());
    }
}
