//! Tables as `kubectl get` prints them: Kubernetes' own columns for built-in kinds, those of the CRD
//! for custom resources.
//!
//! Cells are computed here because only the server knows a kind's columns; clients just align them.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::types::{Columns, CustomColumn, ResourceType};

mod age;
mod builtin;
mod event;
mod extension;
mod network;
mod node;
mod pod;
#[cfg(test)]
mod tests;
mod workload;

pub use age::human;
pub(crate) use builtin::builtin;

/// How much of each object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Cells only.
    None,
    /// `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// Reads the query parameter; empty is the default.
    ///
    /// # Errors
    /// The text for a `BadRequest`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(format!("unrecognized includeObject value: {other}")),
        }
    }
}

/// Columns of a built-in kind.
#[derive(Debug)]
pub struct Printer {
    /// In order of printing.
    columns: &'static [Column],
}

#[derive(Debug)]
struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    wide: bool,
    cell: Cell,
}

/// How a cell is made.
#[derive(Debug)]
enum Cell {
    /// The object's name.
    Name,
    /// Time since creation.
    Age,
    /// When the object was created.
    CreatedAt,
    /// Text at a JSON pointer, or the second text.
    Text(&'static str, &'static str),
    /// Number at a JSON pointer; missing is zero.
    Number(&'static str),
    /// `true` or `false` at a JSON pointer; missing is false.
    Flag(&'static str),
    /// Count of items or entries at a JSON pointer.
    Count(&'static str),
    /// Anything else.
    Compute(fn(&Value, Timestamp) -> Value),
}

/// The `Table` of some objects. `list` is the metadata of the list (`resourceVersion`, `continue`).
pub fn render(
    kind: &ResourceType,
    list: Value,
    objects: &[&Value],
    include: Include,
    now: Timestamp,
) -> Value {
    let rows: Vec<_> = objects
        .iter()
        .map(|object| row(kind, object, include, now))
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list,
        "columnDefinitions": definitions(kind),
        "rows": rows,
    })
}

fn definitions(kind: &ResourceType) -> Vec<Value> {
    let name = || definition("Name", "string", "name", "Name of the object.", 0);
    let age = || definition("Age", "date", "", "Time since creation.", 0);
    match &kind.columns {
        Columns::Plain => vec![name(), age()],
        Columns::Builtin(printer) => {
            let column = |column: &Column| {
                definition(
                    column.name,
                    column.kind,
                    column.format,
                    "",
                    i64::from(column.wide),
                )
            };
            printer.columns.iter().map(column).collect()
        }
        Columns::Custom(columns) => {
            let mut out = vec![name()];
            out.extend(columns.iter().map(|column| {
                definition(
                    &column.name,
                    &column.kind,
                    &column.format,
                    &column.description,
                    column.priority,
                )
            }));
            out
        }
    }
}

fn definition(name: &str, kind: &str, format: &str, description: &str, priority: i64) -> Value {
    json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority})
}

fn row(kind: &ResourceType, object: &Value, include: Include, now: Timestamp) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), cells(kind, object, now).into());
    match include {
        Include::None => {}
        Include::Metadata => {
            row.insert(
                "object".into(),
                json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": object.get("metadata").cloned().unwrap_or_default(),
                }),
            );
        }
        Include::Object => {
            row.insert("object".into(), object.clone());
        }
    }
    Value::Object(row)
}

fn cells(kind: &ResourceType, object: &Value, now: Timestamp) -> Vec<Value> {
    match &kind.columns {
        Columns::Plain => vec![Cell::Name.of(object, now), Cell::Age.of(object, now)],
        Columns::Builtin(printer) => printer
            .columns
            .iter()
            .map(|column| column.cell.of(object, now))
            .collect(),
        Columns::Custom(columns) => {
            let mut cells = vec![Cell::Name.of(object, now)];
            cells.extend(columns.iter().map(|column| custom(column, object, now)));
            cells
        }
    }
}

/// A cell of a CRD's column; a value of another type than the column's leaves it empty.
fn custom(column: &CustomColumn, object: &Value, now: Timestamp) -> Value {
    let found = column.path.find(object);
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match column.kind.as_str() {
        "integer" => first
            .as_i64()
            .or_else(|| first.as_f64().map(|number| number as i64))
            .into(),
        "number" => first.as_f64().into(),
        "boolean" => first.as_bool().into(),
        "date" => match first.as_str() {
            Some(text) => age::since(text, now).into(),
            None => Value::Null,
        },
        _ => found
            .iter()
            .map(|value| plain(value))
            .collect::<Vec<_>>()
            .join(" ")
            .into(),
    }
}

/// A value as text, strings without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl Cell {
    fn of(&self, object: &Value, now: Timestamp) -> Value {
        match self {
            Self::Name => text(object, "/metadata/name").into(),
            Self::Age => age::since(text(object, "/metadata/creationTimestamp"), now).into(),
            Self::CreatedAt => text(object, "/metadata/creationTimestamp").into(),
            Self::Text(pointer, otherwise) => match object.pointer(pointer).map(plain) {
                Some(found) if !found.is_empty() => found.into(),
                _ => (*otherwise).into(),
            },
            Self::Number(pointer) => number(object, pointer).into(),
            Self::Flag(pointer) => object
                .pointer(pointer)
                .and_then(Value::as_bool)
                .unwrap_or_default()
                .into(),
            Self::Count(pointer) => match object.pointer(pointer) {
                Some(Value::Array(items)) => items.len().into(),
                Some(Value::Object(map)) => map.len().into(),
                _ => 0.into(),
            },
            Self::Compute(compute) => compute(object, now),
        }
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn number(object: &Value, pointer: &str) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Joins what is there, or says `<none>`.
fn join_or_none(items: impl IntoIterator<Item = String>) -> String {
    let joined = items.into_iter().collect::<Vec<_>>().join(",");
    if joined.is_empty() {
        "<none>".into()
    } else {
        joined
    }
}

/// A label selector object as kubectl prints it.
fn selector_text(selector: Option<&Value>) -> String {
    let Some(selector) = selector else {
        return "<none>".into();
    };
    let labels = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let mut terms: Vec<_> = labels
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let values = list(expression, "/values")
            .iter()
            .map(plain)
            .collect::<Vec<_>>()
            .join(",");
        terms.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    join_or_none(terms)
}
