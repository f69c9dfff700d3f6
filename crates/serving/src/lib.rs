//! Knative Serving's controllers: Service, Configuration, Revision, Route,
//! DomainMapping, PodAutoscaler.
//!
//! Each kind is a module with the same five parts: wiring (`service.rs`), `reconcile` (reads
//! caches, writes), `plan` (decides, without I/O), `resources` (children) and `status`
//! (conditions). Controllers meet only in the API.

mod certificate;
mod configuration;
mod context;
mod digest;
mod domain_mapping;
mod drain;
mod event;
#[cfg(test)]
mod fixture;
mod object;
mod podautoscaler;
mod revision;
mod route;
mod service;
mod settings;

pub use digest::{DigestResolver, ImageRequest};
pub use revision::sample_pod;
pub use settings::Settings;

use lifecycle::Tasks;
use reconcile::Cluster;
use scaling::{ReportReceiver, Wakes};

/// Starts the controllers. They stop in the stage `Controllers`. `reports` is what the gateways
/// tell of requests and pods; what wakes from zero take is told to `wakes`.
pub fn start(
    cluster: &Cluster,
    settings: Settings,
    (reports, wakes): (ReportReceiver, Wakes),
    tasks: &Tasks,
) {
    let ctx = context::Context::new(cluster, settings, tasks);
    service::start(&ctx);
    configuration::start(&ctx);
    revision::start(&ctx);
    route::start(&ctx);
    domain_mapping::start(&ctx);
    podautoscaler::start(&ctx, reports, wakes);
}
