//! A timer with the kernel's resolution; tokio's rounds up to a whole millisecond.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;

/// A descriptor that becomes readable once after `after`. Close-on-exec and non-blocking.
pub(crate) fn one_shot(after: Duration) -> io::Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: timerfd_create takes plain integers.
    let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
    // SAFETY: the call succeeded, so the descriptor is open and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: itimerspec is plain data for which all zeros is a valid value.
    let mut when: libc::itimerspec = unsafe { mem::zeroed() };
    when.it_value.tv_sec = libc::time_t::try_from(after.as_secs()).unwrap_or(libc::time_t::MAX);
    // Zero would disarm the timer.
    when.it_value.tv_nsec = libc::c_long::from(after.subsec_nanos().max(1).cast_signed());
    // SAFETY: `when` is initialized; the old value is not asked for.
    check(unsafe {
        libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const when, std::ptr::null_mut())
    })?;
    Ok(fd)
}
