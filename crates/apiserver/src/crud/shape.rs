//! The one place where requests meet the type table and the pure schema functions.
//!
//! Versions of a kind differ in names only, so an object is turned into the request's version
//! when it is read and into the stored version when it is written.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::Call;
use crate::apply::{self as ownership, Outcome, Writer};
use crate::schema::{Schema, pack};
use crate::selector::{Fields, Labels};
use crate::status::{Fault, FieldError, Status};
use crate::store::Durability;
use crate::table::{self, Include};
use crate::types::{self, ResourceType};
use crate::{defaults, patch as patches, prune as pruning, rules, strict, validate as validation};

/// Reads JSON; also returns a finding per duplicate field.
pub(super) fn parse_json(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let document = strict::parse(bytes).map_err(|error| {
        Status::bad_request(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    let found = document
        .duplicates
        .iter()
        .map(|path| format!("duplicate field \"{path}\""))
        .collect();
    Ok((document.value, found))
}

/// Reads YAML, of which JSON is a part.
pub(super) fn parse_yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), Status> {
    // Clients often send JSON under this type, and JSON tells duplicates.
    if bytes.trim_ascii_start().starts_with(b"{")
        && let Ok(found) = parse_json(bytes)
    {
        return Ok(found);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Status::bad_request("the YAML body is not UTF-8"))?;
    let value = serde_saphyr::from_str(text)
        .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: {error}")))?;
    Ok((value, Vec::new()))
}

/// The same for a built-in definition that is no resource of its own.
pub(super) fn prune_definition(definition: &str, value: &mut Value) -> Vec<String> {
    pack::schema(definition).map_or_else(Vec::new, |schema| unknown(&schema, value))
}

fn unknown(schema: &Schema, value: &mut Value) -> Vec<String> {
    let paths = pruning::prune(schema, value);
    paths
        .into_iter()
        .map(|path| format!("unknown field \"{path}\""))
        .collect()
}

/// Drops fields that the schema does not know, and returns a finding for each.
pub(super) fn prune(kind: &ResourceType, value: &mut Value) -> Vec<String> {
    match &kind.schema {
        Some(schema) => unknown(schema, value),
        None => Vec::new(),
    }
}

/// Fills in the schema's defaults.
pub(super) fn default(kind: &ResourceType, value: &mut Value) {
    if let Some(schema) = &kind.schema {
        defaults::apply(schema, value);
    }
}

/// Findings of the schema, and about fields that a built-in kind does not let change.
pub(super) fn validate(kind: &ResourceType, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = kind
        .schema
        .as_ref()
        .map(|schema| validation::object(schema, value, old))
        .unwrap_or_default();
    if let (Some(definition), Some(old)) = (kind.definition(), old) {
        errors.extend(validation::builtin::update(definition, value, old));
    }
    errors
}

/// Adds what the rules of a CRD find. They may take the structure for granted, so they are not asked
/// about an object that lacks it.
pub(crate) fn judge(
    kind: &ResourceType,
    value: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
    warnings: &mut Vec<String>,
) {
    const BLOCKING: [Fault; 4] = [
        Fault::Required,
        Fault::TooLong,
        Fault::TooMany,
        Fault::TypeInvalid,
    ];
    let Some(rules) = &kind.rules else {
        return;
    };
    if errors.iter().any(|error| BLOCKING.contains(&error.fault)) {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        errors.push(FieldError::invalid("<nil>", &Value::Null, detail));
        return;
    }
    let found = rules::check(rules, value, old);
    errors.extend(found.errors);
    warnings.extend(found.warnings);
}

/// When a write of this kind is on disk. Status is derived, whatever the kind.
pub(super) fn durability(kind: &ResourceType, subresource: &str) -> Durability {
    match kind.durability {
        types::Durability::Durable if subresource != "status" => Durability::Durable,
        types::Durability::Durable | types::Durability::Lazy => Durability::Lazy,
    }
}

/// Whether the status is written apart.
pub(super) fn has_status(kind: &ResourceType) -> bool {
    kind.subresources.status
}

/// Whether this kind came with a CRD.
pub(super) fn is_custom(kind: &ResourceType) -> bool {
    kind.custom
}

/// Whether objects of this kind count their generations.
pub(super) fn has_generation(kind: &ResourceType) -> bool {
    kind.custom
        || match kind.group.as_str() {
            "" => kind.plural == "pods",
            "apps" | "batch" | "networking.k8s.io" | "policy" | "apiextensions.k8s.io" => true,
            _ => false,
        }
}

/// Whether this server itself answers the call's subresource.
pub(crate) fn known_subresource(call: &Call) -> bool {
    let subresources = &call.kind.subresources;
    match call.subresource.as_str() {
        "" => true,
        "status" => subresources.status,
        "scale" => subresources.scale.is_some(),
        "binding" | "eviction" | "ephemeralcontainers" | "resize" => {
            super::special::is_pod(&call.kind)
        }
        "finalize" => call.kind.group.is_empty() && call.kind.plural == "namespaces",
        "approval" => super::special::is_signing_request(&call.kind),
        "token" => call.kind.group.is_empty() && call.kind.plural == "serviceaccounts",
        _ => false,
    }
}

/// A stored object in the version of `kind`.
pub(super) fn in_version(kind: &ResourceType, stored: Arc<Value>) -> Arc<Value> {
    if stored["apiVersion"].as_str() == Some(&*kind.api_version()) {
        return stored;
    }
    let mut value = (*stored).clone();
    kind.from_storage(&mut value);
    Arc::new(value)
}

/// An object in the version in which it is stored.
pub(super) fn to_storage(kind: &ResourceType, mut value: Value) -> Value {
    kind.to_storage(&mut value);
    value
}

/// Reads a label selector.
pub(super) fn parse_labels(text: &str) -> Result<Labels, Status> {
    Labels::parse(text)
        .map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))
}

