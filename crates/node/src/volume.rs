//! Volumes as directories of the pod, ready for a runtime to show to containers.
//!
//! ConfigMap, Secret, projected and downward volumes are written when the pod starts and again
//! when an object of theirs changes ([`live`]); a program sees either all of a version or none
//! of it ([`files`]). What is not supported fails the container with a message, never silently.

mod claim;
mod files;
mod host_path;
pub(crate) mod live;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume, VolumeProjection};

use self::files::Files;
use crate::downward::Facts;
use crate::environment;
use crate::object::Objects;
use crate::runtime::{Failure, Mount};
use crate::sys;

/// The `medium` of an emptyDir that is not on disk.
pub(crate) const MEMORY: &str = "Memory";

/// Kubernetes' mode of a file whose volume says nothing.
const DEFAULT_MODE: i32 = 0o644;

/// Makes every volume of the pod that is mounted somewhere, below `directory`.
pub(crate) async fn create_all(
    facts: &Facts<'_>,
    objects: &Objects,
    directory: &Path,
) -> Result<(), Failure> {
    let Some(spec) = &facts.pod.spec else {
        return Ok(());
    };
    let init = spec.init_containers.iter().flatten();
    let containers: Vec<_> = spec.containers.iter().chain(init).collect();
    create_for(facts, objects, &containers, directory).await
}

/// Makes the volumes that some of the pod's containers mount; what is there stays.
pub(crate) async fn create_for(
    facts: &Facts<'_>,
    objects: &Objects,
    containers: &[&Container],
    directory: &Path,
) -> Result<(), Failure> {
    let spec = facts.pod.spec.iter();
    for volume in spec.flat_map(|spec| spec.volumes.iter().flatten()) {
        let mut mounts = containers
            .iter()
            .flat_map(|container| container.volume_mounts.iter().flatten());
        if mounts.any(|mount| mount.name == volume.name) {
            let place = place(directory, &volume.name);
            create(facts, objects, volume, &place).await?;
        }
    }
    Ok(())
}

/// What a container mounts; the volumes exist already.
pub(crate) fn mounts(
    pod: &Pod,
    container: &Container,
    directory: &Path,
    env: &[(String, String)],
) -> Result<Vec<Mount>, Failure> {
    let volumes = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| {
            Failure::config(format!("volume mount {:?} names no volume", mount.name))
        })?;
        let root = match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => claim::directory(place(directory, &volume.name)),
        };
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (_, Some(expression)) => {
                environment::expand_all(Some(&vec![expression.clone()]), env).concat()
            }
            (sub_path, None) => sub_path.clone().unwrap_or_default(),
        };
        let inside = relative(&sub_path)
            .ok_or_else(|| Failure::config(format!("subPath {sub_path:?} leaves its volume")))?;
        let claimed = claim::of(pod, volume);
        if volume.empty_dir.is_some() || claimed.is_some() {
            sys::inside::make_dirs(&root, &inside)
                .map_err(|error| failed(&root.join(&inside), &error))?;
        }
        mounts.push(Mount {
            source: root,
            inside,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only == Some(true)
                || is_written(volume)
                || claimed.is_some_and(|claim| claim.read_only),
        });
    }
    Ok(mounts)
}

