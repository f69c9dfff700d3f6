//! The routing model, its compiled snapshot and matching.
//!
//! [`model`] is what users said: ordered, printable, carrying no defaults of its own.
//! `compile` turns it into a `Snapshot`, which is what the proxy
//! reads. Pure: no clock, no I/O, no randomness; the caller draws.

pub mod model;
