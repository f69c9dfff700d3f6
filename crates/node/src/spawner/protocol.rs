//! What the main process and the spawner say to each other: one JSON value per packet.
//!
//! Both ends are the same binary, so the format may change freely. A request that is too long
//! for a packet travels in a memory file whose descriptor comes first.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest packet; the kernel's default buffer for a socket is about twice that.
pub(crate) const LONGEST_PACKET: usize = 64 * 1024;
/// Longest request in a memory file. The kernel takes at most 2 MiB of arguments and environment.
pub(crate) const LONGEST_REQUEST: usize = 4 * 1024 * 1024;

/// A program to start. Strings with a NUL byte are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Absolute path of the file to execute.
    pub program: String,
    /// All arguments, the program's name included.
    pub args: Vec<String>,
    /// `NAME=value`; nothing is inherited.
    pub env: Vec<String>,
    /// Working directory; `/` if `None`.
    pub directory: Option<String>,
    /// Another identity; needs root.
    pub user: Option<User>,
    /// Set-user-ID programs gain nothing.
    pub no_new_privileges: bool,
    /// A terminal of its own instead of three descriptors.
    #[serde(default)]
    pub terminal: bool,
    /// Namespaces, root and limits of its own; needs root.
    #[serde(default)]
    pub container: Option<Container>,
}

/// What makes a program a container. Made by `runtime::oci`, carried out by the spawner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    #[cfg(target_os = "linux")]
    pub(crate) steps: Vec<crate::sys::container::Step>,
    /// Files to execute, tried in order: the search of `PATH` inside the container.
    pub(crate) programs: Vec<String>,
    /// Bit set of the capabilities that remain.
    pub(crate) capabilities: u64,
    /// Refuse the system calls that no container may make.
    pub(crate) seccomp: bool,
    /// File that stands for the network namespace.
    pub(crate) network: Option<PathBuf>,
    /// Version 1 control groups: the `tasks` files that the program is born into.
    pub(crate) cgroup_tasks: Vec<PathBuf>,
    /// Version 2 control group: its directory.
    pub(crate) cgroup_dir: Option<PathBuf>,
    /// Join the container whose first process this is, instead of making one.
    pub(crate) join: Option<i32>,
    /// Whose processes it sees.
    #[serde(default)]
    pub(crate) pids: Pids,
    /// Shared memory and semaphores are the machine's.
    #[serde(default)]
    pub(crate) host_ipc: bool,
    /// Namespaces only, for a program of ours that gives up the rest itself.
    #[serde(default)]
    pub(crate) is_bare: bool,
}

/// Whose processes a container sees, and who sees its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pids {
    /// Nobody else's.
    #[default]
    Own,
    /// Those where this process is.
    Of(i32),
    /// The machine's.
    Host,
}

/// Identity that a program runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; replaces the inherited ones.
    pub groups: Vec<u32>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal if a signal ended it, as shells and Kubernetes count.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Exit {
    /// A program that ended by itself.
    pub fn exited(code: i32) -> Self {
        Self { code, signal: None }
    }

    /// A program that a signal ended.
    pub fn signaled(signal: i32) -> Self {
        Self {
            code: 128 + signal,
            signal: Some(signal),
        }
    }
}

/// Why a program was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// A step before or at `execve` failed.
    #[error("cannot {step} {program}: {}", Errno(*errno))]
    Step {
        step: String,
        program: String,
        errno: i32,
    },
    /// The arguments cannot be given to a program.
    #[error("cannot start {program}: {problem}")]
    Invalid {
        program: String,
        problem: &'static str,
    },
    /// The spawner is gone; a new one is on its way.
    #[error("cannot start {program}: the spawner process ended")]
    SpawnerGone { program: String },
}

impl LaunchError {
    /// The error number, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Step { errno, .. } => Some(*errno),
            Self::Invalid { .. } | Self::SpawnerGone { .. } => None,
        }
    }
}

struct Errno(i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            libc::ENOEXEC => f.write_str(
                "it is not a program for this machine (neither an executable of this architecture nor a script that starts with #!)",
            ),
            errno => std::io::Error::from_raw_os_error(errno).fmt(f),
        }
    }
}

/// Main process to spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a program; the packet carries its stdout and stderr, before them its stdin if it has
    /// one; or the socket for the other side of its terminal.
    Start { id: u64, launch: Box<Launch> },
    /// Signal a program, or its whole process group.
    Signal { id: u64, signal: i32, group: bool },
}

/// Spawner to main process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Started { id: u64, pid: i32 },
    Failed { id: u64, step: String, errno: i32 },
    Exited { id: u64, exit: Exit },
}
