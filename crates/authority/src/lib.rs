//! Who signs certificates: the authority of this machine's own and, by ACME, public ones; and the
//! controllers that answer Certificates with what they sign.
//!
//! The local authority's key never leaves the data directory. Whoever wants to trust the gateway's
//! certificates tells a browser or curl of [`Authority::file`]; nobody's trust is changed by us.

pub mod acme;
mod ca;
mod controller;
mod plan;

pub use ca::{Authority, Error, Issued};
pub use controller::start;
