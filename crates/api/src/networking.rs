//! `networking.internal.knative.dev`: what Knative's controllers ask of a gateway.

pub mod v1alpha1;
