//! What the containers of a pod share with each other or with the machine, beside the network.
//!
//! Usually every container sees its own processes only. A pod may ask for one view of them all, or
//! for the machine's; an ephemeral container may look at the processes of one other container.

use std::fs::File;
use std::io;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::network::Network;
use crate::runtime::{Failure, Start};
use crate::spawner::{self, Launch, Pids, Process, Spawner, Stdio, pause};

/// Only a machine in trouble takes longer to start the process.
const START_TIME: Duration = Duration::from_secs(30);

/// What a pod's containers share.
pub(super) struct Sharing {
    pids: PodPids,
    pub(super) host_ipc: bool,
}

enum PodPids {
    /// Each container sees its own.
    Own,
    /// All see those of this process's namespace: it is the first there and takes in orphans.
    Pod(Process),
    Host,
}

impl Sharing {
    /// Makes what the pod asks for.
    pub(super) async fn make(
        pod: &Pod,
        network: Option<&Network>,
        spawner: &Spawner,
    ) -> Result<Self, Failure> {
        let asks =
            |field: fn(&PodSpec) -> Option<bool>| pod.spec.as_ref().and_then(field) == Some(true);
        let pids = if asks(|spec| spec.host_pid) {
            PodPids::Host
        } else if asks(|spec| spec.share_process_namespace) {
            let first = first(network, spawner).await;
            PodPids::Pod(first.map_err(|error| {
                Failure::sandbox(format!("cannot share processes in the pod: {error}"))
            })?)
        } else {
            PodPids::Own
        };
        Ok(Self {
            pids,
            host_ipc: asks(|spec| spec.host_ipc),
        })
    }

    /// Whose processes a container sees.
    pub(super) fn pids(&self, start: &Start<'_>) -> Pids {
        match (&self.pids, start.target) {
            (PodPids::Host, _) => Pids::Host,
            (PodPids::Pod(first), _) => Pids::Of(first.pid()),
            (PodPids::Own, Some(target)) => Pids::Of(target.pid()),
            (PodPids::Own, None) => Pids::Own,
        }
    }

    /// Undoes [`Self::make`].
    pub(super) async fn remove(&self) {
        if let PodPids::Pod(first) = &self.pids {
            first.kill().await;
            first.exited().await;
        }
    }
}

impl Drop for Sharing {
    /// Nothing runs that nobody watches.
    fn drop(&mut self) {
        if let PodPids::Pod(first) = &self.pids {
            first.kill_now();
        }
    }
}

/// Starts [`pause`], and waits until there is nothing left that others could take from it.
async fn first(network: Option<&Network>, spawner: &Spawner) -> io::Result<Process> {
    let (reader, stdout) = io::pipe()?;
    let stdio = Stdio::Fds {
        stdin: None,
        stdout: stdout.into(),
        stderr: File::options().write(true).open("/dev/null")?.into(),
    };
    let launch = Launch {
        program: pause::PROGRAM.to_owned(),
        args: vec!["pause".to_owned(), pause::ROLE.to_owned()],
        container: Some(spawner::Container {
            programs: vec![pause::PROGRAM.to_owned()],
            network: network.map(Network::path),
            is_bare: true,
            ..spawner::Container::default()
        }),
        ..Launch::default()
    };
    let started = spawner.launch(launch, stdio).await;
    let process = started.map_err(io::Error::other)?;
    let guard = process.kill_on_drop();
    let mut said = String::new();
    let mut reader = Receiver::from_owned_fd(reader.into())?;
    let read = tokio::time::timeout(START_TIME, reader.read_to_string(&mut said));
    read.await
        .map_err(|_| io::Error::other("no word of it"))??;
    if said != pause::READY {
        return Err(io::Error::other(said));
    }
    guard.disarm();
    Ok(process)
}
