//! Claims: observe, decide, and write the two ends of a binding.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use reconcile::{Action, Error, Key, write};
use serde_json::{Value, json};

use super::plan::{self, Around, Expansion, Next};
use super::{Context, claims_of};
use crate::pod;

/// Keeps a claim while a pod uses it; Kubernetes' name.
const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// A claim that waits is looked at again after this long, whatever happened.
const AGAIN: Duration = Duration::from_secs(60);

pub(super) async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    make_for_pods(&ctx, &key).await?;
    let Some(claim) = ctx.claims.get(&key) else {
        return Ok(Action::Await);
    };
    let users = users(&ctx, &key);
    if claim.metadata.deletion_timestamp.is_some() {
        if users.is_empty() && claim.finalizers().iter().any(|one| one == PROTECTION) {
            let mut left = claim.finalizers().to_vec();
            left.retain(|one| one != PROTECTION);
            patch(&ctx, &claim, json!({ "metadata": { "finalizers": left } })).await?;
        }
        return Ok(Action::Await);
    }
    let around = Around {
        volumes: &ctx.volumes.list(),
        classes: &ctx.classes.list(),
        wanted: !users.is_empty(),
        directory: &ctx.directory,
    };
    match plan::next(&claim, &around) {
        Next::Bind(volume) => {
            let volume = expand(&ctx, &claim, volume).await?;
            bind(&ctx, &claim, &volume).await?;
        }
        Next::Provision(volume) => return provision(&ctx, &claim, volume).await,
        Next::Classify(class) => {
            patch(
                &ctx,
                &claim,
                json!({ "spec": { "storageClassName": class } }),
            )
            .await?;
        }
        Next::Lost => set_status(&ctx, &claim, json!({ "phase": "Lost" })).await?,
        Next::Wait(reason, text) => {
            if reason == "WaitForFirstConsumer" {
                ctx.recorder.normal(&*claim, reason, text);
                return Ok(Action::Await);
            }
            ctx.recorder.warning(&*claim, reason, text);
            return Ok(Action::After(AGAIN));
        }
    }
    Ok(Action::Await)
}

/// Pods that wait for the claim or run with it.
fn users(ctx: &Context, key: &Key) -> Vec<Arc<Pod>> {
    ctx.pods.in_namespace(&key.namespace, |pod| {
        !pod::is_finished(pod) && claims_of(pod).contains(&key.name)
    })
}

/// The claim of a pod's own volume (`ephemeral`) is made with the pod and goes with it.
async fn make_for_pods(ctx: &Context, key: &Key) -> Result<(), Error> {
    if ctx.claims.get(key).is_some() {
        return Ok(());
    }
    for pod in users(ctx, key) {
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        let named = |volume: &&k8s_openapi::api::core::v1::Volume| {
            format!("{}-{}", pod.name_any(), volume.name) == key.name
        };
        let template = volumes
            .filter(|volume| volume.ephemeral.is_some())
            .find(named)
            .and_then(|volume| volume.ephemeral.as_ref()?.volume_claim_template.clone());
        let Some(template) = template.filter(|_| pod::is_active(&pod)) else {
            continue;
        };
        let mut metadata = template.metadata.unwrap_or_default();
        metadata.name = Some(key.name.clone());
        metadata.namespace = Some(key.namespace.clone());
        metadata.owner_references = Some(vec![write::owner_reference(&*pod)]);
        let claim = PersistentVolumeClaim {
            metadata,
            spec: Some(template.spec),
            status: None,
        };
        write::create_if_absent(ctx.cluster.client(), &claim).await?;
    }
    Ok(())
}

/// First the volume, then the claim: a volume is never in two claims' hands.
async fn bind(
    ctx: &Context,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Result<(), Error> {
    let spec = volume.spec.clone().unwrap_or_default();
    let kept = spec.claim_ref.as_ref().and_then(|kept| kept.uid.clone());
    if kept.is_none() || kept != claim.metadata.uid {
        let change = json!({
            "metadata": { "resourceVersion": volume.metadata.resource_version },
            "spec": { "claimRef": plan::reference(claim) },
        });
        let written = ctx
            .volume_api()
            .patch(
                &volume.name_any(),
                &PatchParams::default(),
                &Patch::Merge(change),
            )
            .await?;
        ctx.volumes.learn(written);
    }
    let named = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone());
    let protected = claim.finalizers().iter().any(|one| one == PROTECTION);
    if named.as_deref() != Some(&*volume.name_any()) || !protected {
        let mut finalizers = claim.finalizers().to_vec();
        finalizers.retain(|one| one != PROTECTION);
        finalizers.push(PROTECTION.to_owned());
        let change = json!({
            "metadata": {
                "finalizers": finalizers,
                "annotations": { "pv.kubernetes.io/bind-completed": "yes" },
            },
            "spec": { "volumeName": volume.name_any() },
        });
        patch(ctx, claim, change).await?;
    }
    let status = json!({
        "phase": "Bound",
        "accessModes": spec.access_modes,
        "capacity": spec.capacity,
    });
    set_status(ctx, claim, status).await
}

