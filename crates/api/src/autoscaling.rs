//! `autoscaling.internal.knative.dev`: what the autoscaler acts on.

pub mod annotation;
pub mod v1alpha1;
