//! Named tasks, shutdown, drain and the snapshot channel.
//!
//! Every background future of the product is a [`Tasks`] task: it has a name, a stage that says
//! when it stops, and a policy on failure. Stages stop in order, each awaited before the next,
//! so nothing stops while something above it still needs it.

pub mod snapshot;
mod tasks;

pub use snapshot::{Publish, Snapshots, snapshot_channel};
pub use tasks::{Outcome, Shutdown, Stage, Tasks};
