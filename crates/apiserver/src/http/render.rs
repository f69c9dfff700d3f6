//! Objects and lists to bytes, in the form and version that the client wants.
//!
//! Objects are stored as they were written. In the common case their bytes are sent as they are,
//! and a list is those bytes joined; nothing is parsed.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use crate::crud::{Call, Content, List};
use crate::http::negotiate::Form;
use crate::types::ResourceType;

/// Encodes an answer.
pub(crate) fn content(call: &Call, form: &Form, content: &Content) -> Bytes {
    match content {
        Content::Object(object) => one(call, form, &object.bytes()),
        Content::Value(value) => {
            let kind = value["kind"].as_str();
            if kind == Some(&*call.kind.kind) {
                one(call, form, &encode(value))
            } else if kind == Some(&*call.kind.list_kind) {
                measured(call, form, value)
            } else {
                // A Status or a Scale has no rows.
                finish(form, encode(value))
            }
        }
        Content::List(found) => list(call, form, found),
    }
}

fn one(call: &Call, form: &Form, bytes: &Bytes) -> Bytes {
    match form {
        Form::Json | Form::Discovery => in_version(&call.kind, bytes),
        Form::Yaml => finish(form, in_version(&call.kind, bytes)),
        Form::Metadata => encode(&metadata_only(bytes)),
        Form::Table => table(call, &[parse(&in_version(&call.kind, bytes))], None, true),
    }
}

/// A list of objects that are not stored.
fn measured(call: &Call, form: &Form, list: &Value) -> Bytes {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    match form {
        Form::Table => table(call, items, Some(json!({})), true),
        Form::Metadata => {
            let items: Vec<_> = items
                .iter()
                .map(|item| metadata_only(&encode(item)))
                .collect();
            encode(&json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {},
                "items": items,
            }))
        }
        Form::Json | Form::Yaml | Form::Discovery => finish(form, encode(list)),
    }
}

/// One object of a watch event. `columns`: the first row of a table brings its columns.
pub(crate) fn watched(call: &Call, form: &Form, bytes: &Bytes, columns: bool) -> Bytes {
    match form {
        Form::Table => table(
            call,
            &[parse(&in_version(&call.kind, bytes))],
            None,
            columns,
        ),
        Form::Metadata => encode(&metadata_only(bytes)),
        Form::Json | Form::Yaml | Form::Discovery => in_version(&call.kind, bytes),
    }
}

/// `apiVersion` and `kind` of one object in this form.
pub(crate) fn type_of(call: &Call, form: &Form) -> (String, String) {
    match form {
        Form::Table => ("meta.k8s.io/v1".into(), "Table".into()),
        Form::Metadata => ("meta.k8s.io/v1".into(), "PartialObjectMetadata".into()),
        Form::Json | Form::Yaml | Form::Discovery => {
            (call.kind.api_version(), call.kind.kind.to_string())
        }
    }
}

/// Whether stored bytes are already in the version of `kind`.
pub(crate) fn is_version(bytes: &[u8], kind: &ResourceType) -> bool {
    // Keys are stored in order, so `apiVersion` comes first unless an odd field precedes it; then
    // the object is parsed, which costs time but is right.
    let Some(rest) = bytes.strip_prefix(b"{\"apiVersion\":\"") else {
        return false;
    };
    let rest = if kind.group.is_empty() {
        rest
    } else {
        let Some(rest) = rest.strip_prefix(kind.group.as_bytes()) else {
            return false;
        };
        let Some(rest) = rest.strip_prefix(b"/") else {
            return false;
        };
        rest
    };
    rest.strip_prefix(kind.version.as_bytes())
        .is_some_and(|rest| rest.starts_with(b"\""))
}

/// The object in the version of `kind`. Versions differ in nothing but their name.
fn in_version(kind: &ResourceType, bytes: &Bytes) -> Bytes {
    if is_version(bytes, kind) {
        return bytes.clone();
    }
    let mut value = parse(bytes);
    kind.from_storage(&mut value);
    encode(&value)
}

fn list(call: &Call, form: &Form, found: &List) -> Bytes {
    let mut metadata = json!({ "resourceVersion": found.revision.to_string() });
    if !found.continue_token.is_empty() {
        metadata["continue"] = json!(found.continue_token);
    }
    if let Some(remaining) = found.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    let (api_version, kind) = match form {
        Form::Table => {
            let rows: Vec<_> = found
                .items
                .iter()
                .map(|item| parse(&in_version(&call.kind, &item.bytes())))
                .collect();
            return table(call, &rows, Some(metadata), true);
        }
        Form::Metadata => (
            "meta.k8s.io/v1".to_owned(),
            "PartialObjectMetadataList".to_owned(),
        ),
        Form::Json | Form::Yaml | Form::Discovery => {
            (call.kind.api_version(), call.kind.list_kind.to_string())
        }
    };
    let size: usize = found.items.iter().map(|item| item.size() + 1).sum();
    let mut out = BytesMut::with_capacity(size + 256);
    out.put_slice(
        format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
            json!(kind),
            json!(api_version)
        )
        .as_bytes(),
    );
    for (index, item) in found.items.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        match form {
            Form::Metadata => out.put_slice(&encode(&metadata_only(&item.bytes()))),
            _ => out.put_slice(&in_version(&call.kind, &item.bytes())),
        }
    }
    out.put_slice(b"]}");
    finish(form, out.freeze())
}

fn table(call: &Call, objects: &[Value], metadata: Option<Value>, columns: bool) -> Bytes {
    let metadata = metadata.unwrap_or_else(|| match objects {
        [one] => json!({ "resourceVersion": one["metadata"]["resourceVersion"] }),
        _ => json!({}),
    });
    let mut table = crate::crud::table_of(call, metadata, objects);
    if !columns {
        table["columnDefinitions"] = Value::Null;
    }
    encode(&table)
}

fn metadata_only(bytes: &[u8]) -> Value {
    let mut value = parse(bytes);
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": value["metadata"].take(),
    })
}

fn finish(form: &Form, json: Bytes) -> Bytes {
    match form {
        // Strings, numbers, lists and maps always have a YAML form.
        Form::Yaml => serde_saphyr::to_string(&parse(&json)).map_or(json, Bytes::from),
        _ => json,
    }
}

fn parse(bytes: &[u8]) -> Value {
    // Only bytes that this server encoded come here.
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn encode(value: &Value) -> Bytes {
    value.to_string().into()
}
