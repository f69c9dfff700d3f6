//! What the node knows of a pod and its containers; [`super::status`] makes the API's status of it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::resize::Refused;

/// A pod as the node sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    /// When the node first saw the pod.
    pub(crate) start_time: Time,
    pub(crate) host_ip: IpAddr,
    /// Known once the sandbox exists.
    pub(crate) pod_ip: Option<IpAddr>,
    /// Init containers first, then containers, each in the spec's order; then the ephemeral ones, in
    /// the order in which they came.
    pub(crate) containers: Vec<Record>,
    /// Every process has ended because the node stops.
    pub(crate) stopped: bool,
    /// Why the whole pod has failed, whatever its containers do.
    pub(crate) failed: Option<Verdict>,
    /// Why a container cannot have the resources that the object says.
    pub(crate) resize_refused: Option<Refused>,
}

/// Why a whole pod has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// One word in CamelCase, the kubelet's.
    pub(crate) reason: &'static str,
    /// A sentence for the user.
    pub(crate) message: String,
}

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Prepares the others, and is over before they start.
    Init,
    /// An init container that runs beside the others.
    Sidecar,
    /// What the pod is for.
    Main,
    /// Came later, to look at the others; runs once.
    Ephemeral,
}

/// A container as the node sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) container_id: Option<String>,
    pub(crate) state: State,
    pub(crate) last: Option<Terminated>,
    pub(crate) restarts: i32,
    pub(crate) ready: bool,
    pub(crate) started: bool,
    /// What it may use and is promised by now.
    pub(crate) resources: Option<ResourceRequirements>,
}

/// Exactly one of these holds for a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Waiting { reason: String, message: String },
    Running { started_at: Time },
    Terminated(Terminated),
}

/// How a run of a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Terminated {
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: Option<Time>,
    pub(crate) finished_at: Time,
    pub(crate) container_id: Option<String>,
}

impl Observed {
    /// A pod that was just seen. Restart counts go on from a status that an earlier life of this
    /// node wrote.
    pub(crate) fn new(pod: &Pod, host_ip: IpAddr, now: Time) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let init = spec
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten());
        let init = init.map(|container| {
            let role = match container.restart_policy.as_deref() {
                Some("Always") => Role::Sidecar,
                _ => Role::Init,
            };
            Record::new(container, role, status)
        });
        let main = spec.into_iter().flat_map(|spec| &spec.containers);
        let main = main.map(|container| Record::new(container, Role::Main, status));
        let start_time = status
            .and_then(|status| status.start_time.clone())
            .unwrap_or(now);
        Self {
            start_time,
            host_ip,
            pod_ip: None,
            containers: init.chain(main).collect(),
            stopped: false,
            failed: None,
            resize_refused: None,
        }
    }

    /// The containers that the pod's readiness needs: all but those that prepare the others.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &Record> {
        let all = self.containers.iter();
        all.filter(|record| matches!(record.role, Role::Sidecar | Role::Main))
    }

    /// The containers that the pod is for.
    pub(crate) fn main(&self) -> impl Iterator<Item = &Record> {
        let all = self.containers.iter();
        all.filter(|record| record.role == Role::Main)
    }

    /// Whether there is something to tell that will not change within milliseconds: everything is
    /// ready, or something went wrong.
    pub(crate) fn is_settled(&self) -> bool {
        self.stopped
            || self.main().all(|record| record.ready)
            || self.containers.iter().any(Record::has_news)
    }
}

impl Record {
    pub(crate) fn new(container: &Container, role: Role, status: Option<&PodStatus>) -> Self {
        let init = matches!(role, Role::Init | Role::Sidecar);
        let known = status.and_then(|status| match role {
            Role::Init | Role::Sidecar => status.init_container_statuses.as_deref(),
            Role::Main => status.container_statuses.as_deref(),
            Role::Ephemeral => None,
        });
        let mut known = known.into_iter().flatten();
        let known = known.find(|status| status.name == container.name);
        Self {
            name: container.name.clone(),
            role,
            image: container.image.clone().unwrap_or_default(),
            image_id: String::new(),
            container_id: None,
            state: State::Waiting {
                reason: if init {
                    "PodInitializing"
                } else {
                    "ContainerCreating"
                }
                .to_owned(),
                message: String::new(),
            },
            last: None,
            restarts: known.map_or(0, runs_before),
            ready: false,
            started: false,
            resources: container.resources.clone(),
        }
    }

    fn has_news(&self) -> bool {
        match &self.state {
            State::Waiting { message, .. } => !message.is_empty(),
            State::Running { .. } => false,
            State::Terminated(end) => self.role != Role::Init || end.exit_code != 0,
        }
    }

    /// The program runs.
    pub(crate) fn run(&mut self, started_at: Time, container_id: String) {
        self.stop();
        self.state = State::Running { started_at };
        self.container_id = Some(container_id);
    }

    /// The container does not run, and why.
    pub(crate) fn wait(&mut self, reason: &str, message: impl Into<String>) {
        self.stop();
        self.state = State::Waiting {
            reason: reason.to_owned(),
            message: message.into(),
        };
    }

    /// The program has ended.
    pub(crate) fn end(&mut self, end: Terminated) {
        self.stop();
        self.state = State::Terminated(end);
    }

    fn stop(&mut self) {
        self.ready = false;
        self.started = false;
        if let State::Terminated(end) = &self.state {
            self.last = Some(end.clone());
        }
    }

    /// Exit code of a container that has ended.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        match &self.state {
            State::Terminated(end) => Some(end.exit_code),
            State::Waiting { .. } | State::Running { .. } => None,
        }
    }

    /// Whether it has run at all.
    pub(crate) fn has_run(&self) -> bool {
        !matches!(self.state, State::Waiting { .. }) || self.last.is_some()
    }
}

/// Restarts that an earlier life of this node told, and the run that ended with it.
fn runs_before(status: &ContainerStatus) -> i32 {
    let runs = status.state.as_ref();
    let ran = runs.is_some_and(|state| state.waiting.is_none());
    let before = status.last_state.as_ref();
    let has_ended = before.is_some_and(|state| state.terminated.is_some());
    status.restart_count + i32::from(ran || has_ended)
}
