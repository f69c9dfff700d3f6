//! HTTP/2 on both sides, on frames of our own.
//!
//! A client's connection is recognized by its preface on the same port as HTTP/1. Each stream has
//! a task that runs [`crate::request`], as an HTTP/1 connection does for each request;
//! one more task per connection, the [`driver`], moves the frames of all of them. [`core`] is what
//! they share. Upgrading from HTTP/1.1 (`h2c`) is not offered: RFC 9113 dropped it.

pub(crate) mod client;
mod core;
pub(crate) mod downstream;
mod driver;
pub(crate) mod encode;
pub(crate) mod flood;
mod flow;
pub(crate) mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod hand;
pub(crate) mod head;
pub(crate) mod hpack;
pub(crate) mod memory;
mod receive;
pub(crate) mod recent;
pub(crate) mod server;
mod state;
pub(crate) mod stream;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that a new stream may have in flight towards us; HTTP/2's default, so that nobody has to
/// wait for our settings.
const STREAM_WINDOW: u32 = 65_535;
/// Bytes that all streams may have on their way towards us. Given back as they arrive, so it bounds
/// no memory and need only be more than a line holds.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes that a stream may have in flight whose data is taken as fast as it comes.
const LARGEST_WINDOW: u32 = 1024 * 1024;
