//! PersistentVolumeClaims: bound to volumes that are there, or that are made for them.
//!
//! Volumes of the class `standard` are directories of this machine, made once a pod wants them and
//! deleted with their claim. Volumes that users describe (`hostPath`, `local`) are bound as they
//! are. A claim that a pod uses is not deleted before the pod has ended.

mod bind;
mod plan;
mod reclaim;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use lifecycle::{Stage, Tasks};
use reconcile::{Cluster, Informer, Key, Queue, Recorder};
use serde_json::json;

/// Who makes volumes here, as classes name it.
pub(crate) const PROVISIONER: &str = "suimon.dev/directory";
/// Marks the class of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Name of the class that a new cluster has.
const CLASS: &str = "standard";
const WORKERS: usize = 2;

struct Context {
    cluster: Cluster,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    pods: Informer<Pod>,
    recorder: Recorder,
    /// Where volumes are made.
    directory: PathBuf,
}

impl Context {
    fn volume_api(&self) -> Api<PersistentVolume> {
        Api::all(self.cluster.client().clone())
    }
}

pub(crate) fn start(cluster: &Cluster, directory: PathBuf, recorder: &Recorder, tasks: &Tasks) {
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        claims: cluster.informer(tasks),
        volumes: cluster.informer(tasks),
        classes: cluster.informer(tasks),
        pods: cluster.informer(tasks),
        recorder: recorder.of("persistentvolume-controller"),
        directory,
    });
    let claims = Queue::new();
    let volumes = Queue::new();
    wake(&context, &claims, &volumes);
    let synced = || {
        vec![
            context.claims.synced(),
            context.volumes.synced(),
            context.classes.synced(),
            context.pods.synced(),
        ]
    };
    let shared = Arc::clone(&context);
    reconcile::run(
        "volume claims",
        claims,
        WORKERS,
        synced(),
        tasks,
        move |key| bind::reconcile(Arc::clone(&shared), key),
    );
    let shared = Arc::clone(&context);
    reconcile::run("volumes", volumes, WORKERS, synced(), tasks, move |key| {
        reclaim::reconcile(Arc::clone(&shared), key)
    });
    let client = cluster.client().clone();
    tasks.spawn("storage class", Stage::Controllers, async move {
        if let Err(error) = create_class(client).await {
            tracing::warn!(%error, "there is no class for claims that name none");
        }
        Ok::<(), Infallible>(())
    });
}

/// A claim changes with itself, its volume and its pods; one that waits, with any volume and class.
fn wake(context: &Context, claims: &Queue<Key>, volumes: &Queue<Key>) {
    context.claims.enqueue_self(claims);
    context.volumes.enqueue_self(volumes);
    let (queue, affected) = (volumes.clone(), claims.clone());
    context.claims.on_change(move |change| {
        let claim = change.object();
        let volume = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone());
        if let Some(volume) = volume.filter(|name| !name.is_empty()) {
            queue.add(Key::new("", volume));
        }
    });
    let waiting = {
        let (claims, queue) = (context.claims.clone(), affected.clone());
        move || {
            for claim in claims.list().iter().filter(|claim| !plan::is_bound(claim)) {
                queue.add(Key::of(&**claim));
            }
        }
    };
    let (queue, wake_waiting) = (affected.clone(), waiting.clone());
    context.volumes.on_change(move |change| {
        let volume = change.object();
        let claim = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref());
        match claim.and_then(|claim| claim.namespace.clone().zip(claim.name.clone())) {
            Some((namespace, name)) => queue.add(Key::new(namespace, name)),
            None => wake_waiting(),
        }
    });
    context.classes.on_change(move |_| waiting());
    context.pods.on_change(move |change| {
        let pod = change.object();
        let namespace = pod.namespace().unwrap_or_default();
        for name in claims_of(pod) {
            affected.add(Key::new(&*namespace, name));
        }
    });
}

/// The claims that a pod's volumes name, those made for it included.
fn claims_of(pod: &Pod) -> BTreeSet<String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(
            |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(source), _) => Some(source.claim_name.clone()),
                (None, Some(_)) => Some(format!("{}-{}", pod.name_any(), volume.name)),
                (None, None) => None,
            },
        )
        .collect()
}

/// Makes the class of new clusters, unless there is one of its name.
async fn create_class(client: kube::Client) -> Result<(), kube::Error> {
    let class = serde_json::from_value(json!({
        "metadata": { "name": CLASS, "annotations": { DEFAULT_CLASS: "true" } },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    }));
    let class: StorageClass = class.map_err(kube::Error::SerdeError)?;
    let api = Api::all(client);
    match api.create(&PostParams::default(), &class).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
