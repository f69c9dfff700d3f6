//! File systems in memory for volumes, in the machine's own mount namespace.
//!
//! Each bears the mark of the process that made it where others have the name of a disk. So what
//! a killed process left is told from what the next one mounts at the same place.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use super::check;

/// The mount points of this process, deepest last.
fn mount_points() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))))
        .collect();
    points.sort();
    points
}

/// The kernel writes spaces and the like as backslash and three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let byte = code
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Whether something is mounted exactly there.
pub(crate) fn is_mount(path: &Path) -> bool {
    mount_points().iter().any(|point| point == path)
}

/// What no other process's mounts bear: the process's number and when it was started.
#[cfg(target_os = "linux")]
pub(crate) fn mark(process: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; the start is the 20th field after it.
    let started = stat
        .rsplit_once(") ")
        .and_then(|(_, fields)| fields.split(' ').nth(19))
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(format!("suimon-{process}-{started}"))
}

/// Mounts memory over a directory, of so many bytes at most; half of the machine's for `None`.
#[cfg(target_os = "linux")]
pub(crate) fn memory(path: &Path, bytes: Option<u64>) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::ptr;

    let source = CString::new(mark(std::process::id())?)?;
    let target = CString::new(path.as_os_str().as_bytes())?;
    let options = bytes.map_or_else(String::new, |bytes| format!("size={bytes}"));
    let options = CString::new(options)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    let kind = c"tmpfs".as_ptr();
    let data = if bytes.is_some() {
        options.as_ptr().cast()
    } else {
        ptr::null()
    };
    // SAFETY: every pointer is to a C string that outlives the call, or null where that is allowed.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, data) }).map(drop)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn memory(_path: &Path, _bytes: Option<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Unmounts everything below a directory.
#[cfg(target_os = "linux")]
pub(crate) fn unmount_below(directory: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;

    let points = mount_points();
    let below = points
        .iter()
        .rev()
        .filter(|point| point.starts_with(directory) && point.as_path() != directory);
    let mut result = Ok(());
    for point in below {
        let target = std::ffi::CString::new(point.as_os_str().as_bytes())?;
        // SAFETY: the pointer is to a C string that outlives the call. Detached, because a
        // process on its way out may still have a file open.
        let unmounted = check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) });
        if let Err(error) = unmounted {
            result = Err(error);
        }
    }
    result
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unmount_below(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Id, place and source of every mount of this process's namespace.
#[cfg(target_os = "linux")]
fn mounts() -> Vec<(String, PathBuf, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (id, place) = (fields.next()?, fields.nth(3)?);
        let place = std::ffi::OsString::from_vec(unescape(place));
        let source = kind.split(' ').nth(1)?;
        Some((id.to_owned(), place.into(), source.to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// Unmounts what bears a mark, wherever it is. What others mount at the same places meanwhile
/// stays: only an open mount whose mark was seen is unmounted, and an open one's id is no
/// other's.
#[cfg(target_os = "linux")]
pub(crate) fn unmount_marked(mark: &str) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    let mut result = Ok(());
    for (_, place, _) in mounts().iter().filter(|(_, _, source)| source == mark) {
        let mut options = fs::OpenOptions::new();
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;
        let Ok(opened) = options.read(true).custom_flags(flags).open(place) else {
            continue; // Unmounted and deleted by the next process.
        };
        let number = opened.as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let id = id.unwrap_or_default().trim();
        let is_ours = |(found, _, source): &(String, _, String)| found == id && source == mark;
        if !mounts().iter().any(is_ours) {
            continue;
        }
        let target = std::ffi::CString::new(format!("/proc/self/fd/{number}"))?;
        // SAFETY: the pointer is to a C string that outlives the call.
        if let Err(error) = check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }) {
            // Invalid: it is no longer mounted.
            if error.raw_os_error() != Some(libc::EINVAL) {
                result = Err(error);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_escapes_is_read_back() {
        assert_eq!(unescape("/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescape("/plain\\9"), b"/plain\\9");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_mounted_bounded_and_gone_again() {
        if !crate::sys::is_root() {
            return; // Mounting needs root.
        }
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("a volume");
        fs::create_dir(&place).expect("made");
        memory(&place, Some(64 << 10)).expect("mounted");
        assert!(is_mount(&place));
        fs::write(place.join("small"), vec![0; 32 << 10]).expect("fits");
        assert!(fs::write(place.join("large"), vec![0; 128 << 10]).is_err());
        unmount_below(directory.path()).expect("unmounted");
        assert!(!is_mount(&place) && !place.join("small").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_what_bears_the_mark_is_unmounted() {
        if !crate::sys::is_root() {
            return; // Mounting needs root.
        }
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("a volume");
        fs::create_dir(&place).expect("made");
        memory(&place, None).expect("mounted");
        unmount_marked("suimon-1-1").expect("nothing to do");
        assert!(is_mount(&place), "another process's");
        let mine = mark(std::process::id()).expect("a mark");
        unmount_marked(&mine).expect("unmounted");
        assert!(!is_mount(&place));
    }
}
