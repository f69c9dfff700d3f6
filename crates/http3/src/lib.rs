//! HTTP/3 towards clients (RFC 9114), on QUIC of the `quinn` crate.
//!
//! What a connection consists of is here: its handshake, its control streams, and per request a
//! [`Receiver`] and a [`Sender`] of frames. What requests mean is not: header blocks are bytes to
//! this crate. We announce a dynamic table without room, so every block stands by itself
//! (RFC 9204 §3.2.3), and streams never wait for each other.

mod code;
mod connection;
mod control;
mod endpoint;
mod frame;
mod identifier;
mod receive;
mod send;
mod tls;

pub use code::Code;
pub use connection::{Connection, StreamId};
pub use endpoint::{Endpoint, Incoming, Limits};
pub use identifier::{Place, STEERED};
pub use receive::{Fault, Part, Receiver};
pub use send::Sender;
pub use tls::{Agreed, Choose, Chosen, Refusal};
