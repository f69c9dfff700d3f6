//! The main process's end of the spawner's socket.
//!
//! Requests are matched to replies by id. If the spawner ends before its time, every program is
//! reported as killed (they die with it), their groups are killed once more from here, and a new
//! spawner is started.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Shutdown, Stage, Tasks};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::client::{Control, Process, SpawnerCommand, Stdio};
use super::protocol::{LONGEST_PACKET, LONGEST_REQUEST, Reply, Request};
use super::{Exit, Launch, LaunchError};
use crate::sys::{self, event, socket};

/// Pause before a spawner that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(super) struct Remote {
    shared: Arc<Shared>,
}

struct Shared {
    command: SpawnerCommand,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` while there is no spawner.
    socket: Option<Arc<AsyncFd<OwnedFd>>>,
    next_id: u64,
    starting: HashMap<u64, Starting>,
    running: HashMap<u64, Running>,
}

/// Pid of a program, and how it ended once it has.
type Started = (i32, watch::Receiver<Option<Exit>>);

struct Starting {
    program: String,
    started: oneshot::Sender<Result<Started, LaunchError>>,
}

struct Running {
    pid: i32,
    exit: watch::Sender<Option<Exit>>,
}

impl Remote {
    pub(super) fn start(command: SpawnerCommand, tasks: &Tasks) -> io::Result<Self> {
        let remote = Self {
            shared: Arc::new(Shared {
                command,
                state: Mutex::default(),
            }),
        };
        let (socket, child) = remote.connect()?;
        let shutdown = tasks.shutdown(Stage::Controllers);
        let keeper = remote.clone();
        tasks.spawn("spawner", Stage::Controllers, async move {
            keeper.keep(socket, child, shutdown).await;
            Ok::<(), io::Error>(())
        });
        Ok(remote)
    }

    pub(super) async fn launch(
        &self,
        launch: Launch,
        stdio: Stdio,
    ) -> Result<Process, LaunchError> {
        let program = launch.program.clone();
        let gone = || LaunchError::SpawnerGone {
            program: program.clone(),
        };
        let (started, answer) = oneshot::channel();
        let (id, socket) = {
            let mut state = self.lock();
            let socket = state.socket.clone().ok_or_else(gone)?;
            state.next_id += 1;
            let id = state.next_id;
            state.starting.insert(
                id,
                Starting {
                    program: program.clone(),
                    started,
                },
            );
            (id, socket)
        };
        let request = Request::Start {
            id,
            launch: Box::new(launch),
        };
        if let Err(error) = send(&socket, &request, &stdio.fds()).await {
            self.lock().starting.remove(&id);
            let errno = error.raw_os_error().unwrap_or(libc::E2BIG);
            return Err(LaunchError::Step {
                step: "send to the spawner".to_owned(),
                program,
                errno,
            });
        }
        // Our ends must close, or the readers would never see the end of the output.
        drop(stdio);
        let (pid, exit) = answer.await.map_err(|_| gone())??;
        Ok(Process {
            pid,
            exit,
            control: Control::Remote {
                remote: self.clone(),
                id,
            },
        })
    }

    pub(super) async fn signal(&self, id: u64, signal: i32, group: bool) {
        let Some(socket) = self.lock().socket.clone() else {
            return;
        };
        if let Err(error) = send(&socket, &Request::Signal { id, signal, group }, &[]).await {
            tracing::warn!(signal, %error, "cannot ask the spawner to signal a program");
        }
    }

    /// Kills a program without waiting. Lost if the socket is full, which takes thousands of
    /// requests that the spawner has not read.
    pub(super) fn kill_now(&self, id: u64) {
        let Some(socket) = self.lock().socket.clone() else {
            return;
        };
        let request = Request::Signal {
            id,
            signal: libc::SIGKILL,
            group: true,
        };
        let sent = serde_json::to_vec(&request)
            .map_err(io::Error::from)
            .and_then(|bytes| socket::send(socket.get_ref().as_fd(), &bytes, &[]));
        if let Err(error) = sent {
            tracing::warn!(%error, "cannot ask the spawner to kill a program");
        }
    }

    fn connect(&self) -> io::Result<(Arc<AsyncFd<OwnedFd>>, Child)> {
        let (ours, theirs) = socket::packet_pair()?;
        socket::set_nonblocking(ours.as_fd())?;
        let SpawnerCommand { program, args } = &self.shared.command;
        let child = Command::new(program)
            .args(args)
            .stdin(theirs)
            .stdout(process::Stdio::null())
            .spawn()?;
        let socket = Arc::new(event::watch(ours)?);
        self.lock().socket = Some(Arc::clone(&socket));
        Ok((socket, child))
    }

    /// Reads replies; replaces a spawner that ended. Returns when the stage stops.
    async fn keep(
        &self,
        mut socket: Arc<AsyncFd<OwnedFd>>,
        mut child: Child,
        mut shutdown: Shutdown,
    ) {
        loop {
            tokio::select! {
                () = self.read(&socket) => {}
                () = shutdown.requested() => {
                    // Closing our end is the order to kill everything and end.
                    self.lock().socket = None;
                    return;
                }
            }
            tracing::error!("the spawner process ended; its programs are gone, starting a new one");
            self.disconnected();
            drop(tokio::task::spawn_blocking(move || {
                let _ = child.kill();
                child.wait()
            }));
            (socket, child) = loop {
                tokio::select! {
                    () = tokio::time::sleep(RESTART_PAUSE) => {}
                    () = shutdown.requested() => return,
                }
                match self.connect() {
                    Ok(connected) => break connected,
                    Err(error) => tracing::error!(%error, "cannot start the spawner process"),
                }
            };
        }
    }

    /// Returns once the spawner has closed its end.
    async fn read(&self, socket: &AsyncFd<OwnedFd>) {
        let mut buffer = vec![0; LONGEST_PACKET];
        loop {
            let read = socket.async_io(Interest::READABLE, |fd| {
                socket::receive(fd.as_fd(), &mut buffer)
            });
            match read.await {
                Ok((0, _)) | Err(_) => return,
                Ok((length, _)) => match serde_json::from_slice(&buffer[..length]) {
                    Ok(reply) => self.replied(reply).await,
                    Err(error) => tracing::error!(%error, "cannot read a reply of the spawner"),
                },
            }
        }
    }

    async fn replied(&self, reply: Reply) {
        match reply {
            Reply::Started { id, pid } => {
                let (exit, watch) = watch::channel(None);
                let waiting = {
                    let mut state = self.lock();
                    state.running.insert(id, Running { pid, exit });
                    state.starting.remove(&id)
                };
                let wanted =
                    waiting.is_some_and(|starting| starting.started.send(Ok((pid, watch))).is_ok());
                if !wanted {
                    self.signal(id, libc::SIGKILL, true).await;
                }
            }
            Reply::Failed { id, step, errno } => {
                if let Some(Starting { program, started }) = self.lock().starting.remove(&id) {
                    // Nobody waits if the caller gave up.
                    let _ = started.send(Err(LaunchError::Step {
                        step,
                        program,
                        errno,
                    }));
                }
            }
            Reply::Exited { id, exit } => {
                if let Some(running) = self.lock().running.remove(&id) {
                    running.exit.send_replace(Some(exit));
                }
            }
        }
    }

    fn disconnected(&self) {
        let (starting, running) = {
            let mut state = self.lock();
            state.socket = None;
            (
                std::mem::take(&mut state.starting),
                std::mem::take(&mut state.running),
            )
        };
        for (_, Starting { program, started }) in starting {
            let _ = started.send(Err(LaunchError::SpawnerGone { program }));
        }
        for (_, running) in running {
            // The programs themselves die with their parent; the rest of their groups does not.
            let _ = sys::kill_group(running.pid, libc::SIGKILL);
            running
                .exit
                .send_replace(Some(Exit::signaled(libc::SIGKILL)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(
    socket: &AsyncFd<OwnedFd>,
    request: &Request,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(request)?;
    if bytes.len() <= LONGEST_PACKET {
        return socket
            .async_io(Interest::WRITABLE, |fd| {
                socket::send(fd.as_fd(), &bytes, fds)
            })
            .await;
    }
    if bytes.len() > LONGEST_REQUEST {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let memory = File::from(socket::memory_file(c"launch")?);
    (&memory).write_all(&bytes)?;
    let mut all = vec![memory.as_fd()];
    all.extend_from_slice(fds);
    socket
        .async_io(Interest::WRITABLE, |fd| {
            socket::send(fd.as_fd(), b"M", &all)
        })
        .await
}
