//! What the containers of a pod share with each other or with the machine, beside the network.
//!
//! Usually every container sees its own processes only. A pod may ask for one view of them all, or
//! for the machine's; an ephemeral container may look at the processes of one other container.

use std::fs::File;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::runtime::{Failure, Start};
use crate::spawner::{self, Launch, Pids, Process, Spawner, Stdio};

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
    pub(super) async fn make(pod: &Pod, spawner: &Spawner) -> Result<Self, Failure> {
        let asks =
            |field: fn(&PodSpec) -> Option<bool>| pod.spec.as_ref().and_then(field) == Some(true);
        let pids = if asks(|spec| spec.host_pid) {
            PodPids::Host
        } else if asks(|spec| spec.share_process_namespace) {
            PodPids::Pod(pause(spawner).await?)
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

async fn pause(spawner: &Spawner) -> Result<Process, Failure> {
    let null = || {
        let file = File::options().write(true).open("/dev/null");
        file.map_err(|error| Failure::sandbox(format!("cannot open /dev/null: {error}")))
    };
    let stdio = Stdio::Fds {
        stdin: None,
        stdout: null()?.into(),
        stderr: null()?.into(),
    };
    let launch = Launch {
        program: "/pause".to_owned(),
        container: Some(spawner::Container {
            pause: true,
            ..spawner::Container::default()
        }),
        ..Launch::default()
    };
    let started = spawner.launch(launch, stdio).await;
    started.map_err(|error| Failure::sandbox(format!("cannot share processes in the pod: {error}")))
}
