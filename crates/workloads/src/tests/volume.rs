//! Claims and their volumes, against the embedded API server.

use std::os::unix::fs::PermissionsExt;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_asks_for_more_gets_it_if_its_class_allows_that() {
    let world = World::start().await;
    let volume = bound(&world).await;
    let claims = Api::<PersistentVolumeClaim>::namespaced(world.client(), "default");
    let ask = async |size: &str| {
        let change = json!({"spec": {"resources": {"requests": {"storage": size}}}});
        claims
            .patch("data", &PatchParams::default(), &Patch::Merge(change))
            .await
    };
    ask("5Mi").await.expect("the class allows it");
    let capacity = |claim: &PersistentVolumeClaim| {
        let capacity = claim.status.as_ref()?.capacity.as_ref()?;
        Some(capacity.get("storage")?.0.clone())
    };
    let grown = |world: &World| {
        let claim = world.get::<PersistentVolumeClaim>("default", "data");
        claim.and_then(|claim| capacity(&claim)).as_deref() == Some("5Mi")
    };
    world.eventually("a larger claim", grown).await;
    let volumes = Api::<PersistentVolume>::all(world.client());
    let volume = volumes.get(&volume).await.expect("the volume");
    let spec = volume.spec.expect("a spec");
    assert_eq!(spec.capacity.expect("a capacity")["storage"].0, "5Mi");
    let smaller = ask("1Mi").await.expect_err("not less than it has");
    assert!(smaller.to_string().contains("status.capacity"), "{smaller}");
    let classes = Api::<StorageClass>::all(world.client());
    let change = Patch::Merge(json!({"allowVolumeExpansion": false}));
    let params = PatchParams::default();
    let patched = classes.patch("standard", &params, &change);
    patched.await.expect("the class changes");
    let refused = ask("9Mi").await.expect_err("the class does not allow it");
    assert!(
        refused.to_string().contains("must support resize"),
        "{refused}"
    );
    world.stop().await;
}
