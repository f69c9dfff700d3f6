//! The spawner process: one thread that waits for requests and for the end of its children.
//!
//! It never panics on input and keeps no state but the table of running programs. It is the
//! parent of every program, so a pid in its table cannot be reused before it has been reaped.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::containers;
use super::heir::Heir;
use super::protocol::{Exit, LONGEST_PACKET, LONGEST_REQUEST, Launch, Reply, Request};
use crate::sys::child::{self, Failed, Plan, Stdio};
use crate::sys::signal::{self, Ended};
use crate::sys::{self, socket};

/// How long killed programs may take to disappear before the spawner ends anyway.
const LAST_REAP: Duration = Duration::from_secs(5);

pub(super) fn main() -> ExitCode {
    match Server::start().and_then(|mut server| server.serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "spawner failed");
            ExitCode::FAILURE
        }
    }
}

struct Server {
    heir: Heir,
    socket: OwnedFd,
    signals: OwnedFd,
    null: File,
    /// Pid by id, and back.
    pids: HashMap<u64, i32>,
    ids: HashMap<i32, u64>,
    /// First processes of containers, and the signal that they were killed in place of.
    containers: HashMap<i32, Option<i32>>,
    /// Commands in containers. What they leave behind is the container's and ends with it.
    joined: HashSet<i32>,
}

