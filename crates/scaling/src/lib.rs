//! Activator, queue, metric collection and the autoscaler's decision.
//!
//! Every request holds a [`Slot`] from its choice of an endpoint until its last byte, so counts
//! of requests in flight are exact and nothing is scraped. [`autoscaler`] is pure: time is an
//! argument. This crate knows neither Kubernetes nor sockets; what controllers must know leaves
//! it as a [`Report`].

#![forbid(unsafe_code)]

mod activator;
pub mod autoscaler;
mod collector;
mod endpoint;
mod report;
mod throttler;

pub use activator::{Activator, Settings, start};
pub use endpoint::Slot;
pub use report::{Report, ReportReceiver, ReportSender, reports};
pub use throttler::AcquireError;
