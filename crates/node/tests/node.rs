//! The node through its public door, with real programs and the embedded API server.

#[cfg(target_os = "linux")]
#[path = "node/containers.rs"]
mod containers;
#[path = "node/harness.rs"]
mod harness;
#[path = "node/lifecycle.rs"]
mod lifecycle_of_pods;
#[path = "node/log.rs"]
mod log;
#[path = "node/probe.rs"]
mod probe;
#[path = "node/spawner.rs"]
mod spawner;
#[path = "node/whole.rs"]
mod whole;
