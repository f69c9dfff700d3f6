//! Programs as children of this process: for systems without the spawner process.
//!
//! What is missing against the spawner: programs outlive a killed main process, and descendants
//! that leave the process group are not found.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Command, ExitStatus};

use tokio::sync::watch;

use super::client::{Control, Process, Stdio};
use super::{Exit, Launch, LaunchError};
use crate::sys;

pub(super) fn launch(launch: &Launch, stdio: Stdio) -> Result<Process, LaunchError> {
    let failed = |error: std::io::Error| LaunchError::Step {
        step: "start".to_owned(),
        program: launch.program.clone(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    };
    let Stdio::Fds {
        stdin,
        stdout,
        stderr,
    } = stdio
    else {
        return Err(LaunchError::Invalid {
            program: launch.program.clone(),
            problem: "terminals need the spawner process, which exists on Linux only",
        });
    };
    let mut command = Command::new(&launch.program);
    if let Some((name, rest)) = launch.args.split_first() {
        command.arg0(name).args(rest);
    }
    command
        .env_clear()
        .envs(launch.env.iter().filter_map(|entry| entry.split_once('=')));
    command
        .current_dir(launch.directory.as_deref().unwrap_or("/"))
        .process_group(0);
    if let Some(user) = &launch.user {
        command.gid(user.gid).uid(user.uid);
    }
    let stdin = stdin.map_or_else(process::Stdio::null, process::Stdio::from);
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(failed)?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let (sender, exit) = watch::channel(None);
    std::thread::Builder::new()
        .name("wait for program".to_owned())
        .spawn(move || {
            let status = child.wait();
            let _ = sys::kill_group(pid, libc::SIGKILL);
            sender.send_replace(Some(status.map_or_else(|_| Exit::exited(255), exit_of)));
        })
        .map_err(failed)?;
    Ok(Process {
        pid,
        exit,
        control: Control::Local,
    })
}

pub(super) fn signal(pid: i32, signal: i32, group: bool) {
    let sent = if group {
        sys::kill_group(pid, signal)
    } else {
        sys::kill(pid, signal)
    };
    if let Err(error) = sent {
        tracing::warn!(pid, signal, %error, "cannot signal a program");
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::exited(code),
        (None, signal) => Exit::signaled(signal.unwrap_or(libc::SIGKILL)),
    }
}
