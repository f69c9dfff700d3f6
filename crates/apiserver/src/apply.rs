//! Server-side apply and the ownership of fields (`metadata.managedFields`).
//!
//! Every write records which fields its manager set: [`track`] for creates, updates and patches,
//! [`apply`] for applied configurations. An applied field that another manager owns with another
//! value is a conflict; a field that its last owner stops applying is removed.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::defaults;
use crate::schema::{ListKind, Schema};
use crate::status::{Cause, Status};
use crate::types::ResourceType;

mod compare;
mod fields;
mod manager;
mod merge;
mod same;
#[cfg(test)]
mod tests;

use compare::Difference;
use fields::FieldSet;
use manager::{Managers, Operation};

pub use manager::name as manager_name;

/// Who writes, and through which door.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Field manager; see [`manager_name`].
    pub manager: &'a str,
    /// Subresource of the request; empty for the object itself.
    pub subresource: &'a str,
    /// Time of the write.
    pub now: Timestamp,
}

/// What an applied configuration makes of an object.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// The object already is so, and the ownership too: nothing to store.
    Unchanged,
    /// The object to store, `managedFields` included. Defaults and pruning come after.
    Changed(Value),
}

/// Metadata that the server owns: never part of a configuration.
const SERVER_METADATA: &[&str] = &[
    "managedFields",
    "creationTimestamp",
    "resourceVersion",
    "generation",
    "selfLink",
    "uid",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Applies `config`; `live` is the stored object, `None` if there is none yet.
///
/// The caller has checked that names match, and what `resourceVersion` and `uid` in `config` demand.
///
/// # Errors
/// 400 if `config` brings `managedFields`; 409 with one cause per field in conflict, unless `force`.
pub fn apply(
    kind: &ResourceType,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Outcome, Status> {
    let given = config
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    if given.is_some_and(|given| !given.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let schema = kind.schema.as_deref();
    let config = wanted(kind, config, writer);
    let set = FieldSet::of(schema, &config).without_server_fields();
    let mut managers = Managers::of(live);
    let own = managers.find(writer.manager, Operation::Apply, None, writer.subresource);
    let owned_before = own.map(|own| &managers.entries[own].fields);
    if let Some(live) = live
        && owned_before.map_or(set.is_empty(), |owned| *owned == set)
        && merge::covers(schema, live, &config)
    {
        return Ok(Outcome::Unchanged);
    }
    let Some(live) = live else {
        managers.put(writer, Operation::Apply, &kind.api_version(), set);
        let mut object = config;
        managers.write(&mut object);
        return Ok(Outcome::Changed(object));
    };
    if managers.entries.is_empty() {
        managers.adopt(
            FieldSet::of(schema, live).without_server_fields(),
            &kind.api_version(),
            writer.now,
        );
    }
    let last = own
        .map(|own| managers.entries[own].fields.clone())
        .unwrap_or_default();
    let mut object = live.clone();
    merge::merge(schema, &mut object, &config);
    let mut owned = set.clone();
    for (index, entry) in managers.entries.iter().enumerate() {
        if Some(index) != own {
            owned.add(&entry.fields);
        }
    }
    merge::remove_dropped(schema, &mut object, &last, &owned);
    let difference = compare::objects(schema, Some(live), &object);
    let conflicts = managers.yield_to(own, &difference);
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    if set != last || !difference.is_empty() {
        managers.put(writer, Operation::Apply, &kind.api_version(), set);
    }
    managers.write(&mut object);
    Ok(if object == *live {
        Outcome::Unchanged
    } else {
        Outcome::Changed(object)
    })
}

/// Records the ownership of a create, update or patch in `new.metadata.managedFields`.
///
/// `new` is the object as it will be stored, defaults included. A client may write `managedFields`
/// itself, and `[{}]` clears them, as in Kubernetes.
pub fn track(kind: &ResourceType, live: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let given = new
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    if given
        .is_some_and(|given| matches!(given.as_slice(), [Value::Object(only)] if only.is_empty()))
    {
        Managers::default().write(new);
        return;
    }
    let schema = kind.schema.as_deref();
    let mut difference = compare::objects(schema, live, new);
    if writer.subresource.is_empty() && kind.subresources.status {
        // The server made it, not the writer.
        difference.changed.0.remove("f:status");
    }
    let version = kind.api_version();
    if let Some(live) = live
        && same::keeps_owners(live, given, writer, &version, &difference)
    {
        return same::keep_owners(live, new);
    }
    anew(live, new, writer, &version, &difference);
}

/// Makes the entries of an update out of those before it.
fn anew(
    live: Option<&Value>,
    new: &mut Value,
    writer: &Writer<'_>,
    version: &str,
    difference: &Difference,
) {
    let given = new
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    let mut managers = match given {
        Some(given) if !given.is_empty() => Managers::of(Some(new)),
        _ => Managers::of(live),
    };
    let own = managers.find(
        writer.manager,
        Operation::Update,
        Some(version),
        writer.subresource,
    );
    managers.yield_to(own, difference);
    let before = own
        .map(|own| managers.entries[own].fields.clone())
        .unwrap_or_default();
    let mut after = before.clone();
    after.subtract(&difference.removed);
    after.add(&difference.changed);
    if after != before {
        managers.put(writer, Operation::Update, version, after);
    }
    managers.cap(writer.now);
    managers.write(new);
}

/// The part of a configuration that this door may write, without `null` where that means "not set".
fn wanted(kind: &ResourceType, config: &Value, writer: &Writer<'_>) -> Value {
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        if writer.subresource == "status" {
            map.retain(|field, _| {
                matches!(
                    field.as_str(),
                    "apiVersion" | "kind" | "metadata" | "status"
                )
            });
        } else if kind.subresources.status {
            map.remove("status");
        }
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| !SERVER_METADATA.contains(&field.as_str()));
            if writer.subresource == "status" {
                metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace"));
            }
        }
    }
    drop_nulls(kind.schema.as_deref(), &mut config);
    if let Some(schema) = kind.schema.as_deref() {
        complete_atomic(schema, &mut config);
    }
    config
}

