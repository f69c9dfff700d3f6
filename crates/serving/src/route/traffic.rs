//! Which revisions a Route's traffic means right now.
//!
//! All targets or none: while one of them cannot be resolved, the split that is served stays.

use std::sync::Arc;

use api::condition::{READY, Truth, find};
use api::names::label;
use api::serving::v1::{Revision, Route, Service, TrafficTarget};
use kube::ResourceExt;
use reconcile::controller_of;

use super::Observed;
use crate::configuration::is_ready;
use crate::object::label;
use crate::revision::protocol;

/// One target, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tag: Option<String>,
    pub(super) revision: String,
    pub(super) percent: Option<i64>,
    pub(super) latest: bool,
    /// Whether the revision speaks HTTP/2 without TLS.
    pub(super) h2c: bool,
}

/// Why a target cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    ConfigurationMissing(String),
    RevisionMissing(String),
    ConfigurationWaits(String),
    ConfigurationFailed(String),
    RevisionWaits(String),
    RevisionFailed(String),
    NotOwned { revision: String, service: String },
}

impl Problem {
    /// Waiting alone will not help.
    fn is_failure(&self) -> bool {
        !matches!(self, Self::ConfigurationWaits(_) | Self::RevisionWaits(_))
    }

    /// Value, reason and message of the condition, as Knative words them.
    pub(super) fn condition(&self) -> (Truth, &'static str, String) {
        const MISSING: &str = "RevisionMissing";
        let truth = if self.is_failure() {
            Truth::False
        } else {
            Truth::Unknown
        };
        let (reason, message) = match self {
            Self::ConfigurationMissing(name) => (
                "ConfigurationMissing",
                format!("Configuration \"{name}\" referenced in traffic not found."),
            ),
            Self::RevisionMissing(name) => (
                MISSING,
                format!("Revision \"{name}\" referenced in traffic not found."),
            ),
            Self::ConfigurationWaits(name) => (
                MISSING,
                format!("Configuration \"{name}\" is waiting for a Revision to become ready."),
            ),
            Self::ConfigurationFailed(name) => (
                MISSING,
                format!("Configuration \"{name}\" does not have any ready Revision."),
            ),
            Self::RevisionWaits(name) => {
                (MISSING, format!("Revision \"{name}\" is not yet ready."))
            }
            Self::RevisionFailed(name) => (
                MISSING,
                format!("Revision \"{name}\" failed to become ready."),
            ),
            Self::NotOwned { revision, service } => (
                "RevisionNotOwned",
                format!(
                    "Revision \"{revision}\" referenced in traffic is not owned by Service \"{service}\"."
                ),
            ),
        };
        (truth, reason, message)
    }
}

/// Terms under which a Route is found when one of its targets changes. A Service's Route also
/// hears of revisions that it does not point at: it puts them into reserve.
pub(crate) fn mentions(route: &Route) -> Vec<String> {
    let term = |target: &TrafficTarget| match named(target) {
        Named::Configuration(name) => format!("configuration/{name}"),
        Named::Revision(name) => format!("revision/{name}"),
    };
    let parent = controller_of::<Service>(route);
    let parent = parent.map(|service| format!("configuration/{}", service.name));
    let targets = route.spec.traffic.iter().map(term);
    targets.chain(parent).collect()
}

/// What a target names.
#[derive(Clone, Copy)]
pub(super) enum Named<'a> {
    Configuration(&'a str),
    Revision(&'a str),
}

/// A revision's name wins: admission lets only one of the two through.
pub(super) fn named(target: &TrafficTarget) -> Named<'_> {
    match target.revision_name.as_deref() {
        Some(name) if !name.is_empty() => Named::Revision(name),
        _ => Named::Configuration(target.configuration_name.as_deref().unwrap_or_default()),
    }
}

/// Resolves every target, in the order of the spec.
///
/// # Errors
/// The first failure; without one, the first target that is not ready yet.
pub(super) fn resolve(route: &Route, observed: &Observed) -> Result<Vec<Target>, Problem> {
    let mut targets = Vec::new();
    let mut problems = Vec::new();
    for target in &route.spec.traffic {
        match resolve_one(route, target, observed) {
            Ok(target) => targets.push(target),
            Err(problem) => problems.push(problem),
        }
    }
    let worst = problems.iter().position(Problem::is_failure).unwrap_or(0);
    match problems.into_iter().nth(worst) {
        Some(problem) => Err(problem),
        None => Ok(targets),
    }
}

fn resolve_one(
    route: &Route,
    target: &TrafficTarget,
    observed: &Observed,
) -> Result<Target, Problem> {
    let revision = match named(target) {
        Named::Configuration(name) => latest_of(name, observed)?,
        Named::Revision(name) => ready_revision(route, name, observed)?,
    };
    Ok(Target {
        tag: target.tag.clone().filter(|tag| !tag.is_empty()),
        revision: revision.name_any(),
        percent: target.percent,
        latest: matches!(named(target), Named::Configuration(_)),
        h2c: protocol(revision) == "h2c",
    })
}

fn latest_of<'a>(name: &str, observed: &'a Observed) -> Result<&'a Arc<Revision>, Problem> {
    let configuration = observed
        .configurations
        .get(name)
        .ok_or_else(|| Problem::ConfigurationMissing(name.to_owned()))?;
    let status = configuration.status.as_ref();
    let latest = status.and_then(|status| status.latest_ready_revision_name.as_deref());
    let Some(latest) = latest else {
        let ready = status.and_then(|status| find(&status.conditions, READY));
        let has_failed = ready.is_some_and(|ready| ready.is(Truth::False));
        return Err(if has_failed {
            Problem::ConfigurationFailed(name.to_owned())
        } else {
            Problem::ConfigurationWaits(name.to_owned())
        });
    };
    observed
        .revisions
        .get(latest)
        .ok_or_else(|| Problem::RevisionMissing(latest.to_owned()))
}

fn ready_revision<'a>(
    route: &Route,
    name: &str,
    observed: &'a Observed,
) -> Result<&'a Arc<Revision>, Problem> {
    let revision = observed
        .revisions
        .get(name)
        .ok_or_else(|| Problem::RevisionMissing(name.to_owned()))?;
    if let Some(service) = controller_of::<Service>(route)
        && label(revision.as_ref(), label::SERVICE) != Some(&service.name)
    {
        return Err(Problem::NotOwned {
            revision: name.to_owned(),
            service: service.name.clone(),
        });
    }
    if is_ready(revision) {
        return Ok(revision);
    }
    let status = revision.status.as_ref();
    let ready = status.and_then(|status| find(&status.conditions, READY));
    if ready.is_some_and(|ready| ready.is(Truth::False)) {
        return Err(Problem::RevisionFailed(name.to_owned()));
    }
    Err(Problem::RevisionWaits(name.to_owned()))
}
