//! Volumes as directories of the pod, ready for a runtime to show to containers.
//!
//! ConfigMap, Secret, projected and downward volumes are written once, when the pod starts;
//! later changes of the objects do not reach a running pod. What is not supported fails the
//! container with a message, never silently.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection,
};

use crate::downward::{self, Facts};
use crate::environment;
use crate::object::{Data, Objects};
use crate::runtime::{Failure, Mount};

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
    let containers = || {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    };
    for volume in spec.volumes.iter().flatten() {
        let mounted = containers().any(|c| {
            c.volume_mounts
                .iter()
                .flatten()
                .any(|mount| mount.name == volume.name)
        });
        if mounted {
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
            None => place(directory, &volume.name),
        };
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (_, Some(expression)) => {
                environment::expand_all(Some(&vec![expression.clone()]), env).concat()
            }
            (sub_path, None) => sub_path.clone().unwrap_or_default(),
        };
        let inside = relative(&sub_path)
            .ok_or_else(|| Failure::config(format!("subPath {sub_path:?} leaves its volume")))?;
        let source = root.join(inside);
        if volume.empty_dir.is_some() && !source.exists() {
            fs::create_dir_all(&source).map_err(|error| failed(&source, &error))?;
        }
        let written =
            volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some();
        mounts.push(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only == Some(true) || written || volume.downward_api.is_some(),
        });
    }
    Ok(mounts)
}

fn place(directory: &Path, volume: &str) -> PathBuf {
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
    } else if volume.empty_dir.is_some() {
        fs::create_dir_all(place).map_err(|error| failed(place, &error))?;
        // Any user of the pod may write, as with the kubelet.
        let open = fs::Permissions::from_mode(0o777);
        return fs::set_permissions(place, open).map_err(|error| failed(place, &error));
    } else if let Some(host) = &volume.host_path {
        let path = Path::new(&host.path);
        return match path.exists() {
            true => Ok(()),
            false => Err(Failure::config(format!(
                "volume {}: host path {} does not exist",
                volume.name, host.path
            ))),
        };
    } else {
        return Err(Failure::config(format!(
            "volume {:?} is of a kind that is not supported; use configMap, secret, projected, downwardAPI or emptyDir",
            volume.name
        )));
    }
    files.write(place)
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
    } else {
        Err(Failure::config(
            "a projected volume may have configMap, secret and downwardAPI sources; service account tokens are not supported yet",
        ))
    }
}

/// Files to write: path inside the volume, content, mode.
#[derive(Default)]
struct Files {
    mode: i32,
    entries: Vec<(PathBuf, Vec<u8>, i32)>,
}

impl Files {
    fn add(
        &mut self,
        data: Option<Data>,
        items: Option<&[KeyToPath]>,
        optional: bool,
        object: &str,
    ) -> Result<(), Failure> {
        let mut data = data.unwrap_or_default();
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            let mode = self.mode;
            self.entries.extend(
                data.into_iter()
                    .map(|(key, value)| (PathBuf::from(key), value, mode)),
            );
            return Ok(());
        };
        for item in items {
            match data.remove(&item.key) {
                Some(value) => self.add_file(&item.path, value, item.mode)?,
                None if optional => {}
                None => {
                    return Err(Failure::config(format!(
                        "{object} has no key {:?}, which a volume wants",
                        item.key
                    )));
                }
            }
        }
        Ok(())
    }

    fn add_facts(
        &mut self,
        facts: &Facts<'_>,
        items: &[DownwardAPIVolumeFile],
    ) -> Result<(), Failure> {
        for item in items {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => downward::field(facts, &field.field_path)?,
                (None, Some(resource)) => {
                    // The selector names its container; the first one only stands in for the type.
                    let container = facts
                        .pod
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.containers.first());
                    let container =
                        container.ok_or_else(|| Failure::config("the pod has no containers"))?;
                    downward::resource(facts.pod, container, resource)?
                }
                (None, None) => {
                    return Err(Failure::config(format!(
                        "downwardAPI file {:?} names no field",
                        item.path
                    )));
                }
            };
            self.add_file(&item.path, value.into_bytes(), item.mode)?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &str, content: Vec<u8>, mode: Option<i32>) -> Result<(), Failure> {
        let inside = relative(path).filter(|path| path.file_name().is_some());
        let inside = inside.ok_or_else(|| {
            Failure::config(format!(
                "path {path:?} of a volume's file leaves the volume"
            ))
        })?;
        self.entries
            .push((inside, content, mode.unwrap_or(self.mode)));
        Ok(())
    }

    fn write(self, place: &Path) -> Result<(), Failure> {
        fs::create_dir_all(place).map_err(|error| failed(place, &error))?;
        for (path, content, mode) in self.entries {
            let path = place.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
            }
            // A second container of the pod finds the file of the first try; write it anew.
            let _ = fs::remove_file(&path);
            let mode = u32::try_from(mode).unwrap_or(0o644) & 0o7777;
            let file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path);
            file.and_then(|mut file| file.write_all(&content))
                .map_err(|error| failed(&path, &error))?;
        }
        Ok(())
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
