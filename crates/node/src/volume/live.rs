//! Keeps the written volumes of a running pod as new as their objects.
//!
//! One watch per object that a volume names, and the pod's own updates; nothing is polled. A
//! volume that cannot be written again keeps its last content, and the user is told.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::{create, is_written, place};
use crate::downward::Facts;
use crate::event;
use crate::pod::Context;

/// How long a token holds if the volume does not say, as in Kubernetes.
pub(super) const TOKEN_SECONDS: i64 = 3600;
/// No token is kept for longer than this before it is renewed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// An object that a volume is written from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    ConfigMap(String),
    Secret(String),
}

/// Writes the pod's volumes again whenever there is something new. Ends with the pod.
pub(crate) async fn follow(context: &Context, directory: &Path) -> Infallible {
    let volumes: Vec<_> = context
        .pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .filter(|volume| is_written(volume) && place(directory, &volume.name).exists())
        .collect();
    if volumes.is_empty() {
        return std::future::pending().await;
    }
    let namespace = context.pod.namespace().unwrap_or_default();
    let mut changes = SelectAll::new();
    for object in volumes
        .iter()
        .flat_map(|volume| named(volume))
        .collect::<BTreeSet<_>>()
    {
        changes.push(watch(context.node.client.clone(), &namespace, object));
    }
    let mut updates = context.updates.clone();
    let renew = volumes.iter().filter_map(|volume| lifetime(volume)).min();
    loop {
        let renewed = match renew {
            Some(pause) => tokio::time::sleep(pause).left_future(),
            None => std::future::pending().right_future(),
        };
        tokio::select! {
            Some(()) = changes.next() => {}
            Ok(()) = updates.changed() => {}
            () = renewed => {}
        }
        let pod = updates.borrow().pod.clone();
        write_all(context, &pod, &volumes, directory).await;
    }
}

async fn write_all(context: &Context, pod: &Pod, volumes: &[&Volume], directory: &Path) {
    let Some(sandbox) = context.sandbox.get() else {
        return;
    };
    let facts = Facts {
        pod,
        ..context.facts(sandbox)
    };
    for volume in volumes {
        let place = place(directory, &volume.name);
        if let Err(failure) = create(&facts, &context.objects, volume, &place).await {
            event::warn(context, "FailedMount", &failure.message).await;
        }
    }
}

/// Says that the object changed, or was seen for the first time.
fn watch(client: Client, namespace: &str, object: Named) -> BoxStream<'static, ()> {
    let config = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
    match object {
        Named::ConfigMap(name) => {
            let api: Api<ConfigMap> = Api::namespaced(client, namespace);
            let changes = watcher(api, config(&name)).default_backoff();
            changes
                .filter_map(|event| std::future::ready(event.ok().map(drop)))
                .boxed()
        }
        Named::Secret(name) => {
            let api: Api<Secret> = Api::namespaced(client, namespace);
            let changes = watcher(api, config(&name)).default_backoff();
            changes
                .filter_map(|event| std::future::ready(event.ok().map(drop)))
                .boxed()
        }
    }
}

fn named(volume: &Volume) -> Vec<Named> {
    let sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten());
    let projected = sources.filter_map(|source| {
        let map = source
            .config_map
            .as_ref()
            .map(|map| Named::ConfigMap(map.name.clone()));
        map.or_else(|| {
            source
                .secret
                .as_ref()
                .map(|secret| Named::Secret(secret.name.clone()))
        })
    });
    let map = volume
        .config_map
        .as_ref()
        .map(|map| Named::ConfigMap(map.name.clone()));
    let secret = volume
        .secret
        .as_ref()
        .and_then(|secret| secret.secret_name.clone());
    projected
        .chain(map)
        .chain(secret.map(Named::Secret))
        .collect()
}

/// When the volume's tokens have to be renewed: after four fifths of their life.
fn lifetime(volume: &Volume) -> Option<Duration> {
    let sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten());
    let tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    let seconds = tokens
        .map(|token| token.expiration_seconds.unwrap_or(TOKEN_SECONDS))
        .min()?;
    let seconds = u64::try_from(seconds).unwrap_or_default().max(60);
    Some(Duration::from_secs(seconds * 4 / 5).min(LONGEST))
}