/// Fills defaults inside of atomic lists and maps. They replace the live value as a whole, so
/// without its defaults the same configuration would look like a change, and like a conflict to
/// another manager that applies it too.
fn complete_atomic(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(_) if schema.atomic_map => defaults::apply(schema, value),
        Value::Array(_) if schema.list == ListKind::Atomic => defaults::apply(schema, value),
        Value::Object(map) => {
            for (key, value) in map {
                if (value.is_object() || value.is_array())
                    && let Some(field) = Schema::field(Some(schema), key)
                {
                    complete_atomic(field, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.items.as_deref() {
                items
                    .iter_mut()
                    .for_each(|value| complete_atomic(item, value));
            }
        }
        _ => {}
    }
}

fn drop_nulls(schema: Option<&Schema>, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                !value.is_null() || Schema::field(schema, key).is_none_or(|field| field.nullable)
            });
            for (key, value) in map.iter_mut() {
                if value.is_object() || value.is_array() {
                    drop_nulls(Schema::field(schema, key), value);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| drop_nulls(Schema::item(schema), item)),
        _ => {}
    }
}

/// One manager and the fields of it that a configuration wants to change.
struct Conflict {
    /// As messages name it: `"kubectl" using v1`.
    manager: String,
    paths: Vec<String>,
}

fn conflict(conflicts: &[Conflict]) -> Status {
    let mut causes = Vec::new();
    for conflict in conflicts {
        causes.extend(conflict.paths.iter().map(|path| Cause {
            reason: "FieldManagerConflict".into(),
            message: format!("conflict with {}", conflict.manager),
            field: path.clone(),
        }));
    }
    let message = match causes.as_slice() {
        [only] => format!(
            "Apply failed with 1 conflict: {}: {}",
            only.message, only.field
        ),
        many => {
            let mut lines = Vec::new();
            for conflict in conflicts {
                lines.push(format!("conflicts with {}:", conflict.manager));
                lines.extend(conflict.paths.iter().map(|path| format!("- {path}")));
            }
            format!(
                "Apply failed with {} conflicts: {}",
                many.len(),
                lines.join("\n")
            )
        }
    };
    Status::apply_conflict(message, causes)
}

/// `{}`: the member mark in field sets.
fn mark() -> Value {
    Value::Object(Map::new())
}
