//! The child's side of a container's start: from `clone3` to `execve`.
//!
//! It is a fork of the small spawner process: it must not allocate, lock or panic, so everything
//! that it needs was made before, and it makes system calls only.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use super::report::{Name, Reporter, ok};
use super::{ContainerPlan, MOST_TREES, Pids, step};
use crate::sys::child::{Stdio, User};

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// # Safety
/// The caller must be the child of [`super::start`]; `args` and `env` end with null.
pub(super) unsafe fn child(
    plan: &ContainerPlan<'_>,
    args: &[*const c_char],
    env: &[*const c_char],
    parent: Reporter,
) -> ! {
    // SAFETY: the caller vouches for the pointers; only system calls follow.
    unsafe {
        let step = match prepare(plan) {
            Ok(()) => {
                execute(plan, args, env);
                Name::Execute
            }
            Err(step) => step,
        };
        parent.tell(step);
        libc::_exit(127)
    }
}

/// As a shell searches `PATH`: a file that cannot be executed is remembered, a missing one is not.
///
/// # Safety
/// The caller must be the child of [`super::start`]; `args` and `env` end with null.
unsafe fn execute(plan: &ContainerPlan<'_>, args: &[*const c_char], env: &[*const c_char]) {
    let mut errno = libc::ENOENT;
    // SAFETY: the caller vouches for the pointers; errno is always accessible.
    unsafe {
        for program in &plan.programs {
            libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr());
            let this = *libc::__errno_location();
            if this != libc::ENOENT && this != libc::ENOTDIR {
                errno = this;
                if this != libc::EACCES {
                    break;
                }
            }
        }
        *libc::__errno_location() = errno;
    }
}

/// # Safety
/// The caller must be the child of [`super::start`].
unsafe fn prepare(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    // SAFETY: plain system calls with integers or pointers into `plan`.
    unsafe {
        ok(libc::setsid(), Name::Session)?;
        // The parent is outside the pid namespace; this still makes us die with it.
        ok(
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
            Name::Session,
        )?;
        if !matches!(plan.pids, Pids::Own) {
            // It is not the first process of its namespace and still keeps its orphans.
            ok(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1), Name::Session)?;
        }
        if let Stdio::Fds(fds) = &plan.stdio {
            for (number, fd) in fds.iter().enumerate() {
                ok(libc::dup2(fd.as_raw_fd(), number as RawFd), Name::Output)?;
            }
        }
        if let Some(process) = plan.join {
            // The pid namespace is the parent's affair: see `PidNamespace`.
            let kinds =
                libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
            ok(
                libc::setns(process.as_raw_fd(), kinds | libc::CLONE_NEWCGROUP),
                Name::Network,
            )?;
            take_terminal(plan)?;
            return confine(plan);
        }
        if let Some(network) = plan.network {
            ok(
                libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET),
                Name::Network,
            )?;
        }
        if plan.is_bare {
            crate::sys::child::reset_signals();
            return Ok(());
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        ok(
            libc::mount(
                ptr::null(),
                c"/".as_ptr(),
                ptr::null(),
                private,
                ptr::null(),
            ),
            Name::Mount,
        )?;
        let mut trees = [-1; MOST_TREES];
        for step in &plan.steps {
            step::carry_out(step, &mut trees)?;
        }
        take_terminal(plan)?;
        confine(plan)
    }
}

/// In the container, so that the terminal is one of its own.
///
/// # Safety
/// The caller must be the child of [`super::start`].
unsafe fn take_terminal(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    let Stdio::Terminal(console) = &plan.stdio else {
        return Ok(());
    };
    // SAFETY: the caller leads a session of its own, and the socket is open.
    let taken =
        unsafe { crate::sys::terminal::take(c"/dev/pts/ptmx", console.as_raw_fd(), plan.user.uid) };
    ok(taken, Name::Terminal)
}

/// Gives up what the program must not have.
///
/// # Safety
/// The caller must be the child of [`super::start`].
unsafe fn confine(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    // SAFETY: plain system calls with integers or pointers into `plan`.
    unsafe {
        become_user(plan)?;
        ok(libc::chdir(plan.directory.as_ptr()), Name::Directory)?;
        if plan.no_new_privileges || !plan.seccomp.is_empty() {
            ok(
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                Name::Seccomp,
            )?;
        }
        // The change of user cleared it.
        ok(
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
            Name::Session,
        )?;
        crate::sys::child::reset_signals();
        if !plan.seccomp.is_empty() {
            let program = libc::sock_fprog {
                len: plan.seccomp.len() as u16,
                filter: plan.seccomp.as_ptr().cast_mut(),
            };
            ok(
                libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ),
                Name::Seccomp,
            )?;
        }
        Ok(())
    }
}

/// Bounding set first (it needs the privilege), then the identity, then what root keeps.
///
/// # Safety
/// The caller must be the child of [`super::start`].
unsafe fn become_user(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    // SAFETY: plain system calls; the structures live until each call returns.
    unsafe {
        for capability in 0..64_u64 {
            if plan.capabilities & (1 << capability) == 0 {
                // Fails with EINVAL past the kernel's last capability, which is fine.
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
        }
        let User { uid, gid, groups } = &plan.user;
        let changed = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) == 0
            && libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) == 0;
        if !changed {
            return Err(Name::User);
        }
        if *uid == 0 {
            let header = [CAPABILITY_VERSION_3, 0];
            let (low, high) = (plan.capabilities as u32, (plan.capabilities >> 32) as u32);
            // Effective, permitted, inheritable; the low words first.
            let data = [low, low, 0, high, high, 0];
            let set = libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) as c_int;
            ok(set, Name::Capabilities)?;
        }
        Ok(())
    }
}
