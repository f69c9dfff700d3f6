//! Which revisions a Route's traffic means right now.
//!
//! All targets or none: while one of them cannot be resolved, the split that is served stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::condition::{READY, Truth, find};
use api::names::label;
use api::serving::v1::{Revision, Route, Service, TrafficTarget};
use kube::ResourceExt;
use reconcile::controller_of;

use super::Observed;
use super::rollout::{Part, Rollout};
use crate::configuration::is_ready;
use crate::object::label;
use crate::revision::protocol;

/// One target, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tag: Option<String>,
    pub(super) revision: String,
    pub(super) percent: Option<i64>,
    /// The configuration whose latest revision is meant; `None` for a revision by name.
    pub(super) configuration: Option<String>,
    /// Who gets `percent`: the revision alone, or with older ones during a gradual rollout.
    pub(super) shares: Vec<Share>,
    /// The same for the tag's own host, of a hundred.
    pub(super) tagged: Vec<Share>,
}

/// A part of a target's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) revision: String,
    /// Whether the revision speaks HTTP/2 without TLS.
    pub(super) h2c: bool,
    pub(super) percent: i64,
}

impl Target {
    /// Whether a newer revision takes the place of this one.
    pub(super) fn is_latest(&self) -> bool {
        self.configuration.is_some()
    }

    /// Every revision that gets traffic by this target.
    pub(super) fn revisions(&self) -> impl Iterator<Item = &str> {
        let shares = self.shares.iter().chain(&self.tagged);
        let of_shares = shares.map(|share| share.revision.as_str());
        of_shares.chain([self.revision.as_str()])
    }
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
    NotOwned {
        revision: String,
        service: String,
        /// The Service whose it is, if any.
        actual: Option<String>,
    },
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
            Self::NotOwned {
                revision,
                service,
                actual,
            } => {
                let message = match actual {
                    None => {
                        format!("Revision {revision:?} does not belong to Service {service:?}.")
                    }
                    Some(actual) => format!(
                        "Revision {revision:?} belongs to Service {actual:?}, not Service {service:?}."
                    ),
                };
                ("RevisionNotOwned", message)
            }
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
    let share = |percent: i64| Share {
        revision: revision.name_any(),
        h2c: protocol(revision) == "h2c",
        percent,
    };
    let tag = target.tag.clone().filter(|tag| !tag.is_empty());
    Ok(Target {
        revision: revision.name_any(),
        percent: target.percent,
        configuration: match named(target) {
            Named::Configuration(name) => Some(name.to_owned()),
            Named::Revision(_) => None,
        },
        shares: vec![share(target.percent.unwrap_or_default())],
        tagged: tag.iter().map(|_| share(100)).collect(),
        tag,
    })
}

/// The targets' traffic when nothing rolls out.
pub(super) fn goal(targets: &[Target]) -> Rollout {
    let mut parts = Vec::new();
    for target in targets {
        let Some(configuration) = &target.configuration else {
            continue;
        };
        let part = |tag: &str, percent: i64| {
            let (configuration, revision) = (configuration.clone(), target.revision.clone());
            (tag.to_owned(), configuration, revision, percent)
        };
        parts.push(part("", target.percent.unwrap_or_default()));
        parts.extend(target.tag.as_deref().map(|tag| part(tag, 100)));
    }
    Rollout::goal(parts)
}

/// Divides the targets' traffic among the revisions of a rollout. The part of a revision that is
/// gone falls to the newest.
pub(super) fn divide(targets: &mut [Target], rollout: &Rollout, observed: &Observed) {
    let mut given: BTreeMap<(String, String), i64> = BTreeMap::new();
    for target in targets {
        let Some(configuration) = target.configuration.clone() else {
            continue;
        };
        let newest = target.revision.clone();
        let mut shares = |tag: &str, percent: i64| {
            let parts = rollout.parts(tag, &configuration)?;
            let key = (tag.to_owned(), configuration.clone());
            let skip = given.entry(key).or_default();
            let shares = slice(parts, *skip, percent);
            *skip += percent;
            Some(merge(shares, &newest, observed))
        };
        if let Some(shares) = shares("", target.percent.unwrap_or_default()) {
            target.shares = shares;
        }
        let tagged = target.tag.clone().and_then(|tag| shares(&tag, 100));
        if let Some(shares) = tagged {
            target.tagged = shares;
        }
    }
}

/// `percent` of the parts after the first `skip`: several targets may follow one configuration.
fn slice(parts: &[Part], mut skip: i64, mut percent: i64) -> Vec<(&str, i64)> {
    let mut taken = Vec::new();
    for part in parts {
        let skipped = part.percent.min(skip);
        skip -= skipped;
        let take = (part.percent - skipped).min(percent);
        percent -= take;
        if take > 0 {
            taken.push((part.revision_name.as_str(), take));
        }
    }
    taken
}

fn merge(parts: Vec<(&str, i64)>, newest: &str, observed: &Observed) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let total: i64 = parts.iter().map(|(_, percent)| percent).sum();
    for (name, percent) in parts {
        if let Some(revision) = observed.revisions.get(name).filter(|_| name != newest) {
            shares.push(Share {
                revision: name.to_owned(),
                h2c: protocol(revision) == "h2c",
                percent,
            });
        }
    }
    let rest = total - shares.iter().map(|share| share.percent).sum::<i64>();
    if let Some(revision) = observed.revisions.get(newest)
        && (rest > 0 || shares.is_empty())
    {
        shares.push(Share {
            revision: newest.to_owned(),
            h2c: protocol(revision) == "h2c",
            percent: rest,
        });
    }
    shares
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
    let actual = label(revision.as_ref(), label::SERVICE);
    if let Some(service) = controller_of::<Service>(route)
        && actual != Some(&service.name)
    {
        return Err(Problem::NotOwned {
            revision: name.to_owned(),
            service: service.name.clone(),
            actual: actual.filter(|name| !name.is_empty()).map(str::to_owned),
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
