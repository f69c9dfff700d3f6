//! Starts a program in namespaces of its own: `clone3`, a list of prepared steps, `execve`.
//!
//! This is the parent's side, in the spawner. The list ([`step`]) is made by `runtime::oci` in the
//! main process; the child ([`child`]) only carries it out and tells what failed ([`report`]).

mod child;
mod report;
mod step;

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use self::report::SharedPage;
pub(crate) use self::step::{MOST_TREES, Step};
use super::check;
use super::child::{Failed, Stdio, User};

/// Everything the child does between `clone3` and `execve`.
pub(crate) struct ContainerPlan<'a> {
    /// Tried in order until one is there and can be executed.
    pub(crate) programs: Vec<CString>,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) directory: CString,
    pub(crate) steps: Vec<Step>,
    pub(crate) user: User,
    /// Bit set of the capabilities that remain in the bounding set; root's own when uid is 0.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    /// Classic BPF program; empty for none.
    pub(crate) seccomp: Vec<libc::sock_filter>,
    pub(crate) network: Option<BorrowedFd<'a>>,
    /// Directory of a version 2 control group that the child is born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Descriptor of the process whose namespaces are entered, instead of making new ones.
    pub(crate) join: Option<BorrowedFd<'a>>,
    pub(crate) pids: Pids<'a>,
    /// Shared memory and semaphores are the machine's.
    pub(crate) host_ipc: bool,
    /// Namespaces only: no steps, no other user, nothing given up. The program sees to that itself.
    pub(crate) is_bare: bool,
    pub(crate) stdio: Stdio<'a>,
}

/// Whose processes a container sees.
#[derive(Clone, Copy)]
pub(crate) enum Pids<'a> {
    /// Its own only.
    Own,
    /// Those where the process of this descriptor is.
    Of(BorrowedFd<'a>),
    /// The machine's.
    Host,
}

/// `struct clone_args` of the kernel (linux/sched.h), version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// While it lives, children of this process are born in another pid namespace: only a parent can
/// choose that (`setns(2)`), and without it a command in a container would not find itself in the
/// container's `/proc`.
struct PidNamespace {
    own: File,
}

impl PidNamespace {
    fn enter(process: BorrowedFd<'_>) -> io::Result<Self> {
        let own = File::open("/proc/self/ns/pid")?;
        // SAFETY: a plain system call; the descriptor is open.
        check(unsafe { libc::setns(process.as_raw_fd(), libc::CLONE_NEWPID) })?;
        Ok(Self { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        // SAFETY: a plain system call; the descriptor is open.
        let back = check(unsafe { libc::setns(self.own.as_raw_fd(), libc::CLONE_NEWPID) });
        if back.is_err() {
            // Every later program would be born in a stranger's namespace: ending is safer, and
            // takes the pods along in order.
            std::process::abort();
        }
    }
}

/// Starts the program as the first process of new namespaces. Returns its pid, seen from here,
/// once `execve` has succeeded. Must be called from a process with one thread.
pub(crate) fn start(plan: &ContainerPlan<'_>) -> Result<i32, Failed> {
    let failed = |step, error: &io::Error| Failed {
        step,
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    };
    let page = SharedPage::new().map_err(|error| failed("share memory with", &error))?;
    let args = pointers(&plan.args);
    let env = pointers(&plan.env);
    let mut clone = CloneArgs {
        // CLONE_VFORK: this thread goes on when the child has called execve or has ended.
        flags: namespaces(plan) as u64 | libc::CLONE_VFORK as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = plan.cgroup {
        clone.flags |= CLONE_INTO_CGROUP;
        clone.cgroup = cgroup.as_raw_fd() as u64;
    }
    let shared = match plan.pids {
        Pids::Of(process) => Some(process),
        Pids::Own | Pids::Host => plan.join,
    };
    let _joined = shared
        .map(PidNamespace::enter)
        .transpose()
        .map_err(|error| failed("enter the process ids of", &error))?;
    // SAFETY: without CLONE_VM and with stack 0 this is a fork: the child has its own copy of
    // this process's memory and returns here with 0. The process has one thread, so no lock can
    // be held by another. The child only calls `child`, which never returns.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone3, &raw const clone, size_of::<CloneArgs>());
        if pid == 0 {
            child::child(plan, &args, &env, page.reporter());
        }
        check(pid as i32).map_err(|error| failed("clone", &error))?
    };
    let Some((step, errno)) = page.failed() else {
        return Ok(pid);
    };
    // SAFETY: the child has exited; its status is not wanted.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    Err(Failed { step, errno })
}

/// The namespaces that the child gets of its own; none if it joins another's.
fn namespaces(plan: &ContainerPlan<'_>) -> c_int {
    if plan.join.is_some() {
        return 0;
    }
    let always = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    let pids = match plan.pids {
        Pids::Own => libc::CLONE_NEWPID,
        Pids::Of(_) | Pids::Host => 0,
    };
    let ipc = if plan.host_ipc { 0 } else { libc::CLONE_NEWIPC };
    always | pids | ipc
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}
