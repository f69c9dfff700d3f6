//! One module per dialect: API objects → routing model + status.
//!
//! A translation is one call per root object, total and pure: it never fails, it says what it
//! could not translate as [`Diagnostic`]s, and it reads other objects only through [`Reader`],
//! which remembers what was read, so that a change leads to exactly the right translations again.

#![forbid(unsafe_code)]

pub mod apisix;
pub mod backend;
mod diagnostic;
pub mod emissary;
mod fields;
pub mod foreign;
pub mod gateway_api;
pub mod ingress;
pub mod knative;
mod objects;
mod shared;

pub use diagnostic::{Diagnostic, Effect};
pub use objects::{CertificateState, Claimant, Dependency, GatewayAddress, Name, Objects, Reader};
