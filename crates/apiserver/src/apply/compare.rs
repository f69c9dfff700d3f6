//! What changed between two versions of an object, as sets of fields.

use serde_json::{Map, Value};

use super::fields::{FieldSet, SELF, UNOWNED_METADATA, element};
use super::mark;
use crate::schema::{ListKind, Schema};

/// Fields that a write added or modified, and those that it removed.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) changed: FieldSet,
    pub(super) removed: FieldSet,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Nodes of one place: what changed there, what was removed there.
#[derive(Default)]
struct Nodes {
    changed: Option<Value>,
    removed: Option<Value>,
}

impl Nodes {
    /// Puts them under a field of their parents. Most places have none.
    fn under(self, key: &str, changed: &mut Map<String, Value>, removed: &mut Map<String, Value>) {
        let element = || format!("f:{key}");
        changed.extend(self.changed.map(|node| (element(), node)));
        removed.extend(self.removed.map(|node| (element(), node)));
    }
}

/// Compares two objects; `old` is `None` for a create.
pub(super) fn objects(schema: Option<&Schema>, old: Option<&Value>, new: &Value) -> Difference {
    let empty = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let mut out = Difference::default();
    for key in keys(old, new) {
        let nodes = match key {
            "apiVersion" | "kind" => continue,
            "metadata" => metadata(Schema::field(schema, key), old.get(key), new.get(key)),
            _ => values(Schema::field(schema, key), old.get(key), new.get(key)),
        };
        nodes.under(key, &mut out.changed.0, &mut out.removed.0);
    }
    out
}

/// Compares metadata without what nobody owns, `managedFields` above all.
fn metadata(schema: Option<&Schema>, old: Option<&Value>, new: Option<&Value>) -> Nodes {
    let empty = Map::new();
    let old = old.and_then(Value::as_object).unwrap_or(&empty);
    let new = new.and_then(Value::as_object).unwrap_or(&empty);
    let mut changed = Map::new();
    let mut removed = Map::new();
    let is_unowned = |key: &str| {
        let names = UNOWNED_METADATA.iter();
        let mut names = names.filter_map(|element| element.strip_prefix("f:"));
        names.any(|name| name == key)
    };
    for key in keys(old, new).filter(|key| !is_unowned(key)) {
        let nodes = values(Schema::field(schema, key), old.get(key), new.get(key));
        nodes.under(key, &mut changed, &mut removed);
    }
    Nodes {
        changed: some(changed),
        removed: some(removed),
    }
}

fn some(children: Map<String, Value>) -> Option<Value> {
    (!children.is_empty()).then_some(Value::Object(children))
}

/// Keys of both maps in order, each once.
fn keys<'a>(
    old: &'a Map<String, Value>,
    new: &'a Map<String, Value>,
) -> impl Iterator<Item = &'a str> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    old.keys().chain(added).map(String::as_str)
}

fn values(schema: Option<&Schema>, old: Option<&Value>, new: Option<&Value>) -> Nodes {
    if old == new {
        return Nodes::default();
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) if !Schema::is_atomic_map(schema) => {
            maps(schema, old, new)
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if merges(schema) => {
            lists(schema, old, new)
        }
        (None, Some(new)) => Nodes {
            changed: Some(whole(schema, new)),
            removed: None,
        },
        (Some(old), None) => Nodes {
            changed: None,
            removed: Some(whole(schema, old)),
        },
        _ => Nodes {
            changed: Some(mark()),
            removed: None,
        },
    }
}

fn merges(schema: Option<&Schema>) -> bool {
    *Schema::list_kind(schema) != ListKind::Atomic
}

fn maps(schema: Option<&Schema>, old: &Map<String, Value>, new: &Map<String, Value>) -> Nodes {
    let mut changed = Map::new();
    let mut removed = Map::new();
    for key in keys(old, new) {
        let nodes = values(Schema::field(schema, key), old.get(key), new.get(key));
        nodes.under(key, &mut changed, &mut removed);
    }
    Nodes {
        changed: some(changed),
        removed: some(removed),
    }
}

fn lists(schema: Option<&Schema>, old: &[Value], new: &[Value]) -> Nodes {
    let keyed = |items: &[Value]| -> Vec<String> {
        items.iter().map(|item| element(schema, item)).collect()
    };
    let (before, after) = (keyed(old), keyed(new));
    let mut changed = Map::new();
    let mut removed = Map::new();
    for (element, item) in after.iter().zip(new) {
        let was = before
            .iter()
            .position(|one| one == element)
            .map(|at| &old[at]);
        let nodes = values(Schema::item(schema), was, Some(item));
        changed.extend(nodes.changed.map(|node| (element.clone(), node)));
        removed.extend(nodes.removed.map(|node| (element.clone(), node)));
    }
    for (element, item) in before.iter().zip(old) {
        if !after.contains(element) {
            removed.insert(element.clone(), whole(Schema::item(schema), item));
        }
    }
    Nodes {
        changed: some(changed),
        removed: some(removed),
    }
}

/// Everything in a value that appeared or went: the place itself and all below.
fn whole(schema: Option<&Schema>, value: &Value) -> Value {
    let mut children = Map::new();
    match value {
        Value::Object(map) if !Schema::is_atomic_map(schema) => {
            for (key, value) in map {
                children.insert(format!("f:{key}"), whole(Schema::field(schema, key), value));
            }
        }
        Value::Array(items) if merges(schema) => {
            for item in items {
                children.insert(element(schema, item), whole(Schema::item(schema), item));
            }
        }
        _ => {}
    }
    if !children.is_empty() {
        children.insert(SELF.into(), mark());
    }
    Value::Object(children)
}