/// The volume, as large as its claim asks for if its class lets it grow.
async fn expand(
    ctx: &Context,
    claim: &PersistentVolumeClaim,
    volume: Arc<PersistentVolume>,
) -> Result<Arc<PersistentVolume>, Error> {
    let size = match plan::expansion(claim, &volume, &ctx.classes.list()) {
        None => return Ok(volume),
        Some(Expansion::Elsewhere) => {
            let text = "waiting for an external controller to expand this PVC; nothing here expands volumes that it has not made";
            ctx.recorder.normal(claim, "ExternalExpanding", text);
            return Ok(volume);
        }
        Some(Expansion::Here(size)) => size,
    };
    let change = json!({
        "metadata": { "resourceVersion": volume.metadata.resource_version },
        "spec": { "capacity": { "storage": size } },
    });
    let name = volume.name_any();
    let larger = ctx
        .volume_api()
        .patch(&name, &PatchParams::default(), &Patch::Merge(change))
        .await?;
    ctx.volumes.learn(larger.clone());
    ctx.recorder.normal(
        claim,
        "VolumeResizeSuccessful",
        format!("volume {name} has {size} now"),
    );
    Ok(Arc::new(larger))
}

/// Makes the directory, then the object that tells of it.
async fn provision(
    ctx: &Context,
    claim: &PersistentVolumeClaim,
    volume: Value,
) -> Result<Action, Error> {
    let path = std::path::PathBuf::from(
        volume["spec"]["hostPath"]["path"]
            .as_str()
            .unwrap_or_default(),
    );
    let all = ctx.directory.clone();
    let made = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&path)?;
        // Containers are shown a volume itself; nobody else has business here.
        std::fs::set_permissions(&all, std::fs::Permissions::from_mode(0o700))?;
        // Whatever user the pod's programs are.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))
    });
    let made = made
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = made {
        let text = format!(
            "cannot make a directory in {}: {error}",
            ctx.directory.display()
        );
        ctx.recorder.warning(claim, "ProvisioningFailed", text);
        return Ok(Action::After(AGAIN));
    }
    let name = volume["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let object: PersistentVolume =
        serde_json::from_value(volume).map_err(kube::Error::SerdeError)?;
    match ctx
        .volume_api()
        .create(&PostParams::default(), &object)
        .await
    {
        Ok(written) => {
            let text = format!("Successfully provisioned volume {name}");
            ctx.recorder.normal(claim, "ProvisioningSucceeded", text);
            bind(ctx, claim, &written).await?;
            ctx.volumes.learn(written);
        }
        // Made before; the cache will show it.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Action::Await)
}

async fn patch(
    ctx: &Context,
    claim: &PersistentVolumeClaim,
    mut change: Value,
) -> Result<(), Error> {
    change["metadata"]["uid"] = json!(claim.metadata.uid);
    let key = Key::of(claim);
    match write::merge::<PersistentVolumeClaim>(ctx.cluster.client(), &key, &change).await {
        Ok(written) => ctx.claims.learn(written),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn set_status(
    ctx: &Context,
    claim: &PersistentVolumeClaim,
    status: Value,
) -> Result<(), Error> {
    let known = json!(claim.status);
    let same = |(field, value): (&String, &Value)| known[field] == *value;
    if status
        .as_object()
        .is_some_and(|fields| fields.iter().all(same))
    {
        return Ok(());
    }
    let namespace = claim.namespace().unwrap_or_default();
    let api = write::api::<PersistentVolumeClaim>(ctx.cluster.client(), &namespace);
    let change =
        Patch::Merge(json!({ "metadata": { "uid": claim.metadata.uid }, "status": status }));
    let name = claim.name_any();
    match api
        .patch_status(&name, &PatchParams::default(), &change)
        .await
    {
        Ok(written) => ctx.claims.learn(written),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
