//! What is wrong with an object, and its status: Contour's condition `Valid` with typed errors
//! and warnings.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Effect};
use crate::fields::Findings;

/// Types of sub-conditions. The strings are Contour's API.
pub(super) mod kind {
    pub(crate) const AUTH: &str = "AuthError";
    pub(crate) const CORS: &str = "CORSError";
    pub(crate) const INCLUDE: &str = "IncludeError";
    pub(crate) const IP_FILTER: &str = "IPFilterError";
    pub(crate) const JWT: &str = "JWTVerificationError";
    pub(crate) const ORPHANED: &str = "Orphaned";
    pub(crate) const PREFIX_REPLACE: &str = "PrefixReplaceError";
    pub(crate) const ROOT_NAMESPACE: &str = "RootNamespaceError";
    pub(crate) const ROUTE: &str = "RouteError";
    pub(crate) const SERVICE: &str = "ServiceError";
    pub(crate) const SPEC: &str = "SpecError";
    pub(crate) const TCP: &str = "TCPProxyError";
    pub(crate) const TCP_INCLUDE: &str = "TCPProxyIncludeError";
    pub(crate) const TLS: &str = "TLSError";
    pub(crate) const VIRTUAL_HOST: &str = "VirtualHostError";

    /// All of them, for the test that each has a case.
    #[cfg(test)]
    pub(crate) const ALL: [&str; 15] = [
        AUTH,
        CORS,
        INCLUDE,
        IP_FILTER,
        JWT,
        ORPHANED,
        PREFIX_REPLACE,
        ROOT_NAMESPACE,
        ROUTE,
        SERVICE,
        SPEC,
        TCP,
        TCP_INCLUDE,
        TLS,
        VIRTUAL_HOST,
    ];
}

/// The longest message that Contour's schema takes.
const LONGEST: usize = 32_760;

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    /// JSON path inside the object.
    pub(super) field: String,
    pub(super) message: String,
}

/// What can be used, or why it cannot.
pub(super) type Told<T> = Result<T, Problem>;

impl Problem {
    pub(super) fn new(
        kind: &'static str,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            reason,
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

/// Everything that is known about one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Judgement {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    diagnostics: BTreeSet<Diagnostic>,
}

impl Judgement {
    pub(super) fn error(&mut self, problem: Problem) {
        if !self.errors.contains(&problem) {
            self.errors.push(problem);
        }
    }

    pub(super) fn warn(&mut self, problem: Problem) {
        if !self.warnings.contains(&problem) {
            self.warnings.push(problem);
        }
    }

    pub(super) fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    /// Takes what the reading of fields found: warnings. A value of the wrong type is an error, as
    /// it is for Contour's schema: read as if it were not there, a condition would let more
    /// requests pass, and a permission would be for everybody.
    pub(super) fn absorb(&mut self, findings: &Findings) {
        for found in findings.take() {
            if found.reason == "FieldInvalid" {
                let text = format!("{} {}", found.field, found.message);
                self.error(Problem::new(kind::SPEC, found.reason, &found.field, text));
            } else {
                self.diagnostics.insert(found);
            }
        }
    }

    /// Whether a field of the wrong type was found: nothing of the object is to be used.
    pub(super) fn has_misread(&self) -> bool {
        self.errors
            .iter()
            .any(|error| error.reason == "FieldInvalid")
    }

    /// The same object, judged once more in another place.
    pub(super) fn merge(&mut self, other: Self) {
        other.errors.into_iter().for_each(|one| self.error(one));
        other.warnings.into_iter().for_each(|one| self.warn(one));
        self.diagnostics.extend(other.diagnostics);
    }

    /// Errors, warnings and fields, sorted.
    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let problems = self.errors.iter().chain(&self.warnings).map(|problem| {
            let effect = match problem.reason {
                "DuplicateVhost" | "DomainConflict" => Effect::Conflict,
                _ => Effect::Refused,
            };
            Diagnostic::new(effect, problem.reason, &problem.field, &problem.message)
        });
        let mut all = self.diagnostics.clone();
        all.extend(problems);
        all.into_iter().collect()
    }

    /// The condition, as for `what` (a kind).
    fn condition(&self, what: &str, generation: i64) -> Value {
        let (status, reason, message) = if self.is_valid() {
            ("True", "Valid", format!("Valid {what}"))
        } else {
            let message = "At least one error present, see Errors for details";
            ("False", "ErrorPresent", message.to_owned())
        };
        let mut condition = json!({
            "type": "Valid",
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
        });
        let errors: Vec<_> = self.errors.iter().map(sub_condition).collect();
        let mut warnings: Vec<_> = self.warnings.iter().map(sub_condition).collect();
        warnings.extend(self.diagnostics.iter().map(|found| {
            let kind = kind::SPEC;
            sub_condition(&Problem::new(
                kind,
                found.reason,
                &found.field,
                &found.message,
            ))
        }));
        if !errors.is_empty() {
            condition["errors"] = errors.into();
        }
        if !warnings.is_empty() {
            condition["warnings"] = warnings.into();
        }
        condition
    }

    /// The status of a kind that has conditions only.
    pub(super) fn conditions(&self, what: &str, generation: i64) -> Value {
        json!({"conditions": [self.condition(what, generation)]})
    }

    /// The status of an HTTPProxy.
    pub(super) fn status(&self, what: &str, generation: i64) -> Value {
        let condition = self.condition(what, generation);
        let orphaned = self
            .errors
            .iter()
            .find(|error| error.kind == kind::ORPHANED);
        let (current, description) = match orphaned {
            Some(orphaned) => ("orphaned", orphaned.message.clone().into()),
            None if self.is_valid() => ("valid", condition["message"].clone()),
            None => ("invalid", condition["message"].clone()),
        };
        json!({
            "currentStatus": current,
            "description": description,
            "conditions": [condition],
        })
    }
}

impl Judgement {
    /// The status of an IngressRoute, which has no conditions.
    pub(super) fn legacy_status(&self) -> Value {
        let current = match self.errors.first() {
            None => "valid",
            Some(error) if error.kind == kind::ORPHANED => "orphaned",
            Some(_) => "invalid",
        };
        let mut texts: Vec<_> = self
            .errors
            .iter()
            .map(|error| error.message.as_str())
            .collect();
        texts.extend(self.diagnostics.iter().map(|found| found.message.as_str()));
        let description = if texts.is_empty() {
            "valid IngressRoute".to_owned()
        } else {
            texts.join("; ")
        };
        json!({"currentStatus": current, "description": description})
    }
}

fn sub_condition(problem: &Problem) -> Value {
    let message = match problem.message.char_indices().nth(LONGEST) {
        Some((end, _)) => &problem.message[..end],
        None => &problem.message,
    };
    json!({
        "type": problem.kind,
        "status": "True",
        "reason": problem.reason,
        "message": message,
    })
}
