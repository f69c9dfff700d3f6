//! Reads typed values out of a ConfigMap's text and remembers every mistake and every key read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::template::{Field, Template};
use crate::config::{ConfigError, Findings};
use crate::duration;
use crate::names::annotation;
use crate::quantity::Quantity;

/// One pass over a ConfigMap's data. Getters return the default after noting a mistake, so one
/// pass finds all mistakes.
pub(super) struct Reader<'a> {
    data: &'a BTreeMap<String, String>,
    known: RefCell<BTreeSet<&'a str>>,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<String>>,
}

/// Parses with `read`; all mistakes are errors.
pub(super) fn parse<T>(
    data: &BTreeMap<String, String>,
    read: impl FnOnce(&Reader<'_>) -> T,
) -> Result<T, Vec<ConfigError>> {
    let reader = Reader::new(data);
    let value = read(&reader);
    let errors = reader.errors.into_inner();
    if errors.is_empty() {
        Ok(value)
    } else {
        Err(errors)
    }
}

/// Parses with `read` and keeps only what was found, with a warning for each unknown key.
pub(super) fn check<T>(
    data: &BTreeMap<String, String>,
    read: impl FnOnce(&Reader<'_>) -> T,
) -> Findings {
    let reader = Reader::new(data);
    read(&reader);
    let known = reader.known.into_inner();
    let mut warnings = reader.warnings.into_inner();
    // Knative ships `_example`, which documents the keys and is never read.
    let unknown = data
        .keys()
        .filter(|key| !key.starts_with('_') && !known.contains(key.as_str()));
    warnings.extend(unknown.map(|key| format!("unknown key {key:?} has no effect")));
    Findings {
        errors: reader.errors.into_inner(),
        warnings,
    }
}

impl<'a> Reader<'a> {
    fn new(data: &'a BTreeMap<String, String>) -> Self {
        Self {
            data,
            known: RefCell::default(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// The text of a key, if set.
    pub(super) fn text(&self, key: &'static str) -> Option<&'a str> {
        self.known.borrow_mut().insert(key);
        self.data.get(key).map(|value| value.trim())
    }

    pub(super) fn string(&self, key: &'static str, default: &str) -> String {
        self.text(key).unwrap_or(default).to_owned()
    }

    /// Every key that starts with `prefix`, with its text.
    pub(super) fn with_prefix(&self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let entries = self.data.iter();
        let found = entries.filter(|(key, _)| key.starts_with(prefix));
        let found = found.map(|(key, value)| (key.as_str(), value.trim()));
        found
            .inspect(|(key, _)| {
                self.known.borrow_mut().insert(key);
            })
            .collect()
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.parsed(key, default, |text| {
            annotation::parse_bool(text).ok_or_else(|| syntax("ParseBool", text))
        })
    }

    pub(super) fn float(&self, key: &'static str, default: f64) -> f64 {
        self.parsed(key, default, |text| {
            let parsed = text.parse().ok().filter(|value: &f64| value.is_finite());
            parsed.ok_or_else(|| syntax("ParseFloat", text))
        })
    }

    pub(super) fn integer(&self, key: &'static str, default: i64) -> i64 {
        self.parsed(key, default, |text| {
            text.parse().map_err(|_| syntax("ParseInt", text))
        })
    }

    pub(super) fn scale(&self, key: &'static str, default: i32) -> i32 {
        self.parsed(key, default, |text| {
            text.parse().map_err(|_| syntax("ParseInt", text))
        })
    }

    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.parsed(key, default, |text| {
            duration::parse(text).map_err(|_| no_duration(text))
        })
    }

    pub(super) fn quantity(&self, key: &'static str) -> Option<String> {
        self.parsed(key, None, |text| {
            let parsed = Quantity::parse(text).filter(|amount| !amount.is_negative());
            parsed.map(|_| Some(text.to_owned())).ok_or_else(|| {
                "quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                    .to_owned()
            })
        })
    }

    /// One of a few words, compared without case as Knative does.
    pub(super) fn word<T: Copy>(&self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        let Some(text) = self.text(key).filter(|text| !text.is_empty()) else {
            return default;
        };
        let found = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map_or_else(
            || {
                let want: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let want = want.join(", ");
                self.error(
                    key,
                    format!("{key} with value: {text:?} is not supported, want one of {want}"),
                );
                default
            },
            |(_, value)| *value,
        )
    }

    pub(super) fn template(&self, key: &'static str, default: &str, fields: &[Field]) -> Template {
        let text = self.text(key).unwrap_or(default);
        Template::parse(text, fields).unwrap_or_else(|error| {
            self.error(key, format!("{key}: {error}"));
            Template::default()
        })
    }

    /// A key that Knative knows but that changes nothing here.
    pub(super) fn without_effect(&self, key: &'static str, why: &str) {
        if self.text(key).is_some() {
            self.key_without_effect(key, why);
        }
    }

    /// As [`Self::without_effect`], for a key that is there.
    pub(super) fn key_without_effect(&self, key: &str, why: &str) {
        let warning = format!("key {key:?} has no effect: {why}");
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>) {
        self.errors.borrow_mut().push(ConfigError {
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// Notes an error unless `holds`.
    pub(super) fn ensure(&self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.error(key, message());
        }
    }

    /// The value of a key; what `parse` says of a bad one is told as Knative's parser does.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = self.text(key) else {
            return default;
        };
        parse(text).unwrap_or_else(|problem| {
            self.error(
                key,
                format!("failed to parse data: failed to parse {key:?}: {problem}"),
            );
            default
        })
    }
}

/// Go's words for text that is no number or truth value.
pub(super) fn syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: invalid syntax")
}

/// Go's words for text that is no duration.
pub(super) fn no_duration(text: &str) -> String {
    format!("time: invalid duration {text:?}")
}
