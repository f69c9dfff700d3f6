//! File descriptors that tokio waits for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the current runtime, which owns it from now on.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` always returns the same descriptor, which stays open until the `AsyncFd`
    // has removed it from the runtime.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}
