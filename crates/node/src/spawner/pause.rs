//! The first process of a pod whose containers share their processes: it holds the namespace and
//! takes in orphans.
//!
//! Containers see it, and some may look into it or trace it. So it is a program of its own, without
//! the spawner's memory, and gives everything up before the first container starts: the machine's
//! files, its capabilities, its user. Its network is the pod's.

use std::process::ExitCode;

/// First argument of the binary that makes it this process.
pub const ROLE: &str = "__pause";
/// The binary, seen from the spawner.
pub(crate) const PROGRAM: &str = "/proc/self/exe";
/// What it says once nothing can be taken from it; anything else is why it failed.
pub(crate) const READY: &str = "ready";

/// The whole life of the process: it does nothing until it is killed.
#[cfg(target_os = "linux")]
pub fn main() -> ExitCode {
    use std::io::Write as _;
    let given_up = crate::sys::pause::give_everything_up();
    let said = match &given_up {
        Ok(()) => READY.to_owned(),
        Err(error) => error.to_string(),
    };
    let told = std::io::stdout().write_all(said.as_bytes());
    let flushed = std::io::stdout().flush();
    if given_up.is_err() || told.is_err() || flushed.is_err() {
        return ExitCode::FAILURE;
    }
    crate::sys::pause::forever()
}

/// Containers exist only on Linux.
#[cfg(not(target_os = "linux"))]
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
