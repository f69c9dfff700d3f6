//! What a killed main process leaves on the machine, taken away by its spawner.
//!
//! The next main process may have begun on the same directory already. So nothing is judged by
//! its place: mounts bear the mark of the process that made them, and bridges with their control
//! groups are claimed by locks, which the kernel has let go of by then.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::parent_id;
use std::time::Duration;

use crate::runtime::oci::network;
use crate::sys::signal::wait_readable;
use crate::sys::{self, mount};

/// How long a main process may live on after it has closed its socket. If it lives longer, it
/// ends in order and takes away what it has itself.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The process that gets what its parent leaves.
pub(super) struct Heir {
    /// Stands for the parent; `None` if it was gone before it could be known.
    parent: Option<OwnedFd>,
    /// On the parent's mounts.
    mark: Option<String>,
}

impl Heir {
    /// The calling process, of its parent. Without root a parent has nothing to leave.
    pub(super) fn of_parent() -> Self {
        let parent = parent_id();
        let known = sys::is_root() && parent > 1;
        let number = i32::try_from(parent).ok().filter(|_| known);
        Self {
            parent: number.and_then(|parent| sys::open_process(parent).ok()),
            mark: mount::mark(parent).ok(),
        }
    }

    /// Waits for the parent's end and removes what is left of it.
    pub(super) fn take_away(&self) {
        let Some(parent) = &self.parent else {
            return;
        };
        if !matches!(
            wait_readable([parent.as_raw_fd()], Some(LAST_WORDS)),
            Ok([true])
        ) {
            return;
        }
        if let Some(mark) = &self.mark
            && let Err(error) = mount::unmount_marked(mark)
        {
            tracing::warn!(%error, "a volume in memory stays mounted");
        }
        network::remove_abandoned();
    }
}
