//! Starts programs from a small process of its own, so that the big one never forks.
//!
//! [`main`] is that process: one thread, no runtime, started as the hidden role `__spawner` with
//! its socket as standard input. [`Spawner`] is the handle in the main process. When either side
//! ends, however it ends, every program that was started ends too: the spawner kills all it has
//! when its socket closes, and each program dies with the spawner (parent-death signal). What the
//! main process had on the machine and the kernel does not take back, the spawner does (`heir`).
//! Elsewhere than on Linux programs are started in this process (`local`).

use std::process::ExitCode;

mod client;
#[cfg(target_os = "linux")]
mod containers;
#[cfg(target_os = "linux")]
mod heir;
mod local;
pub mod pause;
mod protocol;
#[cfg(target_os = "linux")]
mod remote;
#[cfg(target_os = "linux")]
mod server;

pub use client::{Process, Spawner, SpawnerCommand, Stdio};
pub(crate) use protocol::Pids;
pub use protocol::{Container, Exit, Launch, LaunchError, User};

/// First argument of the binary that makes it the spawner process.
pub const ROLE: &str = "__spawner";

/// The whole life of the spawner process. Call it before anything starts a thread.
#[cfg(target_os = "linux")]
pub fn main() -> ExitCode {
    server::main()
}

/// The spawner process exists only on Linux.
#[cfg(not(target_os = "linux"))]
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
