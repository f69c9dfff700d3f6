//! `config-deployment`: how revisions become Deployments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::reader::{self, Reader};
use crate::duration;

/// Parsed `config-deployment`. The keys of Knative's sidecar are accepted and reported as having
/// no effect: Suimon runs no sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Registries whose tags stay as written.
    pub registries_skipping_tag_resolving: BTreeSet<String>,
    pub digest_resolution_timeout: Duration,
    /// How long a revision may take until its initial scale is ready.
    pub progress_deadline: Duration,
    /// Whether pods of a revision prefer different nodes.
    pub spread_over_nodes: bool,
    pub pod_is_always_schedulable: bool,
    runtime_classes: BTreeMap<String, RuntimeClass>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeClass {
    #[serde(default)]
    selector: BTreeMap<String, String>,
}

impl Default for Deployment {
    /// Knative's defaults.
    fn default() -> Self {
        Self::parse(&BTreeMap::new()).expect("the defaults are within bounds")
    }
}

const SIDECAR_KEYS: [&str; 21] = [
    "queue-sidecar-image",
    "queue-sidecar-cpu-request",
    "queue-sidecar-cpu-limit",
    "queue-sidecar-memory-request",
    "queue-sidecar-memory-limit",
    "queue-sidecar-ephemeral-storage-request",
    "queue-sidecar-ephemeral-storage-limit",
    "queue-sidecar-token-audiences",
    "queue-sidecar-rootca",
    "queue-sidecar-tls-min-version",
    "queue-sidecar-tls-max-version",
    "queue-sidecar-tls-cipher-suites",
    "queue-sidecar-tls-curve-preferences",
    "queueSidecarImage",
    "queueSidecarCPURequest",
    "queueSidecarCPULimit",
    "queueSidecarMemoryRequest",
    "queueSidecarMemoryLimit",
    "queueSidecarEphemeralStorageRequest",
    "queueSidecarEphemeralStorageLimit",
    "concurrency-state-endpoint",
];

impl Deployment {
    /// # Errors
    /// All values that do not parse or pass their bounds.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        reader::parse(data, Self::read)
    }

    /// The runtime class of a revision with these labels when its pod names none: the class
    /// whose selector matches with the most labels; one without selector matches all.
    pub fn runtime_class(&self, labels: &BTreeMap<String, String>) -> Option<&str> {
        let matching = self.runtime_classes.iter().filter(|(_, class)| {
            class
                .selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        });
        let best = matching.rev().max_by_key(|(_, class)| class.selector.len());
        best.map(|(name, _)| name.as_str())
            .filter(|name| !name.is_empty())
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let older_registries = reader.string(
            "registriesSkippingTagResolving",
            "kind.local,ko.local,dev.local",
        );
        let registries = reader.string("registries-skipping-tag-resolving", &older_registries);
        let registries = registries
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned);
        let older_timeout = reader.duration("digestResolutionTimeout", Duration::from_secs(10));
        let older_deadline = reader.duration("progressDeadline", Duration::from_secs(600));
        let config = Self {
            registries_skipping_tag_resolving: registries.collect(),
            digest_resolution_timeout: reader.duration("digest-resolution-timeout", older_timeout),
            progress_deadline: reader.duration("progress-deadline", older_deadline),
            spread_over_nodes: reader.word(
                "default-affinity-type",
                true,
                &[("prefer-spread-revision-over-nodes", true), ("none", false)],
            ),
            pod_is_always_schedulable: reader.boolean("pod-is-always-schedulable", false),
            runtime_classes: reader.parsed(
                "runtime-class-name",
                BTreeMap::new(),
                |text| match text {
                    "" => Ok(BTreeMap::new()),
                    text => {
                        let classes: BTreeMap<String, Option<RuntimeClass>> =
                            serde_saphyr::from_str(text).map_err(|problem| {
                                format!("cannot be parsed, please check the format: {problem}")
                            })?;
                        Ok(classes
                            .into_iter()
                            .map(|(name, class)| (name, class.unwrap_or_default()))
                            .collect())
                    }
                },
            ),
        };
        for key in SIDECAR_KEYS {
            reader.without_effect(key, "Suimon runs no queue-proxy sidecar");
        }
        let (deadline, timeout) = (config.progress_deadline, config.digest_resolution_timeout);
        reader.ensure(
            !deadline.is_zero() && deadline.subsec_nanos() == 0,
            "progress-deadline",
            || {
                let was = duration::format(deadline);
                if deadline.is_zero() {
                    format!("progress-deadline cannot be a non-positive duration, was {was}")
                } else {
                    format!("progress-deadline must be rounded to a whole second, was: {was}")
                }
            },
        );
        reader.ensure(!timeout.is_zero(), "digest-resolution-timeout", || {
            "digest-resolution-timeout cannot be a non-positive duration, was 0s".to_owned()
        });
        config
    }
}
