//! What the child of a start tells its parent: which step failed, and why.
//!
//! The two share one page of memory. The child writes numbers only: it must not allocate, and text
//! would have to be kept for it.

use std::io;
use std::ptr;

use libc::c_int;

/// Where the child tells the step that failed: a page that it shares with the parent.
pub(super) struct SharedPage(*mut Report);

#[derive(Clone, Copy)]
struct Report {
    /// Index into [`NAMES`], plus one; 0 while nothing failed.
    step: usize,
    errno: i32,
}

/// How a child writes to the page that it shares with its parent.
#[derive(Clone, Copy)]
pub(super) struct Reporter(*mut Report);

/// Steps by number, since a pointer to text would be another allocation to keep.
const NAMES: [&str; 19] = [
    "start a session for",
    "redirect the output of",
    "make a terminal for",
    "enter the network of",
    "mount a file system for",
    "open a volume of",
    "attach a volume to",
    "make a mount read-only for",
    "create a directory for",
    "create a file for",
    "create a device for",
    "create a link for",
    "change the root of",
    "set the host name of",
    "limit the capabilities of",
    "change the user of",
    "enter the working directory of",
    "filter the system calls of",
    "execute",
];

#[derive(Clone, Copy)]
pub(super) enum Name {
    Session,
    Output,
    Terminal,
    Network,
    Mount,
    OpenTree,
    Attach,
    ReadOnly,
    MakeDir,
    MakeFile,
    MakeDevice,
    Link,
    Pivot,
    Hostname,
    Capabilities,
    User,
    Directory,
    Seccomp,
    Execute,
}

impl SharedPage {
    pub(super) fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping; the result is checked before use.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Report>(),
                protection,
                flags,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(page.cast()))
    }

    /// For the child.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter(self.0)
    }

    /// The step that failed and its error number, if one did.
    pub(super) fn failed(&self) -> Option<(&'static str, i32)> {
        // SAFETY: the mapping lives as long as `self`, is zeroed at first, and any bits are a
        // valid `Report`; the child may write it, hence volatile.
        let report = unsafe { ptr::read_volatile(self.0) };
        let step = report.step.checked_sub(1)?;
        Some((NAMES[step % NAMES.len()], report.errno))
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size and nobody else unmaps it.
        unsafe { libc::munmap(self.0.cast(), size_of::<Report>()) };
    }
}

impl Reporter {
    /// Tells the parent that a step failed, with the error number of this moment.
    ///
    /// # Safety
    /// The caller must be the child, so that the page is its own, or shared and still mapped.
    pub(super) unsafe fn tell(self, step: Name) {
        // SAFETY: the caller vouches for the page; errno is always readable.
        unsafe {
            let report = Report {
                step: step as usize + 1,
                errno: *libc::__errno_location(),
            };
            ptr::write_volatile(self.0, report);
        }
    }
}

/// The step's name, if the system call failed.
pub(super) fn ok(result: c_int, step: Name) -> Result<(), Name> {
    if result == -1 { Err(step) } else { Ok(()) }
}

/// The same, but what is there already is fine.
pub(super) fn unless_exists(result: c_int, step: Name) -> Result<(), Name> {
    // SAFETY: errno is always readable.
    let errno = unsafe { *libc::__errno_location() };
    if result == -1 && errno != libc::EEXIST && errno != libc::EISDIR {
        Err(step)
    } else {
        Ok(())
    }
}
