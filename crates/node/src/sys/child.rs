//! Starts a program from the spawner process: `clone(CLONE_VM | CLONE_VFORK)`, then `execve`.
//!
//! This is what `posix_spawn` does, plus the steps that it lacks: parent-death signal, subreaper,
//! user and no-new-privileges. The child shares the parent's memory while the parent is
//! suspended, so it must not allocate, lock or panic: everything it needs is in [`Plan`] before.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use super::check;

/// Everything the child does between `clone` and `execve`.
pub(crate) struct Plan<'a> {
    pub(crate) program: CString,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) directory: Option<CString>,
    pub(crate) user: Option<User>,
    pub(crate) no_new_privileges: bool,
    pub(crate) stdio: Stdio<'a>,
}

/// A program's standard input, output and error.
#[derive(Clone, Copy)]
pub(crate) enum Stdio<'a> {
    Fds([BorrowedFd<'a>; 3]),
    /// A terminal of its own; its other side is sent over this socket.
    Terminal(BorrowedFd<'a>),
}

/// Identity that the program runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// The step that failed and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) step: &'static str,
    pub(crate) errno: i32,
}

const STACK_BYTES: usize = 64 * 1024;

/// What the child reads, as raw pointers, and the one thing that it writes: `failed`.
struct Raw {
    program: *const c_char,
    args: *const *const c_char,
    env: *const *const c_char,
    directory: *const c_char,
    user: Option<(u32, u32, *const u32, usize)>,
    no_new_privileges: bool,
    fds: [RawFd; 3],
    /// Socket for the other side of a terminal, which replaces `fds`; -1 for none.
    console: RawFd,
    parent: i32,
    failed: Option<Failed>,
}

/// Starts the program in a session of its own and returns its pid once `execve` has succeeded.
/// Must be called with all signals blocked, from a process with one thread.
pub(crate) fn start(plan: &Plan<'_>) -> Result<i32, Failed> {
    let args = pointers(&plan.args);
    let env = pointers(&plan.env);
    let user = plan.user.as_ref();
    let (fds, console) = match &plan.stdio {
        Stdio::Fds(fds) => (fds.map(|fd| fd.as_raw_fd()), -1),
        Stdio::Terminal(console) => ([-1; 3], console.as_raw_fd()),
    };
    let mut raw = Raw {
        program: plan.program.as_ptr(),
        args: args.as_ptr(),
        env: env.as_ptr(),
        directory: plan
            .directory
            .as_ref()
            .map_or(ptr::null(), |path| path.as_ptr()),
        user: user.map(|user| (user.uid, user.gid, user.groups.as_ptr(), user.groups.len())),
        no_new_privileges: plan.no_new_privileges,
        fds,
        console,
        // SAFETY: getpid has no preconditions.
        parent: unsafe { libc::getpid() },
        failed: None,
    };
    let mut stack = vec![0_u128; STACK_BYTES / 16];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows down from the end of `stack`, which is 16-byte aligned. `raw` and
    // everything that it points to outlive the child's use of them, because CLONE_VFORK suspends
    // this thread until the child has called execve or _exit. `child` keeps to async-signal-safe
    // calls, and there is no other thread whose locks it could find taken.
    let pid = check(unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        libc::clone(child, top.cast(), flags, (&raw mut raw).cast())
    })
    .map_err(|error| Failed {
        step: "clone",
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    })?;
    // SAFETY: `raw` is a live local; the child wrote it through the pointer, hence the volatile read.
    if let Some(failed) = unsafe { ptr::read_volatile(&raw const raw.failed) } {
        // SAFETY: the child has exited; its status is not wanted.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        return Err(failed);
    }
    Ok(pid)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}

extern "C" fn child(argument: *mut c_void) -> c_int {
    let raw = argument.cast::<Raw>();
    // SAFETY: `start` passes a pointer to a `Raw` that it does not touch until this process has
    // called execve or _exit. Only async-signal-safe calls follow.
    unsafe {
        let failed = run(&*raw);
        ptr::write_volatile(&raw mut (*raw).failed, Some(failed));
        libc::_exit(127)
    }
}

/// Returns only if a step failed.
///
/// # Safety
/// The pointers in `raw` must be valid and the caller must be the child of `start`.
unsafe fn run(raw: &Raw) -> Failed {
    let failed = |step| Failed {
        step,
        errno: io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    };
    // SAFETY: plain system calls with integers or pointers that the caller vouches for.
    unsafe {
        if libc::setsid() == -1 {
            return failed("setsid");
        }
        // Like the first process of a container: it inherits its own orphans, so whatever it
        // leaves behind comes to the spawner exactly when it ends.
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) == -1 {
            return failed("become subreaper");
        }
        if raw.console != -1 {
            let owner = raw.user.map_or(u32::MAX, |(uid, ..)| uid);
            if super::terminal::take(c"/dev/ptmx", raw.console, owner) == -1 {
                return failed("make a terminal for");
            }
        } else {
            for (number, fd) in raw.fds.iter().enumerate() {
                if libc::dup2(*fd, number as RawFd) == -1 {
                    return failed("redirect output");
                }
            }
        }
        if let Some((uid, gid, groups, count)) = raw.user {
            // The raw calls: libc's wrappers would signal threads that do not exist here.
            if libc::syscall(libc::SYS_setgroups, count, groups) == -1
                || libc::syscall(libc::SYS_setresgid, gid, gid, gid) == -1
                || libc::syscall(libc::SYS_setresuid, uid, uid, uid) == -1
            {
                return failed("change the user");
            }
        }
        if !raw.directory.is_null() && libc::chdir(raw.directory) == -1 {
            return failed("enter the working directory");
        }
        if raw.no_new_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 {
            return failed("set no-new-privileges");
        }
        // After the change of user, which clears it.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
            return failed("set the parent-death signal");
        }
        if libc::getppid() != raw.parent {
            libc::_exit(127); // The spawner died in between and nobody waits for an answer.
        }
        reset_signals();
        libc::execve(raw.program, raw.args, raw.env);
        failed("execute")
    }
}

/// Default action for every signal, none blocked. Dispositions are not shared with the parent.
///
/// # Safety
/// The caller must be the child of `start`.
pub(super) unsafe fn reset_signals() {
    // SAFETY: `default` and `none` are valid; errors for signals that cannot be changed are fine.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}
