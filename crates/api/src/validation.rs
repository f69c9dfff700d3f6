//! What Knative refuses, in Knative's words.

pub mod names;
