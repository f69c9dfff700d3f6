//! The writes after which everybody owns what they owned before: most updates change the fields
//! that their manager has changed before. Looking is much cheaper than building the sets anew.

use serde_json::{Map, Value};

use super::Writer;
use super::compare::Difference;
use super::fields::{SELF, is_member};

const ENTRIES: &str = "/metadata/managedFields";

/// Whether an update by this writer leaves the entries of `live` as they are. `given` are the
/// entries that the client sent.
pub(super) fn keeps_owners(
    live: &Value,
    given: Option<&Vec<Value>>,
    writer: &Writer<'_>,
    version: &str,
    difference: &Difference,
) -> bool {
    let Some(entries) = live.pointer(ENTRIES).and_then(Value::as_array) else {
        return false;
    };
    if given.is_some_and(|given| !given.is_empty() && given != entries)
        || !difference.removed.is_empty()
    {
        return false;
    }
    let changed = &difference.changed.0;
    let mut is_owner = changed.is_empty();
    for entry in entries {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let Some(fields) = entry.get("fieldsV1").and_then(Value::as_object) else {
            return false;
        };
        let is_own = text("manager") == writer.manager
            && text("operation") == "Update"
            && text("apiVersion") == version
            && text("subresource") == writer.subresource;
        if is_own && !is_owner {
            is_owner = covers(fields, changed);
        } else if touches(fields, changed) {
            return false;
        }
    }
    is_owner
}

/// Gives the new object the entries of the one before.
pub(super) fn keep_owners(live: &Value, new: &mut Value) {
    let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(entries) = live.pointer(ENTRIES)
        && metadata.get("managedFields") != Some(entries)
    {
        metadata.insert("managedFields".into(), entries.clone());
    }
}

/// Whether everything in `part` is in `set`.
fn covers(set: &Map<String, Value>, part: &Map<String, Value>) -> bool {
    part.iter().all(|(element, theirs)| {
        let Some(ours) = set.get(element) else {
            return false;
        };
        if is_member(theirs) && !is_member(ours) {
            return false;
        }
        match (ours.as_object(), theirs.as_object()) {
            (Some(ours), Some(theirs)) => covers(ours, theirs),
            _ => element == SELF || ours == theirs,
        }
    })
}

/// Whether the sets may have a member in common.
fn touches(set: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    other.iter().any(|(element, theirs)| {
        let Some(ours) = set.get(element) else {
            return false;
        };
        match (ours.as_object(), theirs.as_object()) {
            (Some(ours), Some(theirs)) if !ours.is_empty() && !theirs.is_empty() => {
                touches(ours, theirs)
            }
            _ => true,
        }
    })
}
