//! What makes a container's root: a list of steps, prepared elsewhere and carried out by the child.
//!
//! Sources of mounts are opened before the root is changed and attached after it: a symbolic link
//! of the image can never lead out of the image.

use std::ffi::{CString, c_char, c_int, c_long};
use std::ptr;

use serde::{Deserialize, Serialize};

use super::report::{Name, ok, unless_exists};

/// Most mounts that a container may have from outside.
pub(crate) const MOST_TREES: usize = 256;

const OPEN_TREE_CLONE: c_long = 1;
const AT_RECURSIVE: c_long = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: c_long = 4;
const AT_EMPTY_PATH: c_long = 0x1000;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// `struct mount_attr` of the kernel (linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// One system call (or a fixed little sequence) of the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// `mount(2)`. An optional one may fail: the kernel may lack it.
    Mount {
        source: CString,
        target: CString,
        kind: CString,
        flags: u64,
        data: CString,
        optional: bool,
    },
    /// Keeps a copy of the mount at `source` for a later [`Step::Attach`] with the same slot. With
    /// `inside` not empty: of that path below it, which no link may lead out of.
    OpenTree {
        source: CString,
        inside: CString,
        slot: usize,
    },
    /// Puts a kept mount at `target`, which exists.
    Attach {
        slot: usize,
        target: CString,
        read_only: bool,
    },
    /// Makes every mount below a path read-only.
    ReadOnly { target: CString },
    /// Directory; one that exists is fine.
    MakeDir { path: CString, mode: u32 },
    /// Empty file to mount on; one that exists is fine.
    MakeFile { path: CString },
    /// Character device.
    MakeDevice {
        path: CString,
        mode: u32,
        major: u32,
        minor: u32,
    },
    /// Symbolic link; one that exists is fine.
    Link { target: CString, path: CString },
    /// Makes `root` the root directory and lets go of the old one.
    Pivot { root: CString },
    /// Permissions whatever the file mode mask says.
    Mode { path: CString, mode: u32 },
    /// The host name.
    Hostname(CString),
}

/// # Safety
/// The caller must be the child of [`super::start`].
pub(super) unsafe fn carry_out(step: &Step, trees: &mut [c_int; MOST_TREES]) -> Result<(), Name> {
    // SAFETY: plain system calls with pointers to C strings that live in `step`.
    unsafe {
        match step {
            Step::Mount {
                source,
                target,
                kind,
                flags,
                data,
                optional,
            } => {
                let data = if data.is_empty() {
                    ptr::null()
                } else {
                    data.as_ptr().cast()
                };
                let mounted = libc::mount(
                    source.as_ptr(),
                    target.as_ptr(),
                    kind.as_ptr(),
                    *flags,
                    data,
                );
                if mounted == -1 && !optional {
                    Err(Name::Mount)
                } else {
                    Ok(())
                }
            }
            Step::OpenTree {
                source,
                inside,
                slot,
            } => {
                let fd = open_tree(source, inside);
                trees[*slot % MOST_TREES] = fd;
                ok(fd, Name::OpenTree)
            }
            Step::Attach {
                slot,
                target,
                read_only,
            } => {
                let fd = trees[*slot % MOST_TREES];
                if *read_only {
                    ok(
                        set_read_only(fd, c"".as_ptr(), AT_EMPTY_PATH),
                        Name::ReadOnly,
                    )?;
                }
                let flags = MOVE_MOUNT_F_EMPTY_PATH;
                let moved = libc::syscall(
                    libc::SYS_move_mount,
                    fd,
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    target.as_ptr(),
                    flags,
                );
                ok(moved as c_int, Name::Attach)
            }
            Step::ReadOnly { target } => ok(
                set_read_only(libc::AT_FDCWD, target.as_ptr(), 0),
                Name::ReadOnly,
            ),
            Step::MakeDir { path, mode } => {
                unless_exists(libc::mkdir(path.as_ptr(), *mode), Name::MakeDir)
            }
            Step::MakeFile { path } => {
                let fd = libc::open(
                    path.as_ptr(),
                    libc::O_CREAT | libc::O_RDONLY | libc::O_CLOEXEC,
                    0o644,
                );
                if fd >= 0 {
                    libc::close(fd);
                    return Ok(());
                }
                unless_exists(fd, Name::MakeFile)
            }
            Step::MakeDevice {
                path,
                mode,
                major,
                minor,
            } => {
                let device = libc::makedev(*major, *minor);
                ok(
                    libc::mknod(path.as_ptr(), libc::S_IFCHR | mode, device),
                    Name::MakeDevice,
                )?;
                ok(libc::chmod(path.as_ptr(), *mode), Name::MakeDevice)
            }
            Step::Link { target, path } => {
                unless_exists(libc::symlink(target.as_ptr(), path.as_ptr()), Name::Link)
            }
            Step::Pivot { root } => pivot(root),
            Step::Mode { path, mode } => ok(libc::chmod(path.as_ptr(), *mode), Name::MakeDir),
            Step::Hostname(name) => ok(
                libc::sethostname(name.as_ptr(), name.as_bytes().len()),
                Name::Hostname,
            ),
        }
    }
}

/// # Safety
/// The caller must be the child of [`super::start`].
unsafe fn open_tree(source: &CString, inside: &CString) -> c_int {
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | c_long::from(libc::O_CLOEXEC);
    // SAFETY: plain system calls with C strings that live until they return. The descriptors stay
    // open until execve, which closes them.
    unsafe {
        if inside.is_empty() {
            let path = source.as_ptr();
            return libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path, flags) as c_int;
        }
        let root = libc::open(source.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        if root == -1 {
            return root;
        }
        let place = crate::sys::inside::open_place(root, inside);
        if place == -1 {
            return place;
        }
        let path = c"".as_ptr();
        libc::syscall(libc::SYS_open_tree, place, path, flags | AT_EMPTY_PATH) as c_int
    }
}

/// # Safety
/// The caller must be the child of [`super::start`].
unsafe fn pivot(root: &CString) -> Result<(), Name> {
    // SAFETY: plain system calls. The old root is mounted over the new one by pivot_root(".", ".")
    // and is what "." means until it is detached (pivot_root(2), notes).
    unsafe {
        ok(libc::chdir(root.as_ptr()), Name::Pivot)?;
        ok(
            libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as c_int,
            Name::Pivot,
        )?;
        ok(libc::umount2(c".".as_ptr(), libc::MNT_DETACH), Name::Pivot)?;
        ok(libc::chdir(c"/".as_ptr()), Name::Pivot)
    }
}

/// # Safety
/// `path` must be a C string.
unsafe fn set_read_only(fd: c_int, path: *const c_char, flags: c_long) -> c_int {
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    let size = size_of::<MountAttr>();
    // SAFETY: the structure lives until the call returns; the caller vouches for the path.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path,
            flags | AT_RECURSIVE,
            &raw const attributes,
            size,
        ) as c_int
    }
}
