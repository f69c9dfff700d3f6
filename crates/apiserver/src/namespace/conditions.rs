//! Kubernetes' conditions of a namespace on its way out; pure but for the clock.
//!
//! Numbers alone are no news: a namespace with many objects would be written as often.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::crud;

/// What keeps a namespace, with how often.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    /// `pods`, `deployments.apps`.
    pub(super) resources: BTreeMap<Arc<str>, usize>,
    pub(super) finalizers: BTreeMap<String, usize>,
}

/// Type, whether it holds, reason, message.
type Row = (&'static str, bool, &'static str, String);

/// The conditions, as far as they are the same with their old times and numbers.
pub(super) fn of(remaining: &Remaining, before: &Value) -> Value {
    let now = json!(crud::timestamp(Timestamp::now()));
    let rows = rows(remaining);
    let next: Vec<Value> = rows
        .into_iter()
        .map(|row| condition(row, before, &now))
        .collect();
    json!(next)
}

fn rows(remaining: &Remaining) -> [Row; 5] {
    let resources = remaining.resources.iter().map(|(resource, count)| {
        // Kubernetes writes resource and group with a dot between, also where there is no group.
        let dot = if resource.contains('.') { "" } else { "." };
        format!("{resource}{dot} has {count} resource instances")
    });
    let resources: Vec<String> = resources.collect();
    let finalizers = remaining.finalizers.iter();
    let finalizers =
        finalizers.map(|(name, count)| format!("{name} in {count} resource instances"));
    let finalizers: Vec<String> = finalizers.collect();
    let content = match resources.is_empty() {
        true => (
            false,
            "ContentRemoved",
            "All content successfully removed".to_owned(),
        ),
        false => {
            let list = resources.join(", ");
            (
                true,
                "SomeResourcesRemain",
                format!("Some resources are remaining: {list}"),
            )
        }
    };
    let held = match finalizers.is_empty() {
        true => (
            false,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished".to_owned(),
        ),
        false => {
            let list = finalizers.join(", ");
            let message = format!("Some content in the namespace has finalizers remaining: {list}");
            (true, "SomeFinalizersRemain", message)
        }
    };
    let well = |kind, reason, message: &str| (kind, false, reason, message.to_owned());
    [
        well(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        well(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        well(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("NamespaceContentRemaining", content.0, content.1, content.2),
        ("NamespaceFinalizersRemaining", held.0, held.1, held.2),
    ]
}

fn condition((kind, holds, reason, message): Row, before: &Value, now: &Value) -> Value {
    let status = if holds { "True" } else { "False" };
    let mut before = before.as_array().into_iter().flatten();
    let old = before.find(|old| old["type"] == kind && old["status"] == status);
    let without_numbers = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    let known = old.filter(|old| {
        let text = old["message"].as_str().unwrap_or_default();
        old["reason"] == reason && without_numbers(text) == without_numbers(&message)
    });
    if let Some(known) = known {
        return known.clone();
    }
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": old.map_or(now, |old| &old["lastTransitionTime"]),
    })
}
