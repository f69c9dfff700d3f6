//! Containers that a running pod gets: those of `kubectl debug`.
//!
//! The list only grows, as the API demands, so whoever has a container keeps a plain reference to
//! it. [`follow`] starts each once, from the moment the pod has its sandbox; none is started again.

use std::sync::OnceLock;

use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer};

use super::container::{self, End};
use super::context::{Context, now};
use super::record::Terminated;
use super::stop;
use crate::runtime::Sandbox;

/// A container that came later.
#[derive(Debug)]
pub(crate) struct Extra {
    pub(crate) container: Container,
    /// The container whose processes it wants to see.
    pub(crate) target: Option<String>,
}

impl Extra {
    pub(crate) fn new(given: &EphemeralContainer) -> Self {
        let given = given.clone();
        let target = given.target_container_name.filter(|name| !name.is_empty());
        // The API refuses all other fields of an ephemeral container.
        let container = Container {
            name: given.name,
            image: given.image,
            command: given.command,
            args: given.args,
            working_dir: given.working_dir,
            env: given.env,
            env_from: given.env_from,
            volume_mounts: given.volume_mounts,
            volume_devices: given.volume_devices,
            image_pull_policy: given.image_pull_policy,
            security_context: given.security_context,
            stdin: given.stdin,
            stdin_once: given.stdin_once,
            tty: given.tty,
            termination_message_path: given.termination_message_path,
            termination_message_policy: given.termination_message_policy,
            ..Container::default()
        };
        Self { container, target }
    }
}

/// A list that only grows: what is in it stays where it is.
#[derive(Debug, Default)]
pub(crate) struct Late {
    first: OnceLock<Box<Link>>,
}

#[derive(Debug)]
struct Link {
    extra: Extra,
    next: OnceLock<Box<Link>>,
}

impl Late {
    /// Adds to the end. Only one task of a pod does.
    pub(crate) fn push(&self, extra: Extra) -> &Extra {
        let mut end = &self.first;
        while let Some(link) = end.get() {
            end = &link.next;
        }
        let link = Link {
            extra,
            next: OnceLock::new(),
        };
        &end.get_or_init(|| Box::new(link)).extra
    }

    /// One that was added; the place is counted from the first.
    pub(crate) fn get(&self, place: usize) -> &Extra {
        let links = std::iter::successors(self.first.get(), |link| link.next.get());
        let mut links = links.skip(place);
        &links
            .next()
            .expect("only places of the list are used")
            .extra
    }
}

/// Starts what the pod's object lists, once each, for as long as it is polled.
pub(super) async fn follow<'a>(
    context: &'a Context,
    sandbox: &'a Sandbox,
    runs: &mut Runs<'a>,
) -> std::convert::Infallible {
    let mut updates = context.updates.clone();
    let mut seen = 0;
    loop {
        let pod = updates.borrow_and_update().pod.clone();
        let listed = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.ephemeral_containers.as_deref())
            .unwrap_or_default();
        for one in listed.iter().skip(seen) {
            let index = context.add(one);
            match ended_before(context, &one.name) {
                Some(end) => context.record(index, |record| record.end(end)),
                None => runs.push(Box::pin(container::run(context, index, sandbox))),
            }
        }
        seen = seen.max(listed.len());
        tokio::select! {
            changed = updates.changed() => if changed.is_err() {
                // The manager is gone: the node stops.
                while runs.next().await.is_some() {}
                std::future::pending::<()>().await;
            },
            Some(_) = runs.next() => {}
        }
    }
}

/// How a container ended that an earlier life of this node ran.
fn ended_before(context: &Context, name: &str) -> Option<Terminated> {
    let status = context.pod.status.as_ref()?;
    let mut known = status.ephemeral_container_statuses.iter().flatten();
    let known = known.find(|status| status.name == name)?;
    let state = known.state.as_ref()?;
    let end = state.terminated.clone();
    let started_at = match (&end, &state.running) {
        (Some(end), _) => end.started_at.clone(),
        (None, Some(running)) => running.started_at.clone(),
        (None, None) => return None,
    };
    let end = end.unwrap_or_default();
    let lost = end.finished_at.is_none();
    Some(Terminated {
        exit_code: if lost { KILLED } else { end.exit_code },
        signal: end.signal,
        reason: end.reason.unwrap_or_else(|| "Error".to_owned()),
        message: match lost {
            true => "the node was started anew".to_owned(),
            false => end.message.unwrap_or_default(),
        },
        started_at,
        finished_at: end.finished_at.unwrap_or_else(now),
        container_id: end.container_id.or_else(|| known.container_id.clone()),
    })
}

/// Exit code of what SIGKILL ended.
const KILLED: i32 = 137;

/// Ephemeral containers that run.
pub(super) type Runs<'a> = FuturesUnordered<futures::future::BoxFuture<'a, End>>;

/// Ends those that still run after the pod's own containers.
pub(super) async fn end(context: &Context, mut runs: Runs<'_>) {
    if runs.is_empty() {
        return;
    }
    // Who ends the whole pod ends these too.
    let alone = !context.is_stopping();
    context.stop();
    let end = async {
        if alone {
            stop::rest(context).await;
        }
    };
    tokio::join!(end, async { while runs.next().await.is_some() {} });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_first_stays_where_it_is() {
        let named = |name: &str| {
            let given = EphemeralContainer {
                name: name.to_owned(),
                target_container_name: Some(String::new()),
                ..EphemeralContainer::default()
            };
            Extra::new(&given)
        };
        let late = Late::default();
        let first = late.push(named("a"));
        late.push(named("b"));
        assert!(std::ptr::eq(first, late.get(0)));
        assert_eq!(late.get(1).container.name, "b");
        assert_eq!(late.get(1).target, None);
    }
}
