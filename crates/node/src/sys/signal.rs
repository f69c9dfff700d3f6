//! Signals, children and descriptors of the spawner process, which has one thread.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::check;

/// Leaves the terminal's session and process group, so that its signals do not arrive here.
pub(crate) fn new_session() {
    // SAFETY: setsid has no preconditions. It fails only for a group leader, which is fine:
    // then the session is our own already or the caller's choice.
    unsafe { libc::setsid() };
}

/// Makes orphaned descendants children of this process.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: this prctl takes one integer.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }).map(drop)
}

/// Blocks every signal and returns a descriptor that is readable once a child has ended.
pub(crate) fn block_all_and_watch_children() -> io::Result<OwnedFd> {
    // SAFETY: the sets are initialized by sigfillset and sigemptyset before they are read.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null_mut(),
        ))?;
        let mut children: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut children);
        libc::sigaddset(&raw mut children, libc::SIGCHLD);
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let fd = check(libc::signalfd(-1, &raw const children, flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Empties the descriptor of [`block_all_and_watch_children`].
pub(crate) fn acknowledge(signals: BorrowedFd<'_>) {
    let mut buffer = [0_u8; 1024];
    loop {
        // SAFETY: `buffer` is as long as said.
        let read = unsafe {
            libc::read(
                signals.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        if read <= 0 {
            return;
        }
    }
}

/// Waits until a descriptor is readable or closed. Returns which are; none after the timeout.
pub(crate) fn wait_readable<const N: usize>(
    fds: [RawFd; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut entries = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    // SAFETY: `entries` has N entries.
    check(unsafe { libc::poll(entries.as_mut_ptr(), N as libc::nfds_t, timeout) })?;
    Ok(entries.map(|entry| entry.revents != 0))
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    Exited(i32),
    Signaled(i32),
}

/// Collects one ended child. `None` if none has ended; an error (`ECHILD`) if there is none.
pub(crate) fn reap() -> io::Result<Option<(i32, Ended)>> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) })?;
    if pid == 0 {
        return Ok(None);
    }
    let ended = if libc::WIFSIGNALED(status) {
        Ended::Signaled(libc::WTERMSIG(status))
    } else {
        Ended::Exited(libc::WEXITSTATUS(status))
    };
    Ok(Some((pid, ended)))
}

/// Moves the descriptor to a free number above the standard three, close-on-exec.
pub(crate) fn duplicate_high(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with this command takes and returns plain integers.
    let fd = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) })?;
    // SAFETY: the call succeeded, so the descriptor is open and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `number` (one of the standard three) a copy of `fd`.
pub(crate) fn replace_standard(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes plain integers; the standard descriptors are owned by no Rust value.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}
