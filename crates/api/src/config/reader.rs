//! Reads typed values out of a ConfigMap's text and remembers every mistake and every key read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::template::{Field, Template};
use crate::config::{ConfigError, Findings};
use crate::duration;
use crate::quantity::Quantity;

/// One pass over a ConfigMap's data. Getters return the default after noting a mistake, so one
/// pass finds all mistakes.
pub(super) struct Reader<'a> {
    data: &'a BTreeMap<String, String>,
    known: RefCell<BTreeSet<&'static str>>,
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

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        // The spellings of Go's `strconv.ParseBool`.
        self.parsed(key, default, "true or false", |text| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        })
    }

    pub(super) fn float(&self, key: &'static str, default: f64) -> f64 {
        self.parsed(key, default, "a number", |text| {
            text.parse().ok().filter(|value: &f64| value.is_finite())
        })
    }

    pub(super) fn integer(&self, key: &'static str, default: i64) -> i64 {
        self.parsed(key, default, "an integer", |text| text.parse().ok())
    }

    pub(super) fn scale(&self, key: &'static str, default: i32) -> i32 {
        self.parsed(key, default, "an integer within 32 bits", |text| {
            text.parse().ok()
        })
    }

    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.parsed(
            key,
            default,
            "a non-negative duration such as 1m30s",
            |text| duration::parse(text).ok(),
        )
    }

    pub(super) fn quantity(&self, key: &'static str) -> Option<String> {
        self.parsed(key, None, "a quantity such as 400m or 1Gi", |text| {
            Quantity::parse(text)
                .filter(|amount| !amount.is_negative())
                .map(|_| Some(text.to_owned()))
        })
    }

    /// One of a few words, compared without case as Knative does.
    pub(super) fn word<T: Copy>(&self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        let want: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.parsed(
            key,
            default,
            &format!("one of {}", want.join(", ")),
            |text| {
                words
                    .iter()
                    .find(|(word, _)| word.eq_ignore_ascii_case(text))
                    .map(|(_, value)| *value)
            },
        )
    }

    pub(super) fn template(&self, key: &'static str, default: &str, fields: &[Field]) -> Template {
        let fallback =
            || Template::parse(default, fields).expect("built-in templates are well formed");
        match self.text(key) {
            None => fallback(),
            Some(text) => Template::parse(text, fields).unwrap_or_else(|error| {
                self.error(key, error.to_string());
                fallback()
            }),
        }
    }

    /// A key that Knative knows but that changes nothing here.
    pub(super) fn without_effect(&self, key: &'static str, why: &str) {
        if self.text(key).is_some() {
            self.warnings
                .borrow_mut()
                .push(format!("key {key:?} has no effect: {why}"));
        }
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

    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        default: T,
        want: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.text(key) else {
            return default;
        };
        parse(text).unwrap_or_else(|| {
            self.error(key, format!("invalid value {text:?}, want {want}"));
            default
        })
    }
}
