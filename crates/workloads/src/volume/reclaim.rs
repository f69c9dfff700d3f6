//! Volumes: their phase, and what becomes of them once their claim is gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use reconcile::{Action, Error, Key};
use serde_json::json;

use super::plan::PROVISIONED_BY;
use super::{Context, PROVISIONER};

/// A directory that could not be deleted is tried again after this long.
const AGAIN: Duration = Duration::from_secs(60);

pub(super) async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(volume) = ctx.volumes.get(&key) else {
        return Ok(Action::Await);
    };
    if volume.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Await);
    }
    let phase = phase(&ctx, &volume);
    set_phase(&ctx, &volume, phase).await?;
    let spec = volume.spec.clone().unwrap_or_default();
    let deletes = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
    if phase != "Released" || !deletes || !is_ours(&volume, &ctx.directory) {
        return Ok(Action::Await);
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
        ctx.recorder.warning(&*volume, "VolumeFailedDelete", text);
        return Ok(Action::After(AGAIN));
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

async fn set_phase(ctx: &Context, volume: &PersistentVolume, phase: &str) -> Result<(), Error> {
    let status = volume.status.as_ref();
    if status.and_then(|status| status.phase.as_deref()) == Some(phase) {
        return Ok(());
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
    Ok(())
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
