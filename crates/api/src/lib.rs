//! Every API type that Suimon serves or watches, with its defaults and validation.
//!
//! Pure: no clock, no I/O. The embedded API server and the webhook on Kubernetes run the same
//! [`admission`] code, so a manifest is judged alike in both modes.

pub mod admission;
pub mod autoscaling;
pub mod caching;
pub mod certificates;
pub mod condition;
pub mod config;
pub mod crd;
pub mod defaults;
pub mod duration;
pub mod gateway;
mod json;
pub mod names;
pub mod networking;
pub mod quantity;
pub mod requests;
pub mod serving;
pub mod validation;
