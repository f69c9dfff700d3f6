//! The findings of one validation, worded and ordered as Knative's `apis.FieldError` prints them.
//!
//! Findings with the same text are one line with all their paths; lines are sorted, so the text
//! does not depend on the order of the checks.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use crate::config::Feature;

/// What is wrong with an object, and warnings about what is not refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    errors: Vec<Finding>,
    warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    message: String,
    paths: Vec<String>,
    details: String,
}

/// `base` + `field` as a path; either may be empty.
pub(crate) fn join(base: &str, field: &str) -> String {
    match (base, field) {
        ("", field) => field.to_owned(),
        (base, "") => base.to_owned(),
        (base, field) if field.starts_with('[') => format!("{base}{field}"),
        (base, field) => format!("{base}.{field}"),
    }
}

/// `base.field[index]`.
pub(crate) fn indexed(base: &str, field: &str, index: usize) -> String {
    join(base, &format!("{field}[{index}]"))
}

impl Report {
    /// Whether nothing is refused.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// What the client is told although nothing is refused.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn say(&mut self, message: impl Into<String>, paths: &[String]) {
        self.say_with(message, paths, "");
    }

    pub(crate) fn say_with(
        &mut self,
        message: impl Into<String>,
        paths: &[String],
        details: impl Into<String>,
    ) {
        self.errors.push(Finding {
            message: message.into(),
            paths: paths.to_vec(),
            details: details.into(),
        });
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    pub(crate) fn missing(&mut self, path: String) {
        self.say("missing field(s)", &[path]);
    }

    pub(crate) fn disallowed(&mut self, path: String) {
        self.say("must not set the field(s)", &[path]);
    }

    /// As [`Self::disallowed`], for a field that a feature would allow.
    pub(crate) fn off(&mut self, path: String, feature: Feature) {
        let details = format!("{:?} of config-features is off", feature.key());
        self.say_with("must not set the field(s)", &[path], details);
    }

    pub(crate) fn invalid(&mut self, value: impl Display, path: String) {
        self.say(format!("invalid value: {value}"), &[path]);
    }

    pub(crate) fn invalid_because(&mut self, value: impl Display, path: String, details: &str) {
        self.say_with(format!("invalid value: {value}"), &[path], details);
    }

    pub(crate) fn bounds(
        &mut self,
        value: impl Display,
        lower: impl Display,
        upper: impl Display,
        path: String,
    ) {
        self.say(format!("expected {lower} <= {value} <= {upper}"), &[path]);
    }

    pub(crate) fn neither(&mut self, base: &str, fields: &[&str]) {
        self.say(
            "expected exactly one, got neither",
            &fields
                .iter()
                .map(|field| join(base, field))
                .collect::<Vec<_>>(),
        );
    }

    pub(crate) fn both(&mut self, base: &str, fields: &[&str]) {
        self.say(
            "expected exactly one, got both",
            &fields
                .iter()
                .map(|field| join(base, field))
                .collect::<Vec<_>>(),
        );
    }

    pub(crate) fn key_name(&mut self, key: &str, path: String, details: &str) {
        self.say_with(format!("invalid key name {key:?}"), &[path], details);
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut merged: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for finding in &self.errors {
            let paths = merged
                .entry((&finding.message, &finding.details))
                .or_default();
            paths.extend(finding.paths.iter().map(String::as_str));
        }
        let lines = merged.into_iter().map(|((message, details), mut paths)| {
            paths.sort_unstable();
            paths.dedup();
            let line = format!("{message}: {}", paths.join(", "));
            if details.is_empty() {
                line
            } else {
                format!("{line}\n{details}")
            }
        });
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}
