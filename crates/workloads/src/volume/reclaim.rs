//! Volumes: their phase, and what becomes of them once their claim is gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use reconcile::{Action, Error, Key, write};
use serde_json::json;

use super::plan::{PROTECTION, PROVISIONED_BY};
use super::{Context, PROVISIONER};

/// A directory that could not be deleted is tried again after this long.
const AGAIN: Duration = Duration::from_secs(60);
/// The cache is behind for a moment only.
const SOON: Duration = Duration::from_secs(1);

pub(super) async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(volume) = ctx.volumes.get(&key) else {
        return Ok(Action::Await);
    };
    let phase = phase(&ctx, &volume);
    if volume.metadata.deletion_timestamp.is_some() {
        return match phase {
            "Bound" => Ok(Action::Await),
            _ => give_up(&ctx, &volume).await,
        };
    }
    if !volume.finalizers().iter().any(|one| one == PROTECTION) {
        let mut finalizers = volume.finalizers().to_vec();
        finalizers.push(PROTECTION.to_owned());
        set_finalizers(&ctx, &volume, finalizers).await?;
        // The write wakes us again.
        return Ok(Action::Await);
    }
    let turned = set_phase(&ctx, &volume, phase).await?;
    if phase != "Released" {
        return Ok(Action::Await);
    }
    if !goes_with_its_claim(&volume, &ctx.directory) {
        if turned {
            tell_that_it_stays(&ctx, &volume);
        }
        return Ok(Action::Await);
    }
    if is_claimed(&ctx, &volume).await? {
        return Ok(Action::After(SOON));
    }
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: volume.metadata.uid.clone(),
        resource_version: None,
    });
    match ctx.volume_api().delete(&volume.name_any(), &params).await {
        Ok(_) => Ok(Action::Await),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Action::Await),
        Err(error) => Err(error.into()),
    }
}

/// Whoever asked for more than keeping hears that nothing comes of it.
fn tell_that_it_stays(ctx: &Context, volume: &PersistentVolume) {
    let spec = volume.spec.as_ref();
    let (reason, what) =
        match spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) {
            Some("Recycle") => ("VolumeFailedRecycle", "volumes are not emptied here"),
            Some("Delete") => ("VolumeFailedDelete", "it was not made here"),
            _ => return,
        };
    let text = format!("the volume stays with what is in it: {what}");
    ctx.recorder.warning(volume, reason, text);
}

/// Deletes the directory of a volume that was made here, and lets the object go.
async fn give_up(ctx: &Context, volume: &PersistentVolume) -> Result<Action, Error> {
    let mut left = volume.finalizers().to_vec();
    left.retain(|one| one != PROTECTION);
    if left.len() == volume.finalizers().len() {
        return Ok(Action::Await);
    }
    if goes_with_its_claim(volume, &ctx.directory) {
        if is_claimed(ctx, volume).await? {
            return Ok(Action::After(SOON));
        }
        let path = ctx.directory.join(volume.name_any());
        let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        let removed = removed
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = removed {
            let text = format!("cannot delete the volume's directory: {error}");
            ctx.recorder.warning(volume, "VolumeFailedDelete", text);
            return Ok(Action::After(AGAIN));
        }
    }
    set_finalizers(ctx, volume, left).await?;
    Ok(Action::Await)
}

async fn set_finalizers(
    ctx: &Context,
    volume: &PersistentVolume,
    finalizers: Vec<String>,
) -> Result<(), Error> {
    // Of this version only: others may have changed the list.
    let change = json!({ "metadata": {
        "finalizers": finalizers,
        "resourceVersion": volume.metadata.resource_version,
    } });
    let written = ctx
        .volume_api()
        .patch(
            &volume.name_any(),
            &PatchParams::default(),
            &Patch::Merge(change),
        )
        .await;
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the API itself before anything is lost: the cache may be behind.
async fn is_claimed(ctx: &Context, volume: &PersistentVolume) -> Result<bool, Error> {
    let spec = volume.spec.as_ref();
    let Some(kept) = spec.and_then(|spec| spec.claim_ref.as_ref()) else {
        return Ok(false);
    };
    let namespace = kept.namespace.clone().unwrap_or_default();
    let name = kept.name.clone().unwrap_or_default();
    let claims = write::api::<PersistentVolumeClaim>(ctx.cluster.client(), &namespace);
    let claim = claims.get_opt(&name).await?;
    Ok(claim.is_some_and(|claim| claim.metadata.uid == kept.uid))
}

/// Whether the volume was made here and is deleted once its claim is gone.
fn goes_with_its_claim(volume: &PersistentVolume, directory: &Path) -> bool {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy == Some("Delete") && is_ours(volume, directory)
}

fn phase(ctx: &Context, volume: &PersistentVolume) -> &'static str {
    let kept = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let Some(kept) = kept else {
        return "Available";
    };
    let key = Key::new(
        kept.namespace.clone().unwrap_or_default(),
        kept.name.clone().unwrap_or_default(),
    );
    match ctx.claims.get(&key) {
        Some(claim) if kept.uid.is_some() && claim.metadata.uid == kept.uid => "Bound",
        // Kept for a claim that is not there yet.
        _ if kept.uid.is_none() => "Available",
        _ => "Released",
    }
}

/// Only what was made here is deleted here, and only its own directory.
fn is_ours(volume: &PersistentVolume, directory: &Path) -> bool {
    let made = volume.annotations().get(PROVISIONED_BY);
    let spec = volume.spec.as_ref();
    let path = spec.and_then(|spec| spec.host_path.as_ref());
    let own = directory.join(volume.name_any());
    made.is_some_and(|by| by == PROVISIONER)
        && volume.name_any().starts_with("pvc-")
        && path.is_some_and(|path| Path::new(&path.path) == own)
}

/// Returns whether it was another before.
async fn set_phase(ctx: &Context, volume: &PersistentVolume, phase: &str) -> Result<bool, Error> {
    let status = volume.status.as_ref();
    if status.and_then(|status| status.phase.as_deref()) == Some(phase) {
        return Ok(false);
    }
    let change = json!({
        "metadata": { "uid": volume.metadata.uid },
        "status": { "phase": phase, "lastPhaseTransitionTime": reconcile::now() },
    });
    let written = ctx
        .volume_api()
        .patch_status(
            &volume.name_any(),
            &PatchParams::default(),
            &Patch::Merge(change),
        )
        .await;
    match written {
        Ok(written) => ctx.volumes.learn(written),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_that_was_made_here_is_deleted() {
        let volume = |name: &str, path: &str, by: &str| -> PersistentVolume {
            let object = json!({
                "metadata": { "name": name, "annotations": { PROVISIONED_BY: by } },
                "spec": { "hostPath": { "path": path } },
            });
            serde_json::from_value(object).expect("a volume")
        };
        let ours = |volume: &PersistentVolume| is_ours(volume, Path::new("/data"));
        assert!(ours(&volume("pvc-u", "/data/pvc-u", PROVISIONER)));
        assert!(!ours(&volume("pvc-u", "/etc", PROVISIONER)));
        assert!(!ours(&volume("pvc-u", "/data/pvc-v", PROVISIONER)));
        assert!(!ours(&volume("other", "/data/other", PROVISIONER)));
        assert!(!ours(&volume("pvc-u", "/data/pvc-u", "another")));
    }
}
