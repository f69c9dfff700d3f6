//! Query parameters, checked once.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/apis/internalversion/validation`.

use crate::http::path::percent_decode;
use crate::status::{FieldError, Status};
use crate::table::Include;

/// The parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) limit: u64,
    pub(crate) continue_token: String,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) watch: bool,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) allow_bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation_policy: Option<String>,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) include_object: String,
    /// Everything, for connected subresources.
    pub(crate) raw: Vec<(String, String)>,
}

/// What happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Dropped.
    Ignore,
    /// Dropped, with a warning.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

impl Options {
    /// Reads a query string.
    pub(crate) fn parse(query: &str) -> Result<Self, Status> {
        let mut options = Self::default();
        for (pair, decoded) in pairs(query) {
            let Some((key, value)) = decoded else {
                return Err(Status::bad_request(format!(
                    "invalid query parameter {pair:?}: bad percent-encoding"
                )));
            };
            options.set(&key, &value)?;
            options.raw.push((key, value));
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), Status> {
        match key {
            "limit" => self.limit = number(key, value)?,
            "continue" => value.clone_into(&mut self.continue_token),
            "resourceVersion" => value.clone_into(&mut self.resource_version),
            "resourceVersionMatch" => value.clone_into(&mut self.resource_version_match),
            "labelSelector" => value.clone_into(&mut self.label_selector),
            "fieldSelector" => value.clone_into(&mut self.field_selector),
            "watch" => self.watch = boolean(value),
            "timeoutSeconds" => self.timeout_seconds = Some(number(key, value)?),
            "allowWatchBookmarks" => self.allow_bookmarks = boolean(value),
            "sendInitialEvents" => self.send_initial_events = Some(boolean(value)),
            "fieldManager" => value.clone_into(&mut self.field_manager),
            "force" => self.force = boolean(value),
            "gracePeriodSeconds" => self.grace_period_seconds = Some(signed(key, value)?),
            "propagationPolicy" => self.propagation_policy = Some(value.to_owned()),
            "orphanDependents" => self.orphan_dependents = Some(boolean(value)),
            "includeObject" => {
                Include::parse(value).map_err(Status::bad_request)?;
                value.clone_into(&mut self.include_object);
            }
            "dryRun" => match value {
                "All" => self.dry_run = true,
                "" => {}
                other => return Err(unsupported("dryRun", other, "\"All\"")),
            },
            "fieldValidation" => {
                self.field_validation = match value {
                    "Strict" => FieldValidation::Strict,
                    "Warn" | "" => FieldValidation::Warn,
                    "Ignore" => FieldValidation::Ignore,
                    other => {
                        return Err(unsupported(
                            "fieldValidation",
                            other,
                            "\"Ignore\", \"Strict\", \"Warn\"",
                        ));
                    }
                }
            }
            // Parameters of connected subresources, and those of clients newer than this server.
            _ => {}
        }
        Ok(())
    }

    /// Checks the parameters of a list or a watch against each other.
    pub(crate) fn check_list(&self) -> Result<(), Status> {
        let mut errors = Vec::new();
        let matched = self.resource_version_match.as_str();
        let forbid = |errors: &mut Vec<FieldError>, field: &str, why: &str| {
            errors.push(FieldError::forbidden(field, why));
        };
        if let (true, Some(_)) = (self.watch, self.send_initial_events) {
            if matched != "NotOlderThan" {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                forbid(&mut errors, "resourceVersionMatch", why);
            }
        } else if self.send_initial_events.is_some() {
            forbid(
                &mut errors,
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            );
        } else if self.watch && !matched.is_empty() {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            forbid(&mut errors, "resourceVersionMatch", why);
        } else if !matched.is_empty() {
            if self.resource_version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                forbid(&mut errors, "resourceVersionMatch", why);
            }
            if !self.continue_token.is_empty() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                forbid(&mut errors, "resourceVersionMatch", why);
            }
            if matched != "Exact" && matched != "NotOlderThan" {
                return Err(unsupported(
                    "resourceVersionMatch",
                    matched,
                    "\"Exact\", \"NotOlderThan\"",
                ));
            }
            if matched == "Exact" && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                forbid(&mut errors, "resourceVersionMatch", why);
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors))
    }

    /// `resourceVersion` as a number; `None` if it is not set.
    pub(crate) fn revision(&self) -> Result<Option<u64>, Status> {
        if self.resource_version.is_empty() {
            return Ok(None);
        }
        let parsed = self.resource_version.parse();
        parsed.map(Some).map_err(|_| {
            Status::bad_request(format!(
                "invalid resource version {:?}: not a number",
                self.resource_version
            ))
        })
    }
}

/// The parameters of a query string as they are written, and decoded where they can be.
fn pairs(query: &str) -> impl Iterator<Item = (&str, Option<(String, String)>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_decode(key, true).zip(percent_decode(value, true));
        (pair, decoded)
    })
}

/// The parameters of a query string that can be decoded.
pub(crate) fn query(query: &str) -> Vec<(String, String)> {
    pairs(query).filter_map(|(_, decoded)| decoded).collect()
}

fn unsupported(field: &str, value: &str, supported: &str) -> Status {
    let error = FieldError::with_value(
        crate::status::Fault::NotSupported,
        field,
        format!("{value:?}"),
        format!("supported values: {supported}"),
    );
    Status::invalid("meta.k8s.io", "Options", "", &[error])
}

fn boolean(value: &str) -> bool {
    // As Kubernetes converts query parameters: everything but these two is true.
    !matches!(value, "false" | "0")
}

fn number(key: &str, value: &str) -> Result<u64, Status> {
    if value.is_empty() {
        return Ok(0);
    }
    value.parse().map_err(|_| {
        Status::bad_request(format!(
            "invalid query parameter {key}={value:?}: not a number"
        ))
    })
}

fn signed(key: &str, value: &str) -> Result<i64, Status> {
    value.parse().map_err(|_| {
        Status::bad_request(format!(
            "invalid query parameter {key}={value:?}: not a number"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streaming_list_needs_not_older_than() {
        let ok =
            Options::parse("watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        assert!(ok.expect("valid query").check_list().is_ok());
        let bad = Options::parse("watch=true&sendInitialEvents=true")
            .expect("valid query")
            .check_list();
        assert_eq!(bad.expect_err("must be refused").code, 422);
    }

    #[test]
    fn an_unknown_dry_run_value_is_refused() {
        assert_eq!(
            Options::parse("dryRun=Some")
                .expect_err("must be refused")
                .code,
            422
        );
    }
}
