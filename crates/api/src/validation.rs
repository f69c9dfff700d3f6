//! What Knative refuses, in Knative's words and with its paths.
//!
//! Every check runs on the defaulted object as JSON and adds to one `Report`, so a user sees all
//! mistakes at once. Rules and texts: `pkg/apis/serving` of knative/serving.

pub(crate) mod annotations;
mod container;
pub(crate) mod domain_mapping;
mod image;
pub(crate) mod ingress;
pub mod names;
pub(crate) mod object;
mod pod;
pub(crate) mod podautoscaler;
mod probe;
mod report;
pub(crate) mod revision;
pub(crate) mod traffic;
mod volume;

pub use report::Report;

use crate::config::{Autoscaler, Defaults, Features};

/// The ConfigMaps that defaults and validation depend on.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub autoscaler: Autoscaler,
    pub defaults: Defaults,
    pub features: Features,
}
