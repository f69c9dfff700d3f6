//! What all controllers share: caches of API objects, the work queue, writes, conditions' clock.
//!
//! A controller is: informers (one cache and one watch per kind and process, from [`Cluster`]),
//! handlers that put keys into a [`Queue`], and [`run`], which calls `reconcile(key)` for them,
//! never twice at once for one key, with backoff on errors. A reconciler reads caches, plans
//! without I/O and then writes; it is never told what changed, so it must be idempotent.
//!
//! ```ignore
//! pub fn start(cluster: &Cluster, tasks: &Tasks) {
//!     let routes = cluster.informer::<Route>(tasks);
//!     let ingresses = cluster.informer::<Ingress>(tasks);
//!     let queue = Queue::new();
//!     routes.enqueue_self(&queue);
//!     ingresses.enqueue_owner::<Route>(&queue);
//!     reconcile::run("route", queue, 4, vec![routes.synced(), ingresses.synced()], tasks, move |key| ...);
//! }
//! ```

mod cache;
mod cluster;
pub mod dynamic;
mod error;
mod event;
mod index;
mod informer;
mod key;
mod queue;
mod run;
pub mod write;

pub use cache::{Held, Keeper, Kind};
pub use cluster::Cluster;
pub use error::Error;
pub use event::Recorder;
pub use index::Index;
pub use informer::{Change, Informer};
pub use key::{Key, controller_of};
pub use queue::Queue;
pub use run::{Action, run};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The field manager of every write of ours.
pub const MANAGER: &str = "suimon";

/// The wall clock, for timestamps in objects. Plans take the result as an argument.
pub fn now() -> Time {
    Time(jiff::Timestamp::now())
}
