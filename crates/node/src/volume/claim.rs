//! Volumes by claim: directories of the machine that outlive the pod.
//!
//! In the pod's directory stands a link to the volume's own; a container is shown what it leads to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};
use kube::ResourceExt;

use super::{failed, host_path};
use crate::object::Objects;
use crate::runtime::Failure;

/// What a volume asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    name: String,
    /// The pod that it is made for, if it is.
    owner: Option<String>,
    pub(super) read_only: bool,
}

/// The claim that a volume names, or the one that is made for the pod.
pub(super) fn of(pod: &Pod, volume: &Volume) -> Option<Claim> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(Claim {
            name: source.claim_name.clone(),
            owner: None,
            read_only: source.read_only == Some(true),
        }),
        (None, Some(_)) => Some(Claim {
            name: format!("{}-{}", pod.name_any(), volume.name),
            owner: Some(pod.uid().unwrap_or_default()),
            read_only: false,
        }),
        (None, None) => None,
    }
}

/// Finds the claim's volume and leaves a link to it at `place`.
pub(super) async fn prepare(objects: &Objects, claim: &Claim, place: &Path) -> Result<(), Failure> {
    let volume = objects.volume(&claim.name, claim.owner.as_deref()).await?;
    let name = volume.name_any();
    let spec = volume.spec.unwrap_or_default();
    let (path, kind) = match (spec.host_path, spec.local) {
        (Some(host), _) => (host.path, host.type_.unwrap_or_default()),
        (None, Some(local)) => (local.path, "Directory".to_owned()),
        (None, None) => {
            return Err(Failure::config(format!(
                "persistentvolume {name:?} is of a kind that is not supported; use hostPath or local"
            )));
        }
    };
    host_path::prepare(Path::new(&path), &kind).map_err(|problem| {
        Failure::config(format!("persistentvolume {name:?}: {path} {problem}"))
    })?;
    let linked = place.parent().map_or(Ok(()), fs::create_dir_all);
    let linked = linked.and_then(|()| std::os::unix::fs::symlink(&path, place));
    match linked {
        // Of a try that failed later, or of another container.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|error| failed(place, &error)),
    }
}

/// Where the link at a volume's place leads; the place itself if it is none.
pub(super) fn directory(place: PathBuf) -> PathBuf {
    fs::read_link(&place).unwrap_or(place)
}
