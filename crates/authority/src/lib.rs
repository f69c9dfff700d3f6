//! The local certificate authority, and the controller that answers Certificates with what it
//! signs.
//!
//! Its key never leaves the data directory. Whoever wants to trust the gateway's certificates
//! tells a browser or curl of [`Authority::file`]; nobody's trust is changed by us.

mod ca;
mod controller;
mod plan;

pub use ca::{Authority, Error, Issued};
pub use controller::start;
