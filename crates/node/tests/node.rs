//! The node through its public door, with real programs.

#[path = "node/spawner.rs"]
mod spawner;
