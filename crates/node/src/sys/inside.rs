//! Paths that must not leave a directory, whatever links a container has put there.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::check;

/// `struct open_how` of the kernel (linux/openat2.h).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const NO_MAGIC_LINKS: u64 = 2;
const BENEATH: u64 = 8;

/// Opens `inside` below `root` as a place, not for reading. -1 and errno on failure; makes no
/// other call and allocates nothing, so that the child of `clone` may use it.
///
/// # Safety
/// `root` must be an open descriptor.
pub(super) unsafe fn open_place(root: RawFd, inside: &CStr) -> RawFd {
    let how = OpenHow {
        flags: (libc::O_PATH | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: BENEATH | NO_MAGIC_LINKS,
    };
    // SAFETY: the path and the structure live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root,
            inside.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        ) as RawFd
    }
}

fn open(root: &File, inside: &Path) -> io::Result<OwnedFd> {
    let inside = CString::new(inside.as_os_str().as_bytes())?;
    // SAFETY: `root` is open; the result is checked and owned by nobody else.
    unsafe {
        let fd = check(open_place(root.as_raw_fd(), &inside))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Whether `inside` is a directory below `root`. An error if a link leads out of it.
pub(crate) fn is_dir(root: &Path, inside: &Path) -> io::Result<bool> {
    if inside.as_os_str().is_empty() {
        return Ok(std::fs::metadata(root)?.is_dir());
    }
    let place = open(&File::open(root)?, inside)?;
    Ok(File::from(place).metadata()?.is_dir())
}

/// Makes the directories of `inside` below `root` that are missing, writable for every user of
/// the pod like the volume itself.
pub(crate) fn make_dirs(root: &Path, inside: &Path) -> io::Result<()> {
    let root = File::open(root)?;
    let (mut parent, mut path) = (OwnedFd::from(root.try_clone()?), PathBuf::new());
    for part in inside.components() {
        path.push(part);
        parent = match open(&root, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = CString::new(part.as_os_str().as_bytes())?;
                // SAFETY: `parent` is open and `name` is a C string.
                check(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o777) })?;
                open(&root, &path)?
            }
            other => other?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("volume");
        std::fs::create_dir_all(root.join("real")).expect("made");
        symlink("/", root.join("absolute")).expect("linked");
        symlink("..", root.join("up")).expect("linked");
        symlink("real", root.join("within")).expect("linked");
        assert!(is_dir(&root, Path::new("within")).expect("inside"));
        for bad in ["absolute/etc", "up", "up/other", "absolute"] {
            assert!(is_dir(&root, Path::new(bad)).is_err(), "{bad}");
            assert!(
                make_dirs(&root, Path::new(&format!("{bad}/new"))).is_err(),
                "{bad}"
            );
        }
        make_dirs(&root, Path::new("a/b")).expect("made");
        make_dirs(&root, Path::new("within/c")).expect("made");
        assert!(root.join("a/b").is_dir() && root.join("real/c").is_dir());
        assert!(!dir.path().join("other").exists());
    }
}
