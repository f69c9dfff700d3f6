//! What the containers of one pod have in common, from its preparation to its removal.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::cgroup::{Cgroup, Limits};
use super::network::Network;
use super::share::Sharing;
use super::{Failure, Sandbox};
use crate::callers::Known;

/// What a pod's containers share beyond [`Sandbox`]. Fields are dropped in this order.
pub(super) struct Shared {
    /// Before the network: its address is another pod's at once.
    _known: Option<Known>,
    /// `None` for a pod in the machine's network.
    pub(super) network: Option<Network>,
    /// By container; a group outlives its container so that its counters can be read.
    cgroups: Mutex<HashMap<String, Cgroup>>,
    /// By container: limits that are no longer those that it came with.
    resized: Mutex<HashMap<String, Limits>>,
    pub(super) sharing: Sharing,
}

impl Shared {
    pub(super) fn new(known: Option<Known>, network: Option<Network>, sharing: Sharing) -> Self {
        Self {
            _known: known,
            network,
            cgroups: Mutex::default(),
            resized: Mutex::default(),
            sharing,
        }
    }

    /// What `make` put into the sandbox.
    pub(super) fn of(sandbox: &Sandbox) -> Result<&Self, Failure> {
        let private = sandbox
            .private
            .as_ref()
            .and_then(|private| private.downcast_ref::<Self>());
        private.ok_or_else(|| Failure::sandbox("the pod was prepared by another runtime"))
    }

    /// Kept before the start: a group must not go while a process is in it.
    pub(super) fn keep(&self, container: &str, group: Cgroup) {
        let mut groups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.insert(container.to_owned(), group);
    }

    /// Asks a container's group; `None` if it has none.
    pub(super) fn with_group<T>(
        &self,
        container: &str,
        ask: impl FnOnce(&Cgroup) -> T,
    ) -> Option<T> {
        let groups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.get(container).map(ask)
    }

    /// The limits that a container has by now; `None`: those that it came with.
    pub(super) fn resized(&self, container: &str) -> Option<Limits> {
        let resized = self.resized.lock().unwrap_or_else(PoisonError::into_inner);
        resized.get(container).copied()
    }

    pub(super) fn resize(&self, container: &str, limits: Limits) -> Result<(), String> {
        if let Some(done) = self.with_group(container, |group| group.resize(limits)) {
            done?;
        }
        let mut resized = self.resized.lock().unwrap_or_else(PoisonError::into_inner);
        resized.insert(container.to_owned(), limits);
        Ok(())
    }

    /// Ends what a container's first process left behind.
    pub(super) fn end_rest(&self, container: &str) {
        self.with_group(container, Cgroup::kill);
    }

    /// Where one more process of the container belongs.
    pub(super) fn group(&self, container: &str) -> (Vec<PathBuf>, Option<PathBuf>) {
        self.with_group(container, |group| (group.tasks_files(), group.clone_dir()))
            .unwrap_or_default()
    }

    /// The groups go with their last holder.
    pub(super) fn forget_groups(&self) {
        let mut groups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.clear();
    }
}
