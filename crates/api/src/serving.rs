//! `serving.knative.dev`: what users deploy.

pub mod v1;
