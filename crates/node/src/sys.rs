//! The system calls that the standard library does not offer. The only `unsafe` of this crate.
//!
//! Every function here is a thin, safe wrapper; what the calls are for is said where they are
//! used. Linux-only parts are in their own modules, so the crate compiles elsewhere.

#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
pub(crate) mod child;
#[cfg(target_os = "linux")]
pub(crate) mod container;
#[cfg(target_os = "linux")]
pub(crate) mod event;
#[cfg(target_os = "linux")]
pub(crate) mod inside;
pub(crate) mod mount;
#[cfg(target_os = "linux")]
pub(crate) mod pause;
#[cfg(target_os = "linux")]
pub(crate) mod signal;
#[cfg(target_os = "linux")]
pub(crate) mod socket;
#[cfg(target_os = "linux")]
pub(crate) mod terminal;
#[cfg(target_os = "linux")]
pub(crate) mod text;
#[cfg(target_os = "linux")]
pub(crate) mod timer;

use std::io;

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The user id of this process.
pub(crate) fn user_id() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// Signals one process. `Ok` also if it is gone already.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // A pid below 1 would address a group or every process.
    if pid < 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes plain integers.
    gone_is_fine(unsafe { libc::kill(pid, signal) })
}

/// Signals every process of the group that `leader` leads. `Ok` also if it is empty.
pub(crate) fn kill_group(leader: i32, signal: i32) -> io::Result<()> {
    if leader < 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: killpg takes plain integers.
    gone_is_fine(unsafe { libc::killpg(leader, signal) })
}

fn gone_is_fine(result: i32) -> io::Result<()> {
    match check(result) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// Elsewhere no container shares a volume, so no link of a container's can be met.
#[cfg(not(target_os = "linux"))]
pub(crate) mod inside {
    use std::io;
    use std::path::Path;

    pub(crate) fn make_dirs(root: &Path, inside: &Path) -> io::Result<()> {
        std::fs::create_dir_all(root.join(inside))
    }
}

/// Turns the C convention into a `Result`.
fn check(result: i32) -> io::Result<i32> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Bytes of memory of this machine, if the system tells.
pub(crate) fn memory_bytes() -> Option<u64> {
    // SAFETY: sysconf takes a plain integer and returns -1 for what it does not know.
    let (pages, size) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    Some(u64::try_from(pages).ok()? * u64::try_from(size).ok()?)
}

/// Size of a page of memory, in bytes.
pub(crate) fn page_bytes() -> u64 {
    // SAFETY: sysconf takes a plain integer and returns -1 for what it does not know.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// A descriptor that stands for a process.
#[cfg(target_os = "linux")]
pub(crate) fn open_process(pid: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: pidfd_open takes plain integers; the result is a new descriptor that nobody else owns.
    unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32)?;
        Ok(std::os::fd::OwnedFd::from_raw_fd(fd))
    }
}

/// Gives the calling thread an empty network namespace of its own.
#[cfg(target_os = "linux")]
pub(crate) fn new_network_namespace() -> io::Result<()> {
    // SAFETY: unshare takes plain flags; CLONE_NEWNET changes nothing but the calling thread's
    // network.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// Moves the calling thread into a network namespace.
#[cfg(target_os = "linux")]
pub(crate) fn enter_network_namespace(namespace: &std::fs::File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: setns takes a descriptor, which `namespace` keeps open, and a flag.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}
