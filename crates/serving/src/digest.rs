//! Images of a revision are pinned to digests once, when the revision is new, so that all its
//! pods run the same code.
//!
//! A local look-up ends within the reconcile; a registry may take seconds, so what is not done
//! after [`PATIENCE`] goes on in one background task, which asks for a reconcile when it is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::config::Deployment;
use api::serving::v1::{ContainerStatus, Revision};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt, try_join_all};
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt;
use lifecycle::{Stage, Tasks};
use reconcile::{Error, Key, Queue};
use tokio::sync::mpsc;

/// How long a reconcile waits by itself.
const PATIENCE: Duration = Duration::from_millis(50);
/// Resolutions that may run in the background at once.
const MOST_AT_ONCE: usize = 64;

/// One image to pin, with whose credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// The image as the revision names it.
    pub image: String,
    /// Namespace of the revision, of the service account and of the secrets.
    pub namespace: String,
    /// The pod's service account, if it names one.
    pub service_account: Option<String>,
    /// The pod's `imagePullSecrets`.
    pub pull_secrets: Vec<String>,
}

/// Finds digests. The answer is the reference to run instead: the same image with a digest, or
/// the image as it was when its registry's tags are not resolved.
pub trait DigestResolver: Send + Sync + 'static {
    /// # Errors
    /// A sentence without a full stop about why the image cannot be found.
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'static, Result<String, String>>;
}

/// The images of a revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pinned {
    pub(crate) containers: Vec<ContainerStatus>,
    pub(crate) init_containers: Vec<ContainerStatus>,
}

/// How far pinning has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Images {
    Pinned(Pinned),
    Resolving,
    /// Knative's message for the condition.
    Failed(String),
}

type Outcome = Result<Pinned, String>;

struct Job {
    uid: String,
    key: Key,
    queue: Queue<Key>,
    work: BoxFuture<'static, Outcome>,
}

/// Pins images of revisions.
pub(crate) struct Digests {
    resolver: Arc<dyn DigestResolver>,
    jobs: mpsc::Sender<Job>,
    /// `None` while the job runs. Taken out when read, so it holds only what is under way.
    outcomes: Arc<Mutex<HashMap<String, Option<Outcome>>>>,
}

impl Digests {
    /// Starts the background task.
    pub(crate) fn start(resolver: Arc<dyn DigestResolver>, tasks: &Tasks) -> Self {
        let (jobs, waiting) = mpsc::channel(MOST_AT_ONCE);
        let outcomes = Arc::default();
        let results = Arc::clone(&outcomes);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        tasks.spawn("image digests", Stage::Controllers, async move {
            tokio::select! {
                () = work(waiting, &results) => {}
                () = shutdown.requested() => {}
            }
            Ok::<(), Error>(())
        });
        Self {
            resolver,
            jobs,
            outcomes,
        }
    }

    /// The images of a revision. `queue` gets the revision's key when a longer resolution ends.
    pub(crate) async fn of(
        &self,
        revision: &Revision,
        config: &Deployment,
        queue: &Queue<Key>,
    ) -> Images {
        if let Some(pinned) = already_pinned(revision) {
            return Images::Pinned(pinned);
        }
        let uid = revision.uid().unwrap_or_default();
        {
            let mut outcomes = self.lock();
            if let Some(None) = outcomes.get(&uid) {
                return Images::Resolving;
            }
            if let Some(Some(outcome)) = outcomes.remove(&uid) {
                return Images::from(outcome);
            }
        }
        let mut work = self.resolve(revision, config);
        if let Ok(outcome) = tokio::time::timeout(PATIENCE, &mut work).await {
            return Images::from(outcome);
        }
        self.lock().insert(uid.clone(), None);
        let key = Key::of(revision);
        let job = Job {
            uid: uid.clone(),
            key: key.clone(),
            queue: queue.clone(),
            work,
        };
        if self.jobs.try_send(job).is_err() {
            self.lock().remove(&uid);
            queue.add_after(key, Duration::from_secs(1));
        }
        Images::Resolving
    }

    /// The revision is gone: nobody will ask for its outcome.
    pub(crate) fn forget(&self, revision: &Revision) {
        self.lock().remove(&revision.uid().unwrap_or_default());
    }

    fn resolve(&self, revision: &Revision, config: &Deployment) -> BoxFuture<'static, Outcome> {
        let pin = |containers: Option<&Vec<Container>>| {
            let resolving = containers
                .into_iter()
                .flatten()
                .map(|container| self.pin(revision, container, config));
            try_join_all(resolving.collect::<Vec<_>>())
        };
        let containers = pin(Some(&revision.spec.pod.containers));
        let init_containers = pin(revision.spec.pod.init_containers.as_ref());
        async move {
            Ok(Pinned {
                containers: containers.await?,
                init_containers: init_containers.await?,
            })
        }
        .boxed()
    }

    fn pin(
        &self,
        revision: &Revision,
        container: &Container,
        config: &Deployment,
    ) -> BoxFuture<'static, Result<ContainerStatus, String>> {
        let image = container.image.clone().unwrap_or_default();
        let name = Some(container.name.clone());
        let pinned = |image: String| ContainerStatus {
            name: name.clone(),
            image_digest: Some(image),
        };
        let registry = image.split('/').next().unwrap_or_default();
        if image.contains("@sha256:") || config.registries_skipping_tag_resolving.contains(registry)
        {
            return futures::future::ready(Ok(pinned(image))).boxed();
        }
        let pod = &revision.spec.pod;
        let secrets = pod.image_pull_secrets.iter().flatten();
        let request = ImageRequest {
            image: image.clone(),
            namespace: revision.namespace().unwrap_or_default(),
            service_account: pod.service_account_name.clone(),
            pull_secrets: secrets.map(|secret| secret.name.clone()).collect(),
        };
        let limit = config.digest_resolution_timeout;
        let resolving = self.resolver.resolve(request);
        async move {
            let found = tokio::time::timeout(limit, resolving).await;
            let found = found.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
            match found {
                Ok(image_digest) => Ok(ContainerStatus {
                    name,
                    image_digest: Some(image_digest),
                }),
                Err(why) => Err(format!(
                    "Unable to fetch image \"{image}\": failed to resolve image to digest: {why}"
                )),
            }
        }
        .boxed()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<Outcome>>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Outcome> for Images {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Ok(pinned) => Self::Pinned(pinned),
            Err(message) => Self::Failed(message),
        }
    }
}

/// The digests in the revision's status, if every container has one.
fn already_pinned(revision: &Revision) -> Option<Pinned> {
    let status = revision.status.as_ref()?;
    let pod = &revision.spec.pod;
    let init_containers = pod.init_containers.as_ref().map_or(0, Vec::len);
    let is_complete = status.container_statuses.len() == pod.containers.len()
        && status.init_container_statuses.len() == init_containers;
    is_complete.then(|| Pinned {
        containers: status.container_statuses.clone(),
        init_containers: status.init_container_statuses.clone(),
    })
}

async fn work(
    mut waiting: mpsc::Receiver<Job>,
    outcomes: &Mutex<HashMap<String, Option<Outcome>>>,
) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            job = waiting.recv(), if running.len() < MOST_AT_ONCE => {
                let Some(Job { uid, key, queue, work }) = job else { return };
                running.push(async move { (uid, key, queue, work.await) });
            }
            Some((uid, key, queue, outcome)) = running.next() => {
                let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(slot) = outcomes.get_mut(&uid) {
                    *slot = Some(outcome);
                }
                drop(outcomes);
                queue.add(key);
            }
        }
    }
}
