//! Giving up what a process has, and waiting for the end.

use std::io;
use std::ptr;

use super::check;

/// Nobody, as of container engines' own such processes.
const NOBODY: u32 = 65535;
/// Highest number of a capability, and room for more.
const CAPABILITIES: u64 = 64;

/// An empty read-only root, no capabilities, another user. The process must have a mount namespace
/// of its own.
pub(crate) fn give_everything_up() -> io::Result<()> {
    leave_the_files()?;
    // SAFETY: plain system calls with integers.
    unsafe {
        for capability in 0..CAPABILITIES {
            // Fails with EINVAL past the kernel's last capability, which is fine.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        check(libc::setgroups(0, ptr::null()))?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        // The capabilities go with the last user id that was root's.
        check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // The change of user cleared it.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
    }
    Ok(())
}

fn leave_the_files() -> io::Result<()> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let (root, here, proc) = (c"/".as_ptr(), c".".as_ptr(), c"/proc".as_ptr());
    let none = ptr::null();
    let options = c"size=4k,mode=0555".as_ptr().cast();
    // SAFETY: plain system calls with constant strings. The old root is mounted over the new one
    // by pivot_root(".", ".") and is what "." means until it is detached (pivot_root(2), notes).
    unsafe {
        check(libc::mount(none, root, none, private, ptr::null()))?;
        // Whatever directory is there; nobody else sees this mount.
        check(libc::mount(
            c"none".as_ptr(),
            proc,
            c"tmpfs".as_ptr(),
            flags,
            options,
        ))?;
        check(libc::chdir(proc))?;
        check(libc::syscall(libc::SYS_pivot_root, here, here) as libc::c_int)?;
        check(libc::umount2(here, libc::MNT_DETACH))?;
        check(libc::chdir(root))?;
        let again = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
        check(libc::mount(none, root, none, again | flags, ptr::null()))?;
    }
    Ok(())
}

/// Until the process is killed. Whatever it has open is closed.
pub(crate) fn forever() -> ! {
    // SAFETY: plain system calls with integers; nothing is written to after this.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        // Whoever ignores it need not wait for its children.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}
