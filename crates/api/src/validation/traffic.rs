//! `spec.traffic` of Services and Routes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::names;
use super::report::{Report, indexed, join};
use crate::json;

/// Whose traffic it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A Service: targets without a revision mean its own Configuration.
    Service,
    /// A Route of its own: every target names its revision or configuration.
    Route,
}

/// Validates the targets; they are defaulted already.
pub(crate) fn validate(object: &Value, owner: Owner, report: &mut Report) {
    let mut tags = BTreeMap::new();
    let mut sum = 0_i64;
    for (index, target) in json::list(&object["spec"], "traffic").iter().enumerate() {
        let base = indexed("spec", "traffic", index);
        self::target(target, owner, &base, report);
        let percent = json::int(target, "percent").unwrap_or(0);
        sum = sum.saturating_add(percent);
        let tag = json::text(target, "tag");
        if tag.is_empty() {
            continue;
        }
        let path = join(&base, "tag");
        if let Some(problem) = names::dns1035_label(tag) {
            report.invalid(format!("not a DNS 1035 label: [{problem}]"), path.clone());
        }
        if let Some(first) = tags.insert(tag, path.clone()) {
            report.say(format!("Multiple definitions for {tag:?}"), &[path, first]);
        }
    }
    if sum != 100 {
        report.say(
            format!("Traffic targets sum to {sum}, want 100"),
            &["spec.traffic".to_owned()],
        );
    }
}

fn target(target: &Value, owner: Owner, base: &str, report: &mut Report) {
    let revision = json::text(target, "revisionName");
    let configuration = json::text(target, "configurationName");
    if let Some(latest) = target.get("latestRevision").and_then(Value::as_bool)
        && latest != revision.is_empty()
    {
        let message =
            format!("may not set revisionName {revision:?} when latestRevision is {latest}");
        report.say(message, &[join(base, "latestRevision")]);
    }
    let mut qualified = |name: &str, field: &str| {
        if let Some(problem) = names::qualified_name(name) {
            report.key_name(name, join(base, field), &problem);
        }
    };
    match (owner, revision, configuration) {
        (Owner::Service, _, configuration) if !configuration.is_empty() => {
            report.disallowed(join(base, "configurationName"));
        }
        (Owner::Service, "", _) => {}
        (_, "", "") => report.neither(base, &["revisionName", "configurationName"]),
        (_, revision, "") => qualified(revision, "revisionName"),
        (_, "", configuration) => qualified(configuration, "configurationName"),
        (_, _, _) => report.both(base, &["revisionName", "configurationName"]),
    }
    if let Some(percent) =
        json::int(target, "percent").filter(|percent| !(0..=100).contains(percent))
    {
        report.bounds(percent, 0, 100, join(base, "percent"));
    }
    // Only status says where a tag is served.
    if !json::text(target, "url").is_empty() {
        report.disallowed(join(base, "url"));
    }
}
