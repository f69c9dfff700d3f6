//! Everything that the parts of one pod's state machine share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use super::attach::{Door, Tap};
use super::late::{Extra, Late};
use super::record::{Observed, Record, Role};
use crate::downward::Facts;
use crate::log::Logs;
use crate::object::Objects;
use crate::room::Room;
use crate::runtime::{Failure, Mount, Runtime, Sandbox, Start};
use crate::session::Sessions;
use crate::settings::Settings;
use crate::spawner::Process;
use crate::stdio::Resize;

/// What all pods of the node share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) images: images::Store,
    pub(crate) logs: Logs,
    pub(crate) runtimes: Vec<Arc<dyn Runtime>>,
    pub(crate) sessions: Sessions,
    pub(crate) room: Room,
}

impl Shared {
    fn runtime(&self, pod: &Pod) -> Result<Arc<dyn Runtime>, Failure> {
        let asked = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.runtime_class_name.as_deref());
        let name = asked.unwrap_or(&self.settings.default_runtime);
        let found = self.runtimes.iter().find(|runtime| runtime.name() == name);
        found.cloned().ok_or_else(|| {
            let known: Vec<_> = self.runtimes.iter().map(|runtime| runtime.name()).collect();
            Failure::sandbox(format!(
                "runtimeClassName {name:?} is not available here; use {}",
                known.join(" or ")
            ))
        })
    }
}

/// What the node's manager tells a pod.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// The newest object seen.
    pub(crate) pod: Arc<Pod>,
    /// The object is gone.
    pub(crate) deleted: bool,
    /// The node stops.
    pub(crate) node_stops: bool,
}

impl Update {
    /// Whether the pod has to end, for whatever reason.
    fn ends(&self) -> bool {
        self.deleted || self.node_stops || self.pod.metadata.deletion_timestamp.is_some()
    }
}

/// One pod.
pub(crate) struct Context {
    pub(crate) node: Arc<Shared>,
    /// The pod as first seen; its spec does not change.
    pub(crate) pod: Arc<Pod>,
    pub(crate) updates: watch::Receiver<Update>,
    pub(crate) objects: Objects,
    pub(crate) observed: watch::Sender<Observed>,
    pub(crate) runtime: Result<Arc<dyn Runtime>, Failure>,
    pub(crate) sandbox: OnceLock<Sandbox>,
    pub(crate) log_dir: PathBuf,
    /// Set once the pod has to end: nothing is started or restarted from then on.
    stopping: watch::Sender<bool>,
    running: Mutex<Vec<Option<Arc<Run>>>>,
    /// Containers that came later; their indexes follow those of the others.
    late: Late,
}

/// One run of a container.
pub(crate) struct Run {
    pub(crate) index: usize,
    pub(crate) process: Process,
    pub(crate) prepared: Prepared,
    pub(crate) attached: Attached,
}

/// What somebody who attaches to a run gets.
pub(crate) struct Attached {
    pub(crate) tap: Tap,
    /// `None` if the container has no input.
    pub(crate) door: Option<Door>,
    /// Tells its terminal the size, if it has one.
    pub(crate) resize: Option<Resize>,
}

/// What a run was started with; hooks and probes use the same.
pub(crate) struct Prepared {
    pub(crate) image: images::Image,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) termination_message: PathBuf,
}

impl Context {
    pub(crate) fn new(node: Arc<Shared>, updates: watch::Receiver<Update>) -> Self {
        let pod = Arc::clone(&updates.borrow().pod);
        let observed = Observed::new(&pod, node.settings.address, now());
        let namespace = pod.namespace().unwrap_or_default();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        node.room.hold(uid, api::requests::of(&pod));
        Self {
            objects: Objects::new(node.client.clone(), &namespace),
            runtime: node.runtime(&pod),
            log_dir: node.logs.of_pod(
                &namespace,
                &pod.name_any(),
                pod.metadata.uid.as_deref().unwrap_or_default(),
            ),
            running: Mutex::new(vec![None; observed.containers.len()]),
            observed: watch::channel(observed).0,
            sandbox: OnceLock::new(),
            stopping: watch::channel(false).0,
            late: Late::default(),
            node,
            pod,
            updates,
        }
    }

