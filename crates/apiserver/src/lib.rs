//! Embedded Kubernetes-compatible API server and its store.
//!
//! Schema-driven: one generic handler ([`crud`], [`watch`]) works over one type table ([`types`]),
//! so built-in kinds and custom resources take the same path. The request path is
//! `http → auth → crud → store`; the in-process client of [`Server::client`] enters at the same
//! door as a socket, so controllers see exactly what `kubectl` sees.

mod addresses;
pub mod admission;
pub mod apply;
pub mod auth;
pub mod connect;
mod crd;
mod crud;
mod csr;
pub mod defaults;
pub mod discovery;
mod events;
mod flow;
mod gc;
mod http;
mod inflight;
pub mod jsonpath;
mod kubeconfig;
mod limit_range;
mod metrics;
mod namespace;
pub mod openapi;
pub mod patch;
mod policy;
mod pressure;
mod protobuf;
pub mod prune;
mod quantity;
mod quota;
pub mod rules;
pub mod schema;
pub mod selector;
pub mod server;
pub mod status;
pub mod store;
pub mod stream;
pub mod strict;
pub mod table;
mod tls;
pub mod trial;
pub mod types;
pub mod validate;
mod watch;

pub use pressure::Bounds;
pub use server::{Server, Settings, start};
pub use status::Status;
