//! `config-gc`: when unused revisions are deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ConfigError;
use super::reader::{self, Reader};

/// Parsed `config-gc`. `None` means `disabled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gc {
    pub retain_since_create_time: Option<Duration>,
    pub retain_since_last_active_time: Option<Duration>,
    /// Unused revisions of a configuration that always stay.
    pub min_non_active_revisions: u64,
    /// Unused revisions of a configuration that may stay.
    pub max_non_active_revisions: Option<u64>,
}

impl Default for Gc {
    /// Knative's defaults.
    fn default() -> Self {
        Self::parse(&BTreeMap::new()).expect("the defaults are within bounds")
    }
}

impl Gc {
    /// # Errors
    /// All values that do not parse, and a minimum above the maximum.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        reader::parse(data, Self::read)
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        let retain = |key, default| {
            read(reader, key, default, |text| {
                crate::duration::parse(text).map_err(|_| reader::no_duration(text))
            })
        };
        let config = Self {
            retain_since_create_time: retain("retain-since-create-time", hours(48)),
            retain_since_last_active_time: retain("retain-since-last-active-time", hours(15)),
            min_non_active_revisions: reader.parsed("min-non-active-revisions", 20, |text| {
                text.parse().map_err(|_| reader::syntax("ParseInt", text))
            }),
            max_non_active_revisions: read(
                reader,
                "max-non-active-revisions",
                Some(1000),
                |text| text.parse().map_err(|_| reader::syntax("ParseUint", text)),
            ),
        };
        if let Some(max) = config.max_non_active_revisions {
            let min = config.min_non_active_revisions;
            reader.ensure(min <= max, "min-non-active-revisions", || {
                format!(
                    "min-non-active-revisions({min}) must be <= max-non-active-revisions({max})"
                )
            });
        }
        config
    }
}

/// A value that may be `disabled`; empty means the default.
fn read<T>(
    reader: &Reader<'_>,
    key: &'static str,
    default: Option<T>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = reader.text(key).unwrap_or_default();
    if text.is_empty() {
        return default;
    }
    if text.eq_ignore_ascii_case("disabled") {
        return None;
    }
    match parse(text) {
        Ok(value) => Some(value),
        Err(problem) => {
            reader.error(key, format!("failed to parse {key}: {problem}"));
            default
        }
    }
}
