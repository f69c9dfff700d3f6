//! `config-defaults`: what a revision gets when its author does not say.

use std::collections::BTreeMap;

use super::ConfigError;
use super::reader::{self, Reader};
use super::template::{Field, Template, Values};
use crate::names;

/// Parsed `config-defaults`. Times in seconds, quantities as Kubernetes writes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    pub revision_timeout_seconds: i64,
    pub max_revision_timeout_seconds: i64,
    /// 0 means none.
    pub revision_response_start_timeout_seconds: i64,
    /// 0 means none.
    pub revision_idle_timeout_seconds: i64,
    pub revision_cpu_request: Option<String>,
    pub revision_cpu_limit: Option<String>,
    pub revision_memory_request: Option<String>,
    pub revision_memory_limit: Option<String>,
    pub revision_ephemeral_storage_request: Option<String>,
    pub revision_ephemeral_storage_limit: Option<String>,
    container_name_template: Template,
    init_container_name_template: Template,
    /// 0 means no limit.
    pub container_concurrency: i64,
    pub container_concurrency_max_limit: i64,
    pub allow_container_concurrency_zero: bool,
    /// `None` leaves the field unset (Kubernetes then means true).
    pub enable_service_links: Option<bool>,
}

impl Default for Defaults {
    /// Knative's defaults.
    fn default() -> Self {
        Self::parse(&BTreeMap::new()).expect("the defaults are within bounds")
    }
}

impl Defaults {
    /// # Errors
    /// All values that do not parse or contradict each other.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        reader::parse(data, Self::read)
    }

    /// The name that an unnamed container of this Service or Configuration gets.
    pub fn container_name(&self, parent: &Values<'_>) -> String {
        self.container_name_template.render(parent)
    }

    /// The name that an unnamed init container of this Service or Configuration gets.
    pub fn init_container_name(&self, parent: &Values<'_>) -> String {
        self.init_container_name_template.render(parent)
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        const PARENT: &[Field] = &[Field::Name, Field::Namespace];
        let timeout = reader.integer("revision-timeout-seconds", 300);
        let links = reader.parsed("enable-service-links", Some(false), |text| {
            Ok(match text.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            })
        });
        let config = Self {
            revision_timeout_seconds: timeout,
            max_revision_timeout_seconds: reader.integer("max-revision-timeout-seconds", 600),
            // Unset, it follows the revision timeout.
            revision_response_start_timeout_seconds: reader
                .integer("revision-response-start-timeout-seconds", timeout),
            revision_idle_timeout_seconds: reader.integer("revision-idle-timeout-seconds", 0),
            revision_cpu_request: reader.quantity("revision-cpu-request"),
            revision_cpu_limit: reader.quantity("revision-cpu-limit"),
            revision_memory_request: reader.quantity("revision-memory-request"),
            revision_memory_limit: reader.quantity("revision-memory-limit"),
            revision_ephemeral_storage_request: reader
                .quantity("revision-ephemeral-storage-request"),
            revision_ephemeral_storage_limit: reader.quantity("revision-ephemeral-storage-limit"),
            container_name_template: reader.template(
                "container-name-template",
                names::USER_CONTAINER,
                PARENT,
            ),
            init_container_name_template: reader.template(
                "init-container-name-template",
                "init-container",
                PARENT,
            ),
            container_concurrency: reader.integer("container-concurrency", 0),
            container_concurrency_max_limit: reader
                .integer("container-concurrency-max-limit", 1000),
            allow_container_concurrency_zero: reader
                .boolean("allow-container-concurrency-zero", true),
            enable_service_links: links,
        };
        config.check(reader);
        config
    }

    fn check(&self, reader: &Reader<'_>) {
        let (timeout, max) = (
            self.revision_timeout_seconds,
            self.max_revision_timeout_seconds,
        );
        reader.ensure(timeout > 0, "revision-timeout-seconds", || {
            format!("revision-timeout-seconds must be positive, was: {timeout}")
        });
        reader.ensure(timeout <= max, "revision-timeout-seconds", || {
            format!("revision-timeout-seconds ({timeout}) cannot be greater than max-revision-timeout-seconds ({max})")
        });
        for (key, value) in [
            (
                "revision-response-start-timeout-seconds",
                self.revision_response_start_timeout_seconds,
            ),
            (
                "revision-idle-timeout-seconds",
                self.revision_idle_timeout_seconds,
            ),
        ] {
            reader.ensure(value >= 0, key, || {
                format!("{key} must not be negative, was: {value}")
            });
            reader.ensure(value <= timeout, key, || {
                format!(
                    "{key} ({value}) cannot be greater than revision-timeout-seconds ({timeout})"
                )
            });
        }
        let (concurrency, limit) = (
            self.container_concurrency,
            self.container_concurrency_max_limit,
        );
        reader.ensure(
            (1..=i64::from(i32::MAX)).contains(&limit),
            "container-concurrency-max-limit",
            || {
                format!(
                    "expected 1 <= {limit} <= {}: container-concurrency-max-limit",
                    i32::MAX
                )
            },
        );
        reader.ensure(
            (0..=limit).contains(&concurrency),
            "container-concurrency",
            || format!("expected 0 <= {concurrency} <= {limit}: container-concurrency"),
        );
    }
}
