//! The routing model, its compiled snapshot and matching.
//!
//! [`model`] is what users said: ordered, printable, carrying no defaults of its own.
//! [`Compiler`] (or [`compile`], from scratch) turns it into a [`Snapshot`], which is what the
//! proxy reads. Pure: no clock, no I/O, no randomness; the caller draws.

#![forbid(unsafe_code)]

mod authority;
mod compile;
mod explain;
mod matcher;
pub mod model;
mod query;
pub mod reference;
pub mod regex;
mod snapshot;
mod table;
mod tls;

pub use compile::{Compiler, Finding, compile};
pub use explain::{Considered, Explanation, Mismatch, Verdict};
pub use model::{
    Backend, BackendId, Bind, BindId, Endpoint, EndpointState, Model, RevisionId, RouteId,
    Visibility,
};
pub use snapshot::{
    BindKey, CompiledAction, CompiledArm, CompiledRoute, CompiledSplit, HostRoutes, RequestView,
    Snapshot,
};
pub use tls::{CompiledTls, CompiledTlsAction};

#[cfg(test)]
mod tests;
