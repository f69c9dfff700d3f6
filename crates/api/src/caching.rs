//! `caching.internal.knative.dev`: images worth having at hand.

pub mod v1alpha1;