impl Server {
    fn start() -> io::Result<Self> {
        signal::new_session();
        signal::adopt_orphans()?;
        let signals = signal::block_all_and_watch_children()?;
        let socket = signal::duplicate_high(io::stdin().as_fd())?;
        let null = File::open("/dev/null")?;
        signal::replace_standard(null.as_fd(), 0)?;
        let null = File::from(signal::duplicate_high(null.as_fd())?);
        Ok(Self {
            heir: Heir::of_parent(),
            socket,
            signals,
            null,
            pids: HashMap::new(),
            ids: HashMap::new(),
            containers: HashMap::new(),
            joined: HashSet::new(),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; LONGEST_PACKET];
        loop {
            let fds = [self.socket.as_raw_fd(), self.signals.as_raw_fd()];
            let [request, ended] = match signal::wait_readable(fds, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if ended {
                self.reap();
            }
            if request {
                match socket::receive(self.socket.as_fd(), &mut buffer) {
                    Ok((0, _)) => break,
                    Ok((length, fds)) => self.handle(&buffer[..length], fds),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
        self.kill_everything();
        self.heir.take_away();
        Ok(())
    }

    fn handle(&mut self, bytes: &[u8], mut fds: Vec<OwnedFd>) {
        let in_memory = if bytes.is_empty() || bytes == b"M" {
            read_memory_file(&mut fds)
        } else {
            None
        };
        match serde_json::from_slice(in_memory.as_deref().unwrap_or(bytes)) {
            Ok(Request::Start { id, launch }) => self.launch(id, &launch, &fds),
            Ok(Request::Signal { id, signal, group }) => self.signal(id, signal, group),
            Err(error) => tracing::error!(%error, "spawner cannot read a request"),
        }
    }

    fn launch(&mut self, id: u64, launch: &Launch, fds: &[OwnedFd]) {
        let null = self.null.as_fd();
        let stdio = match (fds, launch.terminal) {
            ([console], true) => Ok(Stdio::Terminal(console.as_fd())),
            ([stdout, stderr], false) => Ok(Stdio::Fds([null, stdout.as_fd(), stderr.as_fd()])),
            ([stdin, stdout, stderr], false) => {
                Ok(Stdio::Fds([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]))
            }
            _ => Err(Failed {
                step: "redirect the output of",
                errno: libc::EBADF,
            }),
        };
        let started = stdio.and_then(|stdio| match &launch.container {
            Some(container) => containers::start(launch, container, stdio),
            None => plan(launch, stdio)
                .ok_or(Failed {
                    step: "read the arguments of",
                    errno: libc::EINVAL,
                })
                .and_then(|plan| child::start(&plan)),
        });
        let reply = match started {
            Ok(pid) => {
                self.pids.insert(id, pid);
                self.ids.insert(pid, id);
                match &launch.container {
                    Some(container) if container.join.is_some() => {
                        self.joined.insert(pid);
                    }
                    Some(_) => {
                        self.containers.insert(pid, None);
                    }
                    None => {}
                }
                Reply::Started { id, pid }
            }
            Err(failed) => Reply::Failed {
                id,
                step: failed.step.to_owned(),
                errno: failed.errno,
            },
        };
        self.reply(&reply);
    }

    fn signal(&mut self, id: u64, signal: i32, group: bool) {
        // A program that has ended meanwhile is fine: its exit is on its way.
        let Some(pid) = self.pids.get(&id) else {
            return;
        };
        let mut signal = signal;
        if let Some(instead) = self.containers.get_mut(pid)
            && containers::would_be_ignored(*pid, signal)
        {
            *instead = Some(signal);
            signal = libc::SIGKILL;
        }
        let sent = if group {
            sys::kill_group(*pid, signal)
        } else {
            sys::kill(*pid, signal)
        };
        if let Err(error) = sent {
            tracing::warn!(pid, signal, %error, "cannot signal a program");
        }
    }

    fn reap(&mut self) {
        signal::acknowledge(self.signals.as_fd());
        while let Ok(Some((pid, ended))) = signal::reap() {
            let Some(id) = self.ids.remove(&pid) else {
                // A killed orphan may have left orphans of its own.
                self.kill_orphans();
                continue;
            };
            self.pids.remove(&id);
            if !self.joined.remove(&pid) {
                // What is left of its process group, and what it inherited from its descendants.
                let _ = sys::kill_group(pid, libc::SIGKILL);
                self.kill_orphans();
            }
            let instead = self.containers.remove(&pid).flatten();
            let exit = match ended {
                Ended::Exited(code) => Exit::exited(code),
                Ended::Signaled(libc::SIGKILL) => Exit::signaled(instead.unwrap_or(libc::SIGKILL)),
                Ended::Signaled(signal) => Exit::signaled(signal),
            };
            self.reply(&Reply::Exited { id, exit });
        }
    }

    /// Every child that we did not start was left behind by a program that has ended.
    fn kill_orphans(&self) {
        for pid in children() {
            if !self.ids.contains_key(&pid) {
                let _ = sys::kill_group(pid, libc::SIGKILL);
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
    }

    fn kill_everything(&mut self) {
        for pid in self.ids.keys() {
            let _ = sys::kill_group(*pid, libc::SIGKILL);
        }
        self.ids.clear();
        let deadline = Instant::now() + LAST_REAP;
        while Instant::now() < deadline {
            self.kill_orphans();
            signal::acknowledge(self.signals.as_fd());
            loop {
                match signal::reap() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return, // No child is left.
                }
            }
            let _ =
                signal::wait_readable([self.signals.as_raw_fd()], Some(Duration::from_millis(100)));
        }
    }

    fn reply(&self, reply: &Reply) {
        let Ok(bytes) = serde_json::to_vec(reply) else {
            return;
        };
        // The socket blocks; an error means that the main process is gone, which `serve` sees too.
        let _ = socket::send(self.socket.as_fd(), &bytes, &[]);
    }
}

fn plan<'a>(launch: &Launch, stdio: Stdio<'a>) -> Option<Plan<'a>> {
    let strings = |list: &[String]| {
        list.iter()
            .map(|s| CString::new(s.as_str()).ok())
            .collect::<Option<Vec<_>>>()
    };
    Some(Plan {
        program: CString::new(launch.program.as_str()).ok()?,
        args: strings(&launch.args)?,
        env: strings(&launch.env)?,
        directory: Some(CString::new(launch.directory.as_deref().unwrap_or("/")).ok()?),
        user: launch.user.as_ref().map(|user| child::User {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
        }),
        no_new_privileges: launch.no_new_privileges,
        stdio,
    })
}

fn read_memory_file(fds: &mut Vec<OwnedFd>) -> Option<Vec<u8>> {
    if fds.is_empty() {
        return None;
    }
    let mut file = File::from(fds.remove(0));
    file.rewind().ok()?;
    let mut bytes = Vec::new();
    file.take(LONGEST_REQUEST as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// Our children: one small file where the kernel offers it, else a walk through /proc.
fn children() -> Vec<i32> {
    let me = std::process::id();
    if let Ok(list) = std::fs::read_to_string(format!("/proc/self/task/{me}/children")) {
        return list
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
    }
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent(*pid) == Some(me)).collect()
}

/// The second field after the name, which is in parentheses and may hold anything.
fn parent(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?
        .1
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}
