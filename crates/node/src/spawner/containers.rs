//! The spawner's half of containers: control groups, and the first process's signals.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use super::protocol::{Container, Launch, Pids};
use crate::runtime::oci::seccomp;
use crate::sys;
use crate::sys::child::{Failed, Stdio, User};
use crate::sys::container::{self, ContainerPlan};

/// Starts a container.
pub(super) fn start(
    launch: &Launch,
    container: &Container,
    stdio: Stdio<'_>,
) -> Result<i32, Failed> {
    let invalid = Failed {
        step: "read the arguments of",
        errno: libc::EINVAL,
    };
    let open = |path: &Path, step| {
        File::open(path).map_err(|error| Failed {
            step,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })
    };
    let network = container
        .network
        .as_deref()
        .map(|path| open(path, "enter the network of"))
        .transpose()?;
    let cgroup = container
        .cgroup_dir
        .as_deref()
        .map(|path| open(path, "enter the control group of"))
        .transpose()?;
    let process = |pid| {
        sys::open_process(pid).map_err(|error| Failed {
            step: "enter the container of",
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })
    };
    let join = container.join.map(process).transpose()?;
    let shared = match container.pids {
        Pids::Of(pid) => Some(process(pid)?),
        Pids::Own | Pids::Host => None,
    };
    let user = launch.user.clone().unwrap_or_default();
    let plan = ContainerPlan {
        programs: strings(&container.programs).ok_or(invalid)?,
        args: strings(&launch.args).ok_or(invalid)?,
        env: strings(&launch.env).ok_or(invalid)?,
        directory: CString::new(launch.directory.as_deref().unwrap_or("/")).map_err(|_| invalid)?,
        steps: container.steps.clone(),
        user: User {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        },
        capabilities: container.capabilities,
        no_new_privileges: launch.no_new_privileges,
        seccomp: if container.seccomp {
            seccomp::filter().unwrap_or_default()
        } else {
            Vec::new()
        },
        network: network.as_ref().map(AsFd::as_fd),
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
        join: join.as_ref().map(AsFd::as_fd),
        pids: match (&shared, container.pids) {
            (Some(process), _) => container::Pids::Of(process.as_fd()),
            (None, Pids::Host) => container::Pids::Host,
            (None, _) => container::Pids::Own,
        },
        host_ipc: container.host_ipc,
        is_bare: container.is_bare,
        stdio,
    };
    in_cgroups(&container.cgroup_tasks, || container::start(&plan))
}

fn strings(list: &[String]) -> Option<Vec<CString>> {
    list.iter().map(|s| CString::new(s.as_str()).ok()).collect()
}

/// Version 1: a child is born into its parent's groups, so this thread enters them for the
/// moment. Moving the child afterwards would make it wait for the kernel (milliseconds).
fn in_cgroups<T>(
    tasks: &[std::path::PathBuf],
    start: impl FnOnce() -> Result<T, Failed>,
) -> Result<T, Failed> {
    let enter = |path: &Path| {
        std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"0"))
    };
    let homes: Vec<_> = tasks.iter().filter_map(|path| home(path)).collect();
    let entered = tasks.iter().try_for_each(|path| {
        enter(path).map_err(|error| Failed {
            step: "enter the control group of",
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })
    });
    let started = entered.and_then(|()| start());
    for path in homes {
        if let Err(error) = enter(&path) {
            tracing::error!(path = %path.display(), %error, "the spawner cannot leave a control group");
        }
    }
    started
}

/// The group above ours: `…/<controller>/suimon/tasks` of `…/<controller>/suimon/<pod>/tasks`.
fn home(tasks: &Path) -> Option<std::path::PathBuf> {
    Some(tasks.parent()?.parent()?.join("tasks"))
}

/// The kernel drops signals to the first process of a pid namespace that it has no handler for,
/// even those whose default is to end the process. Programs that rely on the default would only
/// end at the end of the grace period; the spawner applies the default for them.
pub(super) fn would_be_ignored(pid: i32, signal: i32) -> bool {
    let ends_by_default = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ];
    if !ends_by_default.contains(&signal) {
        return false;
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let has = |field: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap_or_default();
        u64::from_str_radix(line.trim(), 16).is_ok_and(|bits| bits & (1 << (signal - 1)) != 0)
    };
    // Ignored on purpose, handled, or waited for with sigwait: the program's own business.
    !(has("SigIgn:") || has("SigCgt:") || has("SigBlk:"))
}
