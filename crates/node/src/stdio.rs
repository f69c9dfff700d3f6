//! Our ends of a program's standard streams.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::spawner::Stdio;
#[cfg(target_os = "linux")]
use crate::terminal::{Console, Terminal};

/// Bytes to read.
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// Where bytes are written.
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;
/// Tells a terminal its size: columns and rows.
pub type Resize = Arc<dyn Fn(u16, u16) + Send + Sync>;

/// The streams of a program that are wanted. With a terminal, errors are in the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub terminal: bool,
}

/// Our ends, before the program runs.
pub(crate) enum Prepared {
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
    #[cfg(target_os = "linux")]
    Terminal(Console),
}

/// Our ends, once it runs.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<BoxWrite>,
    pub(crate) stdout: Option<BoxRead>,
    pub(crate) stderr: Option<BoxRead>,
    #[cfg(target_os = "linux")]
    pub(crate) terminal: Option<Terminal>,
}

/// Makes both ends. What is not wanted is empty or dropped.
pub(crate) fn prepare(wanted: Wanted) -> io::Result<(Prepared, Stdio)> {
    if wanted.terminal {
        return terminal();
    }
    let output = |wanted: bool| -> io::Result<(Option<OwnedFd>, OwnedFd)> {
        if !wanted {
            let null = File::options().write(true).open("/dev/null")?;
            return Ok((None, null.into()));
        }
        let (ours, theirs) = io::pipe()?;
        Ok((Some(ours.into()), theirs.into()))
    };
    let (our_out, stdout) = output(wanted.stdout)?;
    let (our_err, stderr) = output(wanted.stderr)?;
    let (our_in, stdin) = match wanted.stdin {
        true => {
            let (theirs, ours) = io::pipe()?;
            (Some(ours.into()), Some(theirs.into()))
        }
        false => (None, None),
    };
    let ours = Prepared::Pipes {
        stdin: our_in,
        stdout: our_out,
        stderr: our_err,
    };
    let theirs = Stdio::Fds {
        stdin,
        stdout,
        stderr,
    };
    Ok((ours, theirs))
}

#[cfg(target_os = "linux")]
fn terminal() -> io::Result<(Prepared, Stdio)> {
    Console::new().map(|(ours, theirs)| (Prepared::Terminal(ours), theirs))
}

#[cfg(not(target_os = "linux"))]
fn terminal() -> io::Result<(Prepared, Stdio)> {
    Err(io::Error::other("terminals are supported on Linux only"))
}

impl Prepared {
    /// The program has been started.
    pub(crate) fn started(self) -> io::Result<Streams> {
        match self {
            Self::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                let read =
                    |fd: OwnedFd| Receiver::from_owned_fd(fd).map(|pipe| Box::new(pipe) as BoxRead);
                let write =
                    |fd: OwnedFd| Sender::from_owned_fd(fd).map(|pipe| Box::new(pipe) as BoxWrite);
                Ok(Streams {
                    stdin: stdin.map(write).transpose()?,
                    stdout: stdout.map(read).transpose()?,
                    stderr: stderr.map(read).transpose()?,
                    ..Streams::default()
                })
            }
            #[cfg(target_os = "linux")]
            Self::Terminal(console) => {
                let terminal = console.terminal()?;
                Ok(Streams {
                    stdin: Some(Box::new(terminal.clone())),
                    stdout: Some(Box::new(terminal.clone())),
                    stderr: None,
                    terminal: Some(terminal),
                })
            }
        }
    }
}

impl Streams {
    /// Tells the terminal its size; `None` if there is none.
    pub(crate) fn resize(&self) -> Option<Resize> {
        #[cfg(target_os = "linux")]
        if let Some(terminal) = self.terminal.clone() {
            return Some(Arc::new(move |columns, rows| {
                terminal.resize(columns, rows)
            }));
        }
        None
    }
}
