//! Layers → one directory: the image's root file system.
//!
//! Layers are applied in order into a single directory, whiteouts as deletions (OCI image
//! specification, "Layer Filesystem Changeset"). Images do not share files on disk; in exchange
//! a container's overlay has one lower directory, no privilege is needed to unpack, and what is
//! in the store is what the container sees.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::Error;

/// Most entries and bytes that an image may unpack to.
const MOST_ENTRIES: u64 = 2_000_000;
const MOST_BYTES: u64 = 64 << 30;

/// Applies layers one after another.
pub(crate) struct Unpacker {
    root: PathBuf,
    entries: u64,
    /// Sum of the sizes of the files unpacked.
    pub(crate) bytes: u64,
    owners: bool,
}

impl Unpacker {
    /// Unpacks into `root`, which exists and is empty. Owners are kept if `owners` (needs root).
    pub(crate) fn new(root: &Path, owners: bool) -> Self {
        Self {
            root: root.to_owned(),
            entries: 0,
            bytes: 0,
            owners,
        }
    }

    /// Applies one layer: a tar file, plain or gzip by its first bytes.
    pub(crate) fn apply(&mut self, layer: impl Read) -> Result<(), Error> {
        let mut layer = BufReader::with_capacity(128 * 1024, layer);
        let head = layer
            .fill_buf()
            .map_err(Error::io("read a layer for", &self.root))?;
        match head {
            [0x1f, 0x8b, ..] => self.apply_tar(MultiGzDecoder::new(layer)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                Err(self.refuse("zstd layers are not supported; push the image with gzip layers"))
            }
            _ => self.apply_tar(layer),
        }
    }

    fn apply_tar(&mut self, tar: impl Read) -> Result<(), Error> {
        let mut archive = tar::Archive::new(tar);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(self.owners);
        archive.set_overwrite(true);
        let entries = archive
            .entries()
            .map_err(Error::io("read a layer for", &self.root))?;
        for entry in entries {
            let mut entry = entry.map_err(Error::io("read a layer for", &self.root))?;
            self.count(entry.size())?;
            let path = entry
                .path()
                .map_err(Error::io("read a layer for", &self.root))?
                .into_owned();
            if self.is_whiteout(&path)? {
                continue;
            }
            if entry.header().entry_type().is_character_special()
                || entry.header().entry_type().is_block_special()
            {
                continue; // Containers get the devices of the runtime contract, never an image's.
            }
            self.make_room(&path, entry.header().entry_type().is_dir())?;
            // `unpack_in` refuses to leave the root, also through symbolic links.
            let unpacked = entry
                .unpack_in(&self.root)
                .map_err(Error::io("unpack into", &self.root))?;
            if !unpacked {
                return Err(self.refuse("an entry's path leaves the image"));
            }
        }
        Ok(())
    }

    fn count(&mut self, size: u64) -> Result<(), Error> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.entries > MOST_ENTRIES || self.bytes > MOST_BYTES {
            return Err(self.refuse("the image unpacks to more than 2,000,000 files or 64 GiB"));
        }
        Ok(())
    }

    /// `.wh.NAME` deletes NAME of the layers below, `.wh..wh..opq` everything beside it.
    fn is_whiteout(&self, path: &Path) -> Result<bool, Error> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Ok(false);
        };
        let Some(hidden) = name.strip_prefix(".wh.") else {
            return Ok(false);
        };
        let Some(dir) = self.inside(path.parent().unwrap_or_else(|| Path::new(""))) else {
            return Err(self.refuse("a whiteout's path leaves the image"));
        };
        if hidden == ".wh..opq" {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                remove(&entry.path()).map_err(Error::io("delete", &entry.path()))?;
            }
            return Ok(true);
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(self.refuse("a whiteout names no file"));
        }
        let target = dir.join(hidden);
        remove(&target).map_err(Error::io("delete", &target))?;
        Ok(true)
    }

    /// A later layer may replace a directory by a file and the other way round.
    fn make_room(&self, path: &Path, is_dir: bool) -> Result<(), Error> {
        let mut target = self.root.clone();
        let mut components = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .peekable();
        while let Some(component) = components.next() {
            target.push(component);
            let wants_dir = is_dir || components.peek().is_some();
            match fs::symlink_metadata(&target) {
                // A link may lead to a directory; `unpack_in` checks where it leads.
                Ok(found) if found.is_symlink() && components.peek().is_some() => return Ok(()),
                Ok(found) if found.is_dir() != wants_dir => {
                    remove(&target).map_err(Error::io("delete", &target))?;
                }
                Ok(_) => {}
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// The existing directory of this path, if it is inside the root wherever links lead.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let relative = path.strip_prefix("/").unwrap_or(path);
        let root = self.root.canonicalize().ok()?;
        match root.join(relative).canonicalize() {
            Ok(dir) => dir.starts_with(&root).then_some(dir),
            // Nothing there, nothing to hide.
            Err(_) => Some(root.join(relative)),
        }
    }

    fn refuse(&self, problem: &'static str) -> Error {
        Error::BadImage {
            problem: problem.to_owned(),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            let name = header.as_old_mut();
            name.name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder
                .append(&header, content.as_bytes())
                .expect("written");
        }
        builder.into_inner().expect("finished")
    }

    #[test]
    fn later_layers_replace_and_delete_what_earlier_ones_brought() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut unpacker = Unpacker::new(dir.path(), false);
        unpacker
            .apply(&*layer(&[
                ("etc/a", "1"),
                ("etc/b", "1"),
                ("var/x", "1"),
                ("swap", "file"),
            ]))
            .expect("applied");
        unpacker
            .apply(&*layer(&[
                ("etc/a", "2"),
                ("etc/.wh.b", ""),
                ("var/.wh..wh..opq", ""),
                ("swap/in", "dir"),
            ]))
            .expect("applied");
        assert_eq!(
            fs::read_to_string(dir.path().join("etc/a")).expect("there"),
            "2"
        );
        assert!(!dir.path().join("etc/b").exists());
        assert!(!dir.path().join("var/x").exists());
        assert!(dir.path().join("var").exists());
    }

    #[test]
    fn nothing_is_written_or_deleted_outside_the_image() {
        let outer = tempfile::tempdir().expect("temp dir");
        let root = outer.path().join("root");
        fs::create_dir(&root).expect("created");
        fs::write(outer.path().join("precious"), "x").expect("written");
        for bad in ["../evil", "../.wh.precious"] {
            assert!(
                Unpacker::new(&root, false)
                    .apply(&*layer(&[(bad, "x")]))
                    .is_err(),
                "{bad}"
            );
        }
        std::os::unix::fs::symlink(outer.path(), root.join("link")).expect("linked");
        assert!(
            Unpacker::new(&root, false)
                .apply(&*layer(&[("link/.wh.precious", "")]))
                .is_err()
        );
        assert!(outer.path().join("precious").exists());
        assert!(!outer.path().join("evil").exists());
    }
}
