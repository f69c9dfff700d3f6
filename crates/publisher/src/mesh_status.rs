//! What an XMesh of ours says: that calls to Services go by routes, and by which features of them.
//!
//! Routes hold whether there is an XMesh or not; those of other controllers are left alone.

use std::sync::Arc;

use api::gateway::CONTROLLER;
use api::gateway::v1alpha1::Mesh;
use dialects::gateway_api;
use kube::Api;
use kube::api::PostParams;
use lifecycle::Tasks;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue};

/// Writes until the stage of controllers stops.
pub(crate) fn start(cluster: &Cluster, tells_callers: bool, tasks: &Tasks) {
    let meshes = Arc::new(cluster.informer::<Mesh>(tasks));
    let queue = Queue::new();
    meshes.enqueue_self(&queue);
    let synced = vec![meshes.synced()];
    let api: Api<Mesh> = Api::all(cluster.client().clone());
    reconcile::run("mesh-status", queue, 1, synced, tasks, move |key| {
        let (meshes, api) = (Arc::clone(&meshes), api.clone());
        async move { write(&meshes, tells_callers, &api, &key).await }
    });
}

async fn write(
    meshes: &Informer<Mesh>,
    tells_callers: bool,
    api: &Api<Mesh>,
    key: &Key,
) -> Result<Action, Error> {
    let ours = meshes.get(key);
    let Some(mesh) = ours.filter(|mesh| mesh.spec.controller_name == CONTROLLER) else {
        return Ok(Action::Await);
    };
    let next = gateway_api::mesh_status(&mesh, tells_callers, reconcile::now());
    if mesh.status.as_ref() != Some(&next) {
        let mut object = (*mesh).clone();
        object.status = Some(next);
        api.replace_status(&key.name, &PostParams::default(), &object)
            .await?;
    }
    Ok(Action::Await)
}
