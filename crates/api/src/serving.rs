//! `serving.knative.dev`: what users deploy.

pub mod v1;
pub mod v1beta1;
