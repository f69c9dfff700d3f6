//! `hostPath` types: what must be at a path of the machine, or is made there.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Checks what is at `path`, or makes it. An error goes after the path in a sentence.
pub(super) fn prepare(path: &Path, kind: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot be made: {error}");
    let there = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let is = |what: fn(&FileType) -> bool, name: &str| match there {
        Some(found) if what(&found) => Ok(()),
        _ => Err(format!("is not {name}")),
    };
    match kind {
        // Whatever is there; container engines make a directory of nothing.
        "" if there.is_some() => Ok(()),
        "DirectoryOrCreate" if there.is_some() => is(FileType::is_dir, "a directory"),
        "" | "DirectoryOrCreate" => fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map_err(failed),
        "Directory" => is(FileType::is_dir, "a directory"),
        "FileOrCreate" if there.is_some() => is(FileType::is_file, "a file"),
        "FileOrCreate" => fs::write(path, [])
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
            .map_err(failed),
        "File" => is(FileType::is_file, "a file"),
        "Socket" => is(FileType::is_socket, "a socket"),
        "CharDevice" => is(FileType::is_char_device, "a character device"),
        "BlockDevice" => is(FileType::is_block_device, "a block device"),
        other => Err(format!("has the type {other:?}, which does not exist")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_finds_what_it_names_and_makes_what_it_may() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "").expect("written");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        for (name, kind, good) in [
            ("file", "File", true),
            ("file", "", true),
            ("file", "Directory", false),
            ("file", "DirectoryOrCreate", false),
            ("socket", "Socket", true),
            ("socket", "File", false),
            ("absent", "File", false),
            ("absent", "Directory", false),
            ("absent", "CharDevice", false),
            ("new/deep", "DirectoryOrCreate", true),
            ("new", "Directory", true),
            ("new/file", "FileOrCreate", true),
            ("no/such/file", "FileOrCreate", false),
            ("any", "", true),
            ("file", "Pipe", false),
        ] {
            assert_eq!(prepare(&at(name), kind).is_ok(), good, "{name} as {kind:?}");
        }
        assert!(at("new/deep").is_dir() && at("new/file").is_file() && at("any").is_dir());
        assert!(prepare(Path::new("/dev/null"), "CharDevice").is_ok());
    }
}