/// Reads a field selector; only fields that the kind offers may be used.
pub(super) fn parse_fields(kind: &ResourceType, text: &str) -> Result<Fields, Status> {
    Fields::parse(text, &kind.selectable).map_err(Status::bad_request)
}

/// Applies an RFC 6902 patch.
pub(super) fn json_patch(old: &Value, patch: &Value) -> Result<Value, Status> {
    patches::json(old, patch)
}

/// Applies an RFC 7386 patch.
pub(super) fn merge_patch(old: &Value, patch: &Value) -> Result<Value, Status> {
    Ok(patches::merge(old, patch))
}

/// Applies a strategic merge patch.
pub(super) fn strategic_patch(
    kind: &ResourceType,
    old: &Value,
    patch: &Value,
) -> Result<Value, Status> {
    match &kind.schema {
        Some(schema) => patches::strategic(schema, old, patch),
        None => Ok(patches::merge(old, patch)),
    }
}

/// Merges what a manager applies into the live object and records what it owns.
pub(super) fn apply(call: &Call, live: Option<&Value>, applied: &Value) -> Result<Value, Status> {
    let outcome = ownership::apply(&call.kind, live, applied, &writer(call), call.options.force)?;
    Ok(match outcome {
        Outcome::Changed(value) => value,
        Outcome::Unchanged => live.cloned().unwrap_or_default(),
    })
}

/// Records in managedFields what an update changed.
pub(super) fn record(call: &Call, new: &mut Value, old: Option<&Value>) {
    ownership::track(&call.kind, old, new, &writer(call));
}

fn writer(call: &Call) -> Writer<'_> {
    Writer {
        manager: &call.manager,
        subresource: &call.subresource,
        now: Timestamp::now(),
    }
}

/// Rows and columns for people. `list` is the metadata of the table.
pub(crate) fn table_of(call: &Call, list: Value, objects: &[Value]) -> Value {
    let objects: Vec<&Value> = objects.iter().collect();
    // An unknown value was refused when the request was read.
    let include = Include::parse(&call.options.include_object).unwrap_or_default();
    table::render(&call.kind, list, &objects, include, Timestamp::now())
}