/// Whether its files are ours to write, and to write again.
fn is_written(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

pub(crate) fn place(directory: &Path, volume: &str) -> PathBuf {
    directory.join("volumes").join(volume)
}

async fn create(
    facts: &Facts<'_>,
    objects: &Objects,
    volume: &Volume,
    place: &Path,
) -> Result<(), Failure> {
    let mut files = Files::default();
    if let Some(source) = &volume.config_map {
        files.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let data = objects
            .config_map(&source.name, source.optional == Some(true))
            .await?;
        files.add(
            data,
            source.items.as_deref(),
            source.optional == Some(true),
            &source.name,
        )?;
    } else if let Some(source) = &volume.secret {
        files.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let data = objects.secret(name, source.optional == Some(true)).await?;
        files.add(
            data,
            source.items.as_deref(),
            source.optional == Some(true),
            name,
        )?;
    } else if let Some(source) = &volume.downward_api {
        files.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        files.add_facts(facts, source.items.as_deref().unwrap_or_default())?;
    } else if let Some(source) = &volume.projected {
        files.mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            add_projection(facts, objects, projection, &mut files).await?;
        }
    } else if let Some(source) = &volume.empty_dir {
        if let Some(medium) = source.medium.as_deref().filter(|medium| !medium.is_empty()) {
            in_memory(volume, medium, source, place)?;
        }
        fs::create_dir_all(place).map_err(|error| failed(place, &error))?;
        // Any user of the pod may write, as with the kubelet; files belong to the pod's group.
        let group = group(facts.pod);
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        return std::os::unix::fs::chown(place, None, group)
            .and_then(|()| fs::set_permissions(place, fs::Permissions::from_mode(mode)))
            .map_err(|error| failed(place, &error));
    } else if let Some(host) = &volume.host_path {
        return host_path::prepare(
            Path::new(&host.path),
            host.type_.as_deref().unwrap_or_default(),
        )
        .map_err(|problem| {
            Failure::config(format!(
                "volume {}: hostPath type check failed: {} {problem}",
                volume.name, host.path
            ))
        });
    } else if let Some(claim) = claim::of(facts.pod, volume) {
        return claim::prepare(objects, &claim, place).await;
    } else {
        return Err(Failure::config(format!(
            "volume {:?} is of a kind that is not supported; use persistentVolumeClaim, configMap, secret, projected, downwardAPI, hostPath or emptyDir",
            volume.name
        )));
    }
    files.write(place, group(facts.pod))
}

/// An emptyDir that is memory; its size is its limit, else half of the machine's memory.
fn in_memory(
    volume: &Volume,
    medium: &str,
    source: &EmptyDirVolumeSource,
    place: &Path,
) -> Result<(), Failure> {
    if medium != MEMORY {
        return Err(Failure::config(format!(
            "volume {}: emptyDir medium {medium:?} is not supported; use {MEMORY:?} or none",
            volume.name
        )));
    }
    let limit = match &source.size_limit {
        None => None,
        Some(text) => {
            let parsed = Quantity::parse(&text.0).and_then(|size| u64::try_from(size.units()).ok());
            Some(parsed.ok_or_else(|| {
                Failure::config(format!(
                    "volume {}: sizeLimit {:?} is not a quantity",
                    volume.name, text.0
                ))
            })?)
        }
    };
    // Prepared before by a try that failed later.
    if sys::mount::is_mount(place) {
        return Ok(());
    }
    fs::create_dir_all(place)
        .and_then(|()| sys::mount::memory(place, limit))
        .map_err(|error| {
            Failure::config(format!(
                "volume {}: emptyDir medium Memory needs root on Linux: {error}; leave medium away",
                volume.name
            ))
        })
}

/// Undoes what mounts below a directory of ours; it can be deleted then.
pub(crate) fn unmount(directory: &Path) {
    if let Err(error) = sys::mount::unmount_below(directory) {
        tracing::warn!(directory = %directory.display(), %error, "a mounted volume stays behind");
    }
}

/// `fsGroup`: the group that volumes belong to. Only root can give files away.
fn group(pod: &Pod) -> Option<u32> {
    let context = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let group = context.and_then(|context| context.fs_group);
    group
        .and_then(|group| u32::try_from(group).ok())
        .filter(|_| sys::is_root())
}

async fn add_projection(
    facts: &Facts<'_>,
    objects: &Objects,
    projection: &VolumeProjection,
    files: &mut Files,
) -> Result<(), Failure> {
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        let data = objects.config_map(&source.name, optional).await?;
        files.add(data, source.items.as_deref(), optional, &source.name)
    } else if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        let data = objects.secret(&source.name, optional).await?;
        files.add(data, source.items.as_deref(), optional, &source.name)
    } else if let Some(source) = &projection.downward_api {
        files.add_facts(facts, source.items.as_deref().unwrap_or_default())
    } else if let Some(source) = &projection.service_account_token {
        let seconds = source.expiration_seconds.unwrap_or(live::TOKEN_SECONDS);
        let token = objects
            .token(facts.pod, source.audience.as_deref(), seconds)
            .await?;
        // As Kubernetes: who the token is for is known from a group alone; any other user of the
        // pod could not read a file of mode 0600.
        let mode = group(facts.pod).map(|_| 0o600);
        files.add_file(&source.path, token.into_bytes(), mode)
    } else {
        Err(Failure::config(
            "a projected volume may have configMap, secret, downwardAPI and serviceAccountToken sources",
        ))
    }
}

/// The path, if it stays below where it starts.
fn relative(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    inside.then(|| path.to_owned())
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::config(format!(
        "cannot write the volume's {}: {error}",
        path.display()
    ))
}
