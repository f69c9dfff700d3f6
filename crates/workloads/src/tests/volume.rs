//! Claims and their volumes, against the embedded API server.

use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

use super::world::World;

/// A claim and a pod that uses it; returns the name of the volume that was made.
async fn bound(world: &World) -> String {
    let claim = json!({
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    });
    world.create::<PersistentVolumeClaim>(claim).await;
    let pod = json!({
        "metadata": {"name": "user", "namespace": "default"},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    });
    world.create::<Pod>(pod).await;
    let volume = |world: &World| {
        let claim = world.get::<PersistentVolumeClaim>("default", "data")?;
        let phase = claim.status.as_ref()?.phase.as_deref()?;
        let name = claim.spec.as_ref()?.volume_name.clone();
        name.filter(|_| phase == "Bound")
    };
    world
        .eventually("a bound claim", |world| volume(world).is_some())
        .await;
    volume(world).expect("just seen")
}

async fn gone(world: &World, volume: &str) {
    let volumes = Api::<PersistentVolume>::all(world.client());
    let uid = volumes
        .get_opt(volume)
        .await
        .expect("an answer")
        .and_then(|found| found.metadata.uid);
    if let Some(uid) = uid {
        let gone = await_condition(volumes, volume, conditions::is_deleted(&uid));
        gone.await.expect("a watch");
    }
    assert!(!world.volumes().join(volume).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_used_is_kept_and_its_volume_goes_with_it() {
    let world = World::start().await;
    let volume = bound(&world).await;
    let directory = world.volumes().join(&volume);
    std::fs::write(directory.join("file"), "words").expect("written");
    let mode = |path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(world.volumes()), 0o700);
    assert_eq!(mode(directory.clone()), 0o777);
    world.delete::<PersistentVolumeClaim>("data").await;
    let claims = Api::<PersistentVolumeClaim>::namespaced(world.client(), "default");
    let claim = claims.get("data").await.expect("still there");
    assert!(claim.metadata.deletion_timestamp.is_some() && directory.join("file").exists());
    world.delete::<Pod>("user").await;
    world
        .eventually("no claim", |world| {
            world
                .get::<PersistentVolumeClaim>("default", "data")
                .is_none()
        })
        .await;
    gone(&world, &volume).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_a_claim_has_outlives_its_own_deletion() {
    let world = World::start().await;
    let volume = bound(&world).await;
    let volumes = Api::<PersistentVolume>::all(world.client());
    let deleted = volumes.delete(&volume, &DeleteParams::default()).await;
    let still = deleted.expect("an answer").left().expect("the volume");
    assert!(still.metadata.deletion_timestamp.is_some());
    assert!(world.volumes().join(&volume).exists());
    world.delete::<Pod>("user").await;
    world.delete::<PersistentVolumeClaim>("data").await;
    gone(&world, &volume).await;
    world.stop().await;
}
