//! Sets of fields in the very form that `managedFields` stores: a trie of `f:name`, `k:{…}` and
//! `v:…` elements, where `{}` is a member and `.` marks a member that also has children.
//!
//! Working on the stored form means an unchanged object is compared without translation.

use serde_json::{Map, Value};

use super::mark;
use crate::schema::{ListKind, Schema};

/// A set of fields of one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FieldSet(pub(super) Map<String, Value>);

/// The mark of a member that has children.
pub(super) const SELF: &str = ".";

/// Metadata that nobody owns.
pub(super) const UNOWNED_METADATA: &[&str] = &[
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
    SELF,
];

impl FieldSet {
    /// The fields that an applied configuration sets.
    pub(super) fn of(schema: Option<&Schema>, config: &Value) -> Self {
        match node(schema, config) {
            Value::Object(children) => Self(children),
            _ => Self::default(),
        }
    }

    /// Without what identifies the object or belongs to the server.
    pub(super) fn without_server_fields(mut self) -> Self {
        self.0
            .retain(|element, _| !matches!(element.as_str(), "f:apiVersion" | "f:kind" | SELF));
        if let Some(Value::Object(metadata)) = self.0.get_mut("f:metadata") {
            metadata.retain(|element, _| !UNOWNED_METADATA.contains(&element.as_str()));
            if metadata.is_empty() {
                self.0.remove("f:metadata");
            }
        }
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the members of `other`.
    pub(super) fn add(&mut self, other: &Self) {
        add(&mut self.0, &other.0);
    }

    /// Removes the members of `other`.
    pub(super) fn subtract(&mut self, other: &Self) {
        subtract(&mut self.0, &other.0);
    }

    /// The members that both have, as paths such as `.spec.containers[name="c"].image`.
    pub(super) fn common_paths(&self, other: &Self) -> Vec<String> {
        let mut paths = Vec::new();
        common(&self.0, &other.0, "", &mut paths);
        paths
    }
}

/// The node of one value. Empty maps and lists are owned as such, so that applying them again finds
/// them.
fn node(schema: Option<&Schema>, value: &Value) -> Value {
    let mut children = Map::new();
    match value {
        Value::Object(map) if !Schema::is_atomic_map(schema) => {
            for (key, value) in map {
                let mut child = node(Schema::field(schema, key), value);
                if !Schema::names(schema, key) {
                    make_member(&mut child);
                }
                children.insert(format!("f:{key}"), child);
            }
        }
        Value::Array(items) if *Schema::list_kind(schema) != ListKind::Atomic => {
            for item in items {
                let mut child = node(Schema::item(schema), item);
                make_member(&mut child);
                children.insert(element(schema, item), child);
            }
        }
        _ => {}
    }
    Value::Object(children)
}

fn make_member(node: &mut Value) {
    if let Some(children) = node.as_object_mut()
        && !children.is_empty()
    {
        children.insert(SELF.into(), mark());
    }
}

/// The element of a list item: `k:{"name":"x"}` or `v:"x"`. `schema` is that of the list.
pub(super) fn element(schema: Option<&Schema>, item: &Value) -> String {
    let ListKind::Map(keys) = Schema::list_kind(schema) else {
        return format!("v:{item}");
    };
    let mut keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    keys.sort_unstable();
    let mut out = String::from("k:{");
    for key in keys {
        let given = item.get(key).filter(|value| !value.is_null());
        let default = || Schema::field(Schema::item(schema), key)?.default.as_ref();
        if let Some(value) = given.or_else(default) {
            if out.len() > 3 {
                out.push(',');
            }
            out.push_str(&format!("{}:{value}", Value::from(key)));
        }
    }
    out.push('}');
    out
}

pub(super) fn is_member(node: &Value) -> bool {
    node.as_object()
        .is_none_or(|children| children.is_empty() || children.contains_key(SELF))
}

fn children(node: &Value) -> impl Iterator<Item = (&String, &Value)> {
    node.as_object()
        .into_iter()
        .flatten()
        .filter(|(element, _)| *element != SELF)
}

fn add(set: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (element, theirs) in other {
        let Some(ours) = set.get_mut(element) else {
            set.insert(element.clone(), theirs.clone());
            continue;
        };
        if element == SELF {
            continue;
        }
        let member = is_member(ours) || is_member(theirs);
        if let (Some(ours), Some(theirs)) = (ours.as_object_mut(), theirs.as_object()) {
            add(ours, theirs);
            if member && !ours.is_empty() {
                ours.insert(SELF.into(), mark());
            }
            if ours.len() == 1 {
                ours.remove(SELF);
            }
        }
    }
}

fn subtract(set: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (element, theirs) in other {
        let Some(ours) = set.get_mut(element).filter(|_| element != SELF) else {
            continue;
        };
        let member = is_member(ours) && !is_member(theirs);
        let mut rest = match ours.take() {
            Value::Object(rest) => rest,
            _ => Map::new(),
        };
        rest.remove(SELF);
        if let Some(theirs) = theirs.as_object() {
            subtract(&mut rest, theirs);
        }
        if rest.is_empty() && !member {
            set.remove(element);
            continue;
        }
        if member && !rest.is_empty() {
            rest.insert(SELF.into(), mark());
        }
        *ours = Value::Object(rest);
    }
}

fn common(set: &Map<String, Value>, other: &Map<String, Value>, path: &str, out: &mut Vec<String>) {
    for (element, ours) in set {
        let Some(theirs) = other.get(element).filter(|_| element != SELF) else {
            continue;
        };
        let path = format!("{path}{}", shown(element));
        if is_member(ours) && is_member(theirs) {
            out.push(path.clone());
        }
        if children(ours).next().is_some()
            && let (Some(ours), Some(theirs)) = (ours.as_object(), theirs.as_object())
        {
            common(ours, theirs, &path, out);
        }
    }
}

/// An element as paths show it.
fn shown(element: &str) -> String {
    if let Some(name) = element.strip_prefix("f:") {
        return format!(".{name}");
    }
    if let Some(value) = element.strip_prefix("v:") {
        return format!("[={value}]");
    }
    let keys = element
        .strip_prefix("k:")
        .and_then(|keys| serde_json::from_str::<Map<String, Value>>(keys).ok());
    match keys {
        Some(keys) => {
            let keys: Vec<_> = keys
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("[{}]", keys.join(","))
        }
        None => format!("[{}]", element.trim_start_matches("i:")),
    }
}
