//! One module per dialect: API objects → routing model + status.
//!
//! A translation is one call per root object, total and pure: it never fails, it says what it
//! could not translate as [`Diagnostic`]s, and it reads other objects only through [`Reader`],
//! which remembers what was read, so that a change leads to exactly the right translations again.

#![forbid(unsafe_code)]

pub mod apisix;
pub mod asm;
pub mod backend;
pub mod classes;
mod contour;
mod diagnostic;
pub mod emissary;
#[cfg(test)]
mod every_field;
mod fields;
pub mod foreign;
pub mod gateway_api;
mod gloo;
pub mod ingress;
pub mod istio;
pub mod knative;
pub mod lean;
pub mod migrate;
mod objects;
mod overlay;
mod ports;
#[cfg(test)]
mod same;
mod shared;
mod small_set;
#[cfg(test)]
mod testing;
mod traffic_policy;

pub use diagnostic::{Diagnostic, Effect};
pub use objects::{
    CertificateState, Claimant, Dependency, Discovered, GatewayAddress, LookedUp, Name, Objects,
    Reader,
};
pub use ports::GatewayPorts;
pub use small_set::SmallSet;
