//! Activator, queue, metric collection and the autoscaler's decision.
//!
//! Every request holds a [`Slot`] from its choice of an endpoint until its last byte, so counts
//! of requests in flight are exact and nothing is scraped. [`autoscaler`] is pure: time is an
//! argument. This crate knows neither Kubernetes nor sockets; what controllers must know leaves
//! it as a [`Report`]. How endpoints are chosen where a policy says so, and how health and limits
//! are kept, is in [`balance`].

#![forbid(unsafe_code)]

mod activator;
pub mod autoscaler;
mod balance;
mod collector;
mod endpoint;
mod link;
mod report;
mod throttler;
mod wakes;

pub use activator::{Activator, Settings, start};
pub use balance::health::{Cause, Outcome};
pub use balance::limits::Limit;
pub use balance::traffic::TrafficStats;
pub use balance::{Preference, endpoint_key, hash};
pub use endpoint::Slot;
pub use link::{Link, Pending};
pub use report::{Report, ReportReceiver, ReportSender, reports};
pub use routing::RevisionId;
pub use throttler::AcquireError;
pub use wakes::{Step, Wakes};
