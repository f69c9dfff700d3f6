//! Conditions of a Configuration: only Ready, about its newest revision.

use api::condition::{Conditions, READY};
use api::serving::v1::{Configuration, ConfigurationStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A Configuration's status while it is planned.
pub(super) struct Draft {
    pub(super) conditions: Conditions,
    pub(super) status: ConfigurationStatus,
}

impl Draft {
    /// Starts from what is stored.
    pub(super) fn new(configuration: &Configuration, now: Time) -> Self {
        let status = configuration.status.clone().unwrap_or_default();
        let mut conditions = Conditions::new(&status.conditions, &[], now);
        if conditions.get(READY).is_none() {
            conditions.mark_unknown(READY, "", "");
        }
        Self { conditions, status }
    }

    /// The newest revision exists (or is being created) under this name.
    pub(super) fn created(&mut self, name: &str) {
        self.status.latest_created_revision_name = Some(name.to_owned());
        if self.status.latest_ready_revision_name.as_deref() != Some(name) {
            self.conditions.mark_unknown(READY, "", "");
        }
    }

    /// The newest revision cannot be created.
    pub(super) fn creation_failed(&mut self, why: &str) {
        let message = format!("Revision creation failed with message: {why}.");
        self.conditions
            .mark_false(READY, "RevisionFailed", &message);
    }

    /// The newest revision is not going to be ready as things are.
    pub(super) fn newest_failed(&mut self, name: &str, why: &str) {
        let message = format!("Revision \"{name}\" failed with message: {why}.");
        self.conditions
            .mark_false(READY, "RevisionFailed", &message);
    }

    /// This revision is the newest one that is ready.
    pub(super) fn ready(&mut self, name: &str) {
        self.status.latest_ready_revision_name = Some(name.to_owned());
        if self.status.latest_created_revision_name.as_deref() == Some(name) {
            self.conditions.mark_true(READY);
        }
    }

    /// The latest ready revision was deleted and no other one is ready.
    pub(super) fn ready_deleted(&mut self, name: &str) {
        let message = format!("Revision \"{name}\" was deleted.");
        self.conditions
            .mark_false(READY, "RevisionDeleted", &message);
    }

    /// The status to store.
    pub(super) fn finish(mut self, configuration: &Configuration) -> ConfigurationStatus {
        self.status.observed_generation = configuration.metadata.generation;
        self.status.conditions = self.conditions.into_vec();
        self.status
    }
}

/// The plan counted on a creation that the API refused.
pub(super) fn creation_failed(
    configuration: &Configuration,
    status: &mut ConfigurationStatus,
    why: &str,
    now: Time,
) {
    let stored = configuration.status.clone().unwrap_or_default();
    let mut conditions = Conditions::new(&stored.conditions, &[], now);
    let message = format!("Revision creation failed with message: {why}.");
    conditions.mark_false(READY, "RevisionFailed", &message);
    status.latest_created_revision_name = stored.latest_created_revision_name;
    status.conditions = conditions.into_vec();
}