    /// The pod's own directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.node
            .settings
            .dir
            .join("pods")
            .join(self.pod.metadata.uid.as_deref().unwrap_or_default())
    }

    /// Init containers first, then containers, then ephemeral ones: the order of
    /// [`Observed::containers`].
    pub(crate) fn container(&self, index: usize) -> &Container {
        let spec = self.pod.spec.as_ref();
        let init = spec
            .and_then(|spec| spec.init_containers.as_deref())
            .unwrap_or_default();
        let main = spec
            .map(|spec| spec.containers.as_slice())
            .unwrap_or_default();
        let known = init.get(index).or_else(|| main.get(index - init.len()));
        known.unwrap_or_else(|| &self.late.get(index - init.len() - main.len()).container)
    }

    /// Takes an ephemeral container in, and returns its index.
    pub(crate) fn add(&self, container: &EphemeralContainer) -> usize {
        let late = self.late.push(Extra::new(container));
        let record = Record::new(&late.container, Role::Ephemeral, None);
        let mut index = 0;
        self.observed.send_modify(|observed| {
            index = observed.containers.len();
            observed.containers.push(record);
        });
        index
    }

    /// The run whose processes a container sees: that of the container that it was made to look at.
    pub(crate) fn target(&self, index: usize) -> Result<Option<Arc<Run>>, Failure> {
        if self.role(index) != Role::Ephemeral {
            return Ok(None);
        }
        let mut place = index;
        for record in &self.observed.borrow().containers {
            place -= usize::from(record.role != Role::Ephemeral);
        }
        let Some(name) = &self.late.get(place).target else {
            return Ok(None);
        };
        match self.running(name) {
            Some(run) => Ok(Some(run)),
            None => Err(Failure::create(format!(
                "container {name:?}, whose processes were asked for, does not run"
            ))),
        }
    }

    /// What a container is in its pod.
    pub(crate) fn role(&self, index: usize) -> Role {
        self.observed.borrow().containers[index].role
    }

    /// Resolves once a container has started, by its startup probe if it has one; `false` if the
    /// pod has to end before.
    pub(crate) async fn started(&self, index: usize) -> bool {
        let mut observed = self.observed.subscribe();
        tokio::select! {
            // The sender lives in `self`.
            _ = observed.wait_for(|observed| observed.containers[index].started) => true,
            () = self.stopped() => false,
        }
    }

    /// `restartPolicy`.
    pub(crate) fn restart_policy(&self) -> Option<&str> {
        self.pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref())
    }

    /// Changes what is known of a container; the status follows.
    pub(crate) fn record(&self, index: usize, change: impl FnOnce(&mut Record)) {
        self.observed.send_if_modified(|observed| {
            let before = observed.containers[index].clone();
            change(&mut observed.containers[index]);
            before != observed.containers[index]
        });
    }

    /// Nothing is started from now on.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the pod has to end.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Resolves once the pod has to end.
    pub(crate) async fn stopped(&self) {
        // The sender lives in `self`.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }

    /// Waits, unless the pod has to end before. `false` then.
    pub(crate) async fn pause(&self, pause: std::time::Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.stopped() => false,
        }
    }

    /// Resolves with the reason as soon as the pod has to end.
    pub(crate) async fn end_wanted(&self) -> Update {
        self.updated(Update::ends).await
    }

    /// Resolves once an update is as wanted.
    pub(crate) async fn updated(&self, wanted: impl Fn(&Update) -> bool) -> Update {
        let mut updates = self.updates.clone();
        match updates.wait_for(|update| wanted(update)).await {
            Ok(update) => update.clone(),
            // The manager is gone: the node stops.
            Err(_) => Update {
                node_stops: true,
                ..self.updates.borrow().clone()
            },
        }
    }

    /// Remembers the run of a container, for stopping it.
    pub(crate) fn set_running(&self, index: usize, run: Option<Arc<Run>>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.len() <= index {
            running.resize(index + 1, None);
        }
        running[index] = run;
    }

    /// The run of a container that has not ended.
    pub(crate) fn running(&self, container: &str) -> Option<Arc<Run>> {
        let all = self.all_running();
        all.into_iter()
            .find(|run| self.container(run.index).name == container)
    }

    /// Every run that has not ended.
    pub(crate) fn all_running(&self) -> Vec<Arc<Run>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().flatten().cloned().collect()
    }

    /// What volumes and environments may tell of the pod.
    pub(crate) fn facts<'a>(&'a self, sandbox: &Sandbox) -> Facts<'a> {
        let settings = &self.node.settings;
        Facts {
            pod: &self.pod,
            pod_ip: sandbox.pod_ip,
            node_name: &settings.name,
            host_ip: settings.address,
        }
    }

    /// What the runtime needs to start a container or a command in it.
    pub(crate) fn start<'a>(
        &'a self,
        index: usize,
        prepared: &'a Prepared,
        sandbox: &'a Sandbox,
    ) -> Start<'a> {
        Start {
            pod: &self.pod,
            container: self.container(index),
            sandbox,
            image: &prepared.image,
            env: &prepared.env,
            command: &prepared.command,
            args: &prepared.args,
            mounts: &prepared.mounts,
            termination_message: prepared.termination_message.clone(),
            target: None,
        }
    }
}

impl Drop for Context {
    /// Nothing runs unwatched: whatever is left when the pod's task ends, however it ends, dies.
    fn drop(&mut self) {
        for run in self.all_running() {
            run.process.kill_now();
        }
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        self.node.room.release(uid);
    }
}

/// The wall clock in whole seconds, as the API stores times.
pub(crate) fn now() -> Time {
    let now = jiff::Timestamp::now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
