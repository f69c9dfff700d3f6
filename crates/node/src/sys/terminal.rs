//! Terminals of programs: a pair is made by the child itself, from the devpts that it sees.
//!
//! So the terminal's path exists where the program looks for it, also in a container. The child
//! keeps the terminal and sends its other side to us over a socket, before it executes anything.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use super::check;

/// Room for one descriptor's control message, aligned as its header must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Makes a terminal, controlling and on the standard three descriptors, and sends its other side
/// over `console`. -1 and errno on failure; allocates nothing.
///
/// # Safety
/// The caller must be a child before `execve` that leads a session of its own; `console` must be
/// open.
pub(super) unsafe fn take(multiplexer: &CStr, console: RawFd, owner: u32) -> i32 {
    // SAFETY: plain system calls with integers, C strings and locals that outlive each call.
    unsafe {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let ours = libc::open(multiplexer.as_ptr(), flags);
        if ours == -1 {
            return -1;
        }
        let unlocked: libc::c_int = 0;
        if libc::ioctl(ours, libc::TIOCSPTLCK as _, &raw const unlocked) == -1 {
            return -1;
        }
        let terminal = libc::ioctl(ours, libc::TIOCGPTPEER as _, flags);
        if terminal == -1
            || libc::fchown(terminal, owner, u32::MAX) == -1
            || libc::ioctl(terminal, libc::TIOCSCTTY as _, 0) == -1
        {
            return -1;
        }
        for number in 0..3 {
            if libc::dup2(terminal, number) == -1 {
                return -1;
            }
        }
        send(console, ours)
    }
}

/// # Safety
/// Both descriptors must be open.
unsafe fn send(socket: RawFd, fd: RawFd) -> i32 {
    let mut control = Control([0; 64]);
    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: msghdr is plain data for which all zeros is a valid value; every pointer is to a
    // local; `control` has room for the message of one descriptor, which is what is written.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        ptr::write_unaligned(libc::CMSG_DATA(header).cast::<RawFd>(), fd);
        match libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) {
            -1 => -1,
            _ => 0,
        }
    }
}

/// Tells a terminal its size; its programs get SIGWINCH.
pub(crate) fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the structure lives until the call returns.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) })
        .map(drop)
}
