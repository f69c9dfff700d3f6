//! What is wrong with an object, and the state that Gloo says about it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Effect};
use crate::fields::Findings;

/// The namespace of Gloo's controller, under which its users look for states.
const CONTROLLER: &str = "gloo-system";

/// Everything that is known about one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Judgement {
    errors: BTreeSet<Diagnostic>,
    warnings: BTreeSet<Diagnostic>,
}

impl Judgement {
    /// The object is not served.
    pub(super) fn error(&mut self, reason: &'static str, field: &str, text: impl Into<String>) {
        self.errors.insert(found(reason, field, text.into()));
    }

    /// The object is served, but for this.
    pub(super) fn warn(&mut self, reason: &'static str, field: &str, text: impl Into<String>) {
        self.warnings.insert(found(reason, field, text.into()));
    }

    /// The host is somebody else's as well.
    pub(super) fn conflict(&mut self, field: &str, text: impl Into<String>) {
        self.errors.insert(Diagnostic::new(
            Effect::Conflict,
            "DomainConflict",
            field,
            text,
        ));
    }

    /// What the reading of fields found: warnings, but for what must not be served without: a
    /// value of the wrong type, read as if it were not there, and what would let everybody in.
    pub(super) fn absorb(&mut self, findings: &Findings) {
        for mut found in findings.take() {
            if found.reason == "FieldInvalid" {
                found.message = format!("{} {}", found.field, found.message);
                self.errors.insert(found);
            } else if found.reason == CLOSED {
                self.errors.insert(found);
            } else {
                self.warnings.insert(found);
            }
        }
    }

    pub(super) fn is_rejected(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Why the object is not served.
    pub(super) fn error_text(&self) -> Option<String> {
        let first = self.errors.first()?;
        Some(first.message.clone())
    }

    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let all: BTreeSet<_> = self.errors.union(&self.warnings).cloned().collect();
        all.into_iter().collect()
    }

    pub(super) fn status(&self, reported_by: &str) -> Value {
        let state = match (self.errors.is_empty(), self.warnings.is_empty()) {
            (false, _) => "Rejected",
            (true, false) => "Warning",
            (true, true) => "Accepted",
        };
        let mut status = json!({"state": state, "reportedBy": reported_by});
        let texts: Vec<_> = self
            .errors
            .iter()
            .chain(&self.warnings)
            .map(|found| found.message.as_str())
            .collect();
        if !texts.is_empty() {
            status["reason"] = texts.join("; ").into();
        }
        json!({"statuses": {CONTROLLER: status}})
    }
}

/// A finding; what is missing may appear.
fn found(reason: &'static str, field: &str, text: String) -> Diagnostic {
    let names_another = matches!(
        reason,
        "CertificateInvalid"
            | "DestinationMissing"
            | "OptionsMissing"
            | "RouteLeftOut"
            | "ServerMissing"
            | "TargetMissing"
            | "UpstreamUnresolved"
    );
    let is_missing = ["does not exist", "not found", "missing", "no route table"]
        .iter()
        .any(|words| text.contains(words));
    let effect = if names_another && is_missing {
        Effect::Waiting
    } else {
        Effect::Refused
    };
    Diagnostic::new(effect, reason, field, text)
}

/// Reason of findings about guards that are not there: served without, everybody would pass.
pub(super) const CLOSED: &str = "GuardNotSupported";
