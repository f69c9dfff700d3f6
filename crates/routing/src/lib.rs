//! The routing model, its compiled snapshot and matching.
//!
//! [`model`] is what users said: ordered, printable, carrying no defaults of its own.
//! [`Compiler`] (or [`compile`], from scratch) turns it into a [`Snapshot`], which is what the
//! proxy reads. Pure: no clock, no I/O, no randomness; the caller draws.

#![forbid(unsafe_code)]

mod authority;
pub mod client;
mod compile;
mod explain;
mod filters;
mod guards;
mod hosts;
mod matcher;
pub mod model;
pub mod predicate;
mod query;
pub mod reference;
pub mod regex;
mod route;
mod rule;
mod snapshot;
mod stream;
mod table;
pub mod template;
mod tls;
mod view;

pub use compile::{Compiler, Finding, compile};
pub use explain::{Considered, Explanation, Mismatch, Verdict};
pub use filters::{
    CompiledFilters, CompiledInstead, CompiledPathEdit, CompiledRedirect, CompiledRewrite,
};
pub use guards::{
    CompiledAccessRule, CompiledAuthorization, CompiledDescriptor, CompiledGuards, CompiledQuota,
    CompiledRamp, Slot,
};
pub use model::{
    Backend, BackendId, Bind, BindId, Endpoint, EndpointState, Model, RevisionId, RouteId,
    Visibility,
};
pub use route::{CompiledAction, CompiledArm, CompiledRoute, CompiledSplit};
pub use snapshot::{BindKey, HostRoutes, Snapshot};
pub use tls::{CompiledTls, CompiledTlsAction, merged_termination};
pub use view::RequestView;

#[cfg(test)]
mod tests;
