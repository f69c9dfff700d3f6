//! The files of a volume that the node writes: collected, then put in place all at once.
//!
//! A program sees `key -> ..data/key` and `..data -> ..VERSION`. A new version is written beside
//! the old one, and one rename of `..data` makes it the current one, as with the kubelet.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath};

use super::relative;
use crate::downward::{self, Facts};
use crate::object::Data;
use crate::runtime::Failure;

/// The link to the current version.
const CURRENT: &str = "..data";

/// Files to write: path inside the volume, content, mode.
#[derive(Default)]
pub(super) struct Files {
    pub(super) mode: i32,
    entries: Vec<(PathBuf, Vec<u8>, i32)>,
}

impl Files {
    pub(super) fn add(
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

    pub(super) fn add_facts(
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

    pub(super) fn add_file(
        &mut self,
        path: &str,
        content: Vec<u8>,
        mode: Option<i32>,
    ) -> Result<(), Failure> {
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

    /// Makes these files the content of the volume. Nothing is touched if they are already.
    pub(super) fn write(mut self, place: &Path, group: Option<u32>) -> Result<(), Failure> {
        // Later sources win, as in Kubernetes.
        let mut last = std::collections::BTreeMap::new();
        for (path, content, mode) in std::mem::take(&mut self.entries) {
            last.insert(path, (content, mode));
        }
        self.entries = last
            .into_iter()
            .map(|(path, (content, mode))| (path, content, mode))
            .collect();
        if self.is_current(place) {
            return Ok(());
        }
        self.replace(place, group).map_err(|error| {
            Failure::config(format!(
                "cannot write the volume {}: {error}",
                place.display()
            ))
        })
    }

    fn is_current(&self, place: &Path) -> bool {
        let current = place.join(CURRENT);
        let same = |(path, content, _): &(PathBuf, Vec<u8>, i32)| {
            fs::read(current.join(path)).is_ok_and(|known| known == *content)
        };
        current.exists() && count(&current) == self.entries.len() && self.entries.iter().all(same)
    }

    fn replace(&self, place: &Path, group: Option<u32>) -> io::Result<()> {
        fs::create_dir_all(place)?;
        fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
        let before = fs::read_link(place.join(CURRENT)).ok();
        let version = format!("..{}", jiff::Timestamp::now().as_nanosecond());
        let new = place.join(&version);
        fs::create_dir(&new)?;
        for (path, content, mode) in &self.entries {
            self.write_file(&new.join(path), content, *mode, group)?;
        }
        let staged = place.join("..data_tmp");
        let _ = fs::remove_file(&staged); // Left over if the node was killed here.
        symlink(&version, &staged)?;
        fs::rename(&staged, place.join(CURRENT))?;
        self.link(place)?;
        if let Some(before) = before {
            fs::remove_dir_all(place.join(before))?;
        }
        Ok(())
    }

    fn write_file(
        &self,
        path: &Path,
        content: &[u8],
        mode: i32,
        group: Option<u32>,
    ) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
        // Kubernetes: what a group of the pod owns, that group may read.
        let mode = if group.is_some() { mode | 0o440 } else { mode };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(content)?;
        if let Some(group) = group {
            std::os::unix::fs::fchown(&file, None, Some(group))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))
    }

    /// The names that programs open, and no other.
    fn link(&self, place: &Path) -> io::Result<()> {
        let wanted: BTreeSet<_> = self
            .entries
            .iter()
            .filter_map(|(path, _, _)| path.components().next())
            .map(|first| PathBuf::from(first.as_os_str()))
            .collect();
        for entry in fs::read_dir(place)? {
            let name = PathBuf::from(entry?.file_name());
            if !name.to_string_lossy().starts_with("..") && !wanted.contains(&name) {
                fs::remove_file(place.join(name))?;
            }
        }
        for name in wanted {
            match symlink(Path::new(CURRENT).join(&name), place.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Files below a directory.
fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path()),
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(place: &Path, entries: &[(&str, &str)]) {
        let mut files = Files {
            mode: 0o640,
            ..Files::default()
        };
        for (path, content) in entries {
            files
                .add_file(path, content.as_bytes().to_vec(), None)
                .expect("inside");
        }
        files.write(place, None).expect("written");
    }

    #[test]
    fn a_new_version_replaces_the_old_one_whole_and_leaves_nothing_of_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        write(dir.path(), &[("a", "1"), ("deep/b", "1"), ("gone", "1")]);
        let first = fs::read_link(dir.path().join("..data")).expect("a link");
        write(dir.path(), &[("a", "1"), ("deep/b", "1"), ("gone", "1")]);
        assert_eq!(
            fs::read_link(dir.path().join("..data")).expect("a link"),
            first
        );
        write(dir.path(), &[("a", "2"), ("deep/b", "1")]);
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).ok();
        assert_eq!(read("a").as_deref(), Some("2"));
        assert_eq!(read("deep/b").as_deref(), Some("1"));
        assert!(read("gone").is_none() && !dir.path().join(first).exists());
        let mode = fs::metadata(dir.path().join("a"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}
