//! Which container of a pod, and which of its runs, a request means; refusals in Kubernetes' words.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::log;

/// Why a container cannot be asked. The status code is what `kubectl` expects.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("pods {pod:?} not found")]
    NoPod { pod: String },
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer { pod: String, container: String },
    #[error("a container name must be specified for pod {pod}, choose one of: [{choices}]{more}")]
    WhichContainer {
        pod: String,
        choices: String,
        more: String,
    },
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    NotStarted {
        pod: String,
        container: String,
        reason: String,
    },
    #[error("container {container:?} in pod {pod:?} is not available")]
    NotAvailable { pod: String, container: String },
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious { pod: String, container: String },
    #[error("container not found ({container:?})")]
    NotRunning { container: String },
}

impl ContainerError {
    /// The HTTP status of the answer.
    pub fn code(&self) -> u16 {
        match self {
            Self::NoPod { .. } => 404,
            Self::NotRunning { .. } => 500,
            Self::NoContainer { .. }
            | Self::WhichContainer { .. }
            | Self::NotStarted { .. }
            | Self::NotAvailable { .. }
            | Self::NoPrevious { .. } => 400,
        }
    }
}

/// The container that a request means. `asked` is what it names.
pub(crate) fn container(pod: &Pod, asked: Option<&str>) -> Result<String, ContainerError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let main: Vec<_> = spec
        .containers
        .iter()
        .map(|container| container.name.clone())
        .collect();
    let init: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| container.name.clone())
        .collect();
    let ephemeral = spec.ephemeral_containers.into_iter().flatten();
    let ephemeral = ephemeral.map(|container| container.name);
    let default = pod
        .annotations()
        .get("kubectl.kubernetes.io/default-container")
        .map(String::as_str);
    match asked.or_else(|| default.filter(|name| main.iter().any(|known| known == name))) {
        Some(name) => {
            let mut known = main.into_iter().chain(init).chain(ephemeral);
            let known = known.find(|known| known == name);
            known.ok_or_else(|| ContainerError::NoContainer {
                pod: pod.name_any(),
                container: name.to_owned(),
            })
        }
        None if main.len() == 1 => Ok(main.concat()),
        None => Err(ContainerError::WhichContainer {
            pod: pod.name_any(),
            choices: main.join(" "),
            more: match init.is_empty() {
                true => String::new(),
                false => format!(" or one of the init containers: [{}]", init.join(" ")),
            },
        }),
    }
}

/// The number of the run whose file is wanted. Files tell more than the status, which may lag.
pub(crate) fn run(
    pod: &Pod,
    container: &str,
    newest: Option<log::Newest>,
    previous: bool,
) -> Result<i32, ContainerError> {
    let status = pod.status.as_ref();
    let statuses = status.into_iter().flat_map(|status| {
        status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .chain(&status.ephemeral_container_statuses)
            .flatten()
    });
    let state = statuses
        .into_iter()
        .find(|status| status.name == container)
        .and_then(|status| status.state.as_ref());
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let Some(newest) = newest else {
        // It ran, and its files went with the pod.
        if state.is_some_and(|state| state.running.is_some() || state.terminated.is_some()) {
            return Err(ContainerError::NotAvailable {
                pod: pod.name_any(),
                container: container.to_owned(),
            });
        }
        let reason = waiting.and_then(|waiting| waiting.reason.clone());
        return Err(ContainerError::NotStarted {
            pod: pod.name_any(),
            container: container.to_owned(),
            reason: reason.unwrap_or_else(|| "ContainerCreating".to_owned()),
        });
    };
    let policy = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    // A container that will be started again: the run that has ended is both newest and previous.
    let between_runs =
        newest.ended && (waiting.is_some() || policy.is_none_or(|policy| policy == "Always"));
    match previous && !between_runs {
        false => Ok(newest.run),
        true if newest.run > 0 => Ok(newest.run - 1),
        true => Err(ContainerError::NoPrevious {
            pod: pod.name_any(),
            container: container.to_owned(),
        }),
    }
}
