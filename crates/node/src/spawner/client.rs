//! The handle on the spawner, and on each program that it started.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use lifecycle::Tasks;
use tokio::sync::watch;

use super::local;
#[cfg(target_os = "linux")]
use super::remote::Remote;
use super::{Exit, Launch, LaunchError};

/// How to start the spawner process: this binary with its hidden role.
#[derive(Clone, Debug)]
pub struct SpawnerCommand {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

/// Starts programs. Clone freely.
#[derive(Clone)]
pub struct Spawner {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    #[cfg(target_os = "linux")]
    Remote(Remote),
    /// Programs are children of this process, and nothing ends them if it is killed.
    Local,
}

impl Spawner {
    /// Starts the spawner process, and starts it again whenever it ends before its time.
    #[cfg(target_os = "linux")]
    pub fn start(command: SpawnerCommand, tasks: &Tasks) -> io::Result<Self> {
        Ok(Self {
            kind: Kind::Remote(Remote::start(command, tasks)?),
        })
    }

    /// There is no spawner process on this system; programs are started from this one.
    #[cfg(not(target_os = "linux"))]
    pub fn start(_command: SpawnerCommand, _tasks: &Tasks) -> io::Result<Self> {
        Ok(Self::local())
    }

    /// Starts programs from this process.
    pub fn local() -> Self {
        Self { kind: Kind::Local }
    }

    /// Starts a program. Dropping the future before it is done also ends the program.
    pub async fn launch(&self, mut launch: Launch, stdio: Stdio) -> Result<Process, LaunchError> {
        check(&launch)?;
        launch.terminal = matches!(stdio, Stdio::Terminal { .. });
        match &self.kind {
            #[cfg(target_os = "linux")]
            Kind::Remote(remote) => remote.launch(launch, stdio).await,
            Kind::Local => local::launch(&launch, stdio),
        }
    }
}

/// A program's standard input, output and error.
#[derive(Debug)]
pub enum Stdio {
    /// Read and write ends of pipes, or files.
    Fds {
        /// An empty input if `None`.
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal of the program's own; its other side arrives on the other end of this socket.
    Terminal { console: OwnedFd },
}

impl Stdio {
    /// In the order of the protocol.
    #[cfg(target_os = "linux")]
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Fds {
                stdin,
                stdout,
                stderr,
            } => {
                let input = stdin.iter().map(AsFd::as_fd);
                input.chain([stdout.as_fd(), stderr.as_fd()]).collect()
            }
            Self::Terminal { console } => vec![console.as_fd()],
        }
    }
}

fn check(launch: &Launch) -> Result<(), LaunchError> {
    let invalid = |problem| {
        Err(LaunchError::Invalid {
            program: launch.program.clone(),
            problem,
        })
    };
    let mut strings = launch
        .args
        .iter()
        .chain(&launch.env)
        .chain(&launch.directory)
        .chain([&launch.program]);
    if strings.any(|s| s.contains('\0')) {
        return invalid("an argument or environment variable holds a NUL byte");
    }
    if !launch.program.starts_with('/') {
        return invalid("the program's path is not absolute");
    }
    Ok(())
}

/// A program that was started. It keeps running when the handle is dropped.
#[derive(Clone)]
pub struct Process {
    pub(super) pid: i32,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) control: Control,
}

#[derive(Clone)]
pub(super) enum Control {
    #[cfg(target_os = "linux")]
    Remote {
        remote: Remote,
        id: u64,
    },
    Local,
}

impl Process {
    /// Its process id, which is also the id of its process group and session.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it has ended.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => (*exit).unwrap_or_else(|| Exit::signaled(libc::SIGKILL)),
            // Nobody is left to tell: the spawner and all its programs are gone.
            Err(_) => Exit::signaled(libc::SIGKILL),
        }
    }

    /// Signals the program alone, as Kubernetes signals the first process of a container.
    pub async fn signal(&self, signal: i32) {
        self.send(signal, false).await;
    }

    /// Ends the program and everything in its process group at once.
    pub async fn kill(&self) {
        self.send(libc::SIGKILL, true).await;
    }

    /// Ends the program when the guard is dropped before it is disarmed.
    pub(crate) fn kill_on_drop(&self) -> KillOnDrop<'_> {
        KillOnDrop(Some(self))
    }

    /// As [`Self::kill`], without waiting until the order is on its way.
    pub(crate) fn kill_now(&self) {
        if self.exit().is_some() {
            return;
        }
        match &self.control {
            #[cfg(target_os = "linux")]
            Control::Remote { remote, id } => remote.kill_now(*id),
            Control::Local => local::signal(self.pid, libc::SIGKILL, true),
        }
    }

    async fn send(&self, signal: i32, group: bool) {
        if self.exit().is_some() {
            return;
        }
        match &self.control {
            #[cfg(target_os = "linux")]
            Control::Remote { remote, id } => remote.signal(*id, signal, group).await,
            Control::Local => local::signal(self.pid, signal, group),
        }
    }
}

/// See [`Process::kill_on_drop`].
pub(crate) struct KillOnDrop<'a>(Option<&'a Process>);

impl KillOnDrop<'_> {
    /// The program may go on.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.0 {
            process.kill_now();
        }
    }
}
