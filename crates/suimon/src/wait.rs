//! Waiting until Knative Services are Ready, telling their conditions meanwhile.

use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use api::condition::{self, Condition, Truth};
use api::serving::v1::Service;
use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};

use crate::progress::Progress;

/// A failure must stand this long before it counts: the first reconciles may see a child that is
/// not there yet.
const FAILURE_STANDS: Duration = Duration::from_secs(2);

/// How waiting ended.
pub enum Outcome {
    /// Ready; the Service as it was then.
    Ready(Box<Service>),
    /// Not Ready, and it will not become so by itself.
    Failed { reason: String, message: String },
}

/// Waits until the Service is Ready in its present generation, fails, or `limit` is over.
pub async fn ready(
    client: &Client,
    namespace: &str,
    name: &str,
    limit: Duration,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let mut seen = pin!(watcher::watch_object(api, name));
    let deadline = tokio::time::Instant::now() + limit;
    let mut failure: Option<(tokio::time::Instant, String, String)> = None;
    loop {
        let until = failure.as_ref().map_or(deadline, |(since, ..)| {
            (*since + FAILURE_STANDS).min(deadline)
        });
        tokio::select! {
            event = seen.next() => match event {
                Some(Ok(Some(service))) => match judge(&service, progress) {
                    Verdict::Ready => return Ok(Outcome::Ready(Box::new(service))),
                    Verdict::Failed { reason, message } => {
                        let since = failure.take().map_or_else(tokio::time::Instant::now, |(since, ..)| since);
                        failure = Some((since, reason, message));
                    }
                    Verdict::Waiting => failure = None,
                },
                Some(Ok(None)) => {}
                Some(Err(error)) => tracing::debug!(%error, "watch failed, renewing it"),
                None => bail!("the API closed the watch of Service {namespace}/{name}"),
            },
            () = tokio::time::sleep_until(until) => match failure.take() {
                Some((_, reason, message)) => return Ok(Outcome::Failed { reason, message }),
                None => bail!("Service {namespace}/{name} is not Ready after {limit:?}; see `suimon describe ksvc {name}`"),
            },
        }
    }
}

enum Verdict {
    Ready,
    Failed { reason: String, message: String },
    Waiting,
}

fn judge(service: &Service, progress: &mut Progress) -> Verdict {
    let Some(status) = &service.status else {
        return Verdict::Waiting;
    };
    if status.observed_generation != service.meta().generation {
        return Verdict::Waiting;
    }
    let Some(ready) = condition::find(&status.conditions, condition::READY) else {
        return Verdict::Waiting;
    };
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    if ready.is(Truth::True) {
        return Verdict::Ready;
    }
    progress.step(&sentence(&service.name_any(), ready));
    if ready.is(Truth::False) {
        return Verdict::Failed {
            reason: text(&ready.reason),
            message: text(&ready.message),
        };
    }
    Verdict::Waiting
}

fn sentence(name: &str, ready: &Condition) -> String {
    let reason = ready.reason.as_deref().unwrap_or("Waiting");
    match ready.message.as_deref() {
        Some(message) => format!("{name}: {message}"),
        None => format!("{name}: {reason}"),
    }
}
