//! The entries of `metadata.managedFields`: who owns what, since when.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::compare::Difference;
use super::fields::FieldSet;
use super::{Conflict, Writer};

/// Most update managers that are kept apart; the oldest of more are merged, as in Kubernetes.
const MAX_UPDATE_MANAGERS: usize = 10;

/// Manager of the merged ones.
const ANCIENT: &str = "ancient-changes";

/// Manager of fields that were there before anyone was recorded.
const BEFORE: &str = "before-first-apply";

/// Longest name of a manager, in bytes.
const MAX_NAME: usize = 128;

/// Name of a field manager: the query parameter, else the client's name from its User-Agent.
pub fn name(field_manager: Option<&str>, user_agent: Option<&str>) -> String {
    if let Some(given) = field_manager.filter(|given| !given.is_empty()) {
        return given.to_owned();
    }
    let client = user_agent
        .unwrap_or("unknown")
        .split('/')
        .next()
        .unwrap_or("unknown");
    let printable: String = client
        .chars()
        .filter(|letter| letter.is_ascii_graphic())
        .take(MAX_NAME)
        .collect();
    if printable.is_empty() {
        "unknown".into()
    } else {
        printable
    }
}

/// How a manager wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) version: String,
    pub(super) subresource: String,
    /// RFC 3339, empty if unknown.
    pub(super) time: String,
    pub(super) fields: FieldSet,
}

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers {
    pub(super) entries: Vec<Entry>,
}

impl Managers {
    /// Reads an object; an entry that cannot be read is dropped.
    pub(super) fn of(object: Option<&Value>) -> Self {
        let given = object
            .and_then(|object| object.pointer("/metadata/managedFields"))
            .and_then(Value::as_array);
        Self {
            entries: given.into_iter().flatten().filter_map(read).collect(),
        }
    }

    /// The entry of a manager. `version` is part of the identity of updates only.
    pub(super) fn find(
        &self,
        manager: &str,
        operation: Operation,
        version: Option<&str>,
        subresource: &str,
    ) -> Option<usize> {
        self.entries.iter().position(|entry| {
            entry.manager == manager
                && entry.operation == operation
                && entry.subresource == subresource
                && version.is_none_or(|version| entry.version == version)
        })
    }

    /// Sets what the writer owns; an empty set removes the entry.
    pub(super) fn put(
        &mut self,
        writer: &Writer<'_>,
        operation: Operation,
        version: &str,
        fields: FieldSet,
    ) {
        let key = (operation == Operation::Update).then_some(version);
        if let Some(old) = self.find(writer.manager, operation, key, writer.subresource) {
            self.entries.remove(old);
        }
        if fields.is_empty() {
            return;
        }
        self.entries.push(Entry {
            manager: writer.manager.to_owned(),
            operation,
            version: version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: seconds(writer.now),
            fields,
        });
    }

    /// Gives everything to the manager of the time before.
    pub(super) fn adopt(&mut self, fields: FieldSet, version: &str, now: Timestamp) {
        self.put(
            &Writer {
                manager: BEFORE,
                subresource: "",
                now,
            },
            Operation::Update,
            version,
            fields,
        );
    }

    /// Takes what a write changed or removed from all managers but `own`. What was changed under
    /// them is returned: for an apply these are conflicts.
    pub(super) fn yield_to(
        &mut self,
        own: Option<usize>,
        difference: &Difference,
    ) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        if difference.is_empty() {
            return conflicts;
        }
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if Some(index) == own {
                continue;
            }
            let paths = entry.fields.common_paths(&difference.changed);
            if !paths.is_empty() {
                conflicts.push(Conflict {
                    manager: entry.shown(),
                    paths,
                });
            }
            entry.fields.subtract(&difference.changed);
            entry.fields.subtract(&difference.removed);
        }
        conflicts
    }

    /// Merges the oldest update managers beyond the limit into one.
    pub(super) fn cap(&mut self, now: Timestamp) {
        let updates = |entries: &[Entry]| {
            entries
                .iter()
                .filter(|entry| entry.operation == Operation::Update)
                .count()
        };
        if updates(&self.entries) <= MAX_UPDATE_MANAGERS {
            return;
        }
        self.sort();
        while updates(&self.entries) > MAX_UPDATE_MANAGERS {
            let Some(oldest) = self
                .entries
                .iter()
                .position(|entry| entry.operation == Operation::Update && entry.manager != ANCIENT)
            else {
                return;
            };
            let gone = self.entries.remove(oldest);
            let writer = Writer {
                manager: ANCIENT,
                subresource: "",
                now,
            };
            let mut fields = gone.fields;
            if let Some(old) = self.find(ANCIENT, Operation::Update, Some(&gone.version), "") {
                fields.add(&self.entries[old].fields);
            }
            self.put(&writer, Operation::Update, &gone.version, fields);
            if let Some(merged) = self.find(ANCIENT, Operation::Update, Some(&gone.version), "") {
                self.entries[merged].time = gone.time;
            }
        }
    }

    /// Kubernetes' order: appliers first, then by time.
    fn sort(&mut self) {
        self.entries.sort_by(|left, right| {
            let key = |entry: &Entry| {
                (
                    entry.operation,
                    entry.time.clone(),
                    entry.manager.clone(),
                    entry.version.clone(),
                    entry.subresource.clone(),
                )
            };
            key(left).cmp(&key(right))
        });
    }

    /// Writes the entries into an object.
    pub(super) fn write(mut self, object: &mut Value) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.sort();
        let Some(object) = object.as_object_mut() else {
            return;
        };
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        let Some(metadata) = metadata.as_object_mut() else {
            return;
        };
        if self.entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries: Vec<Value> = self.entries.into_iter().map(Entry::into_value).collect();
            metadata.insert("managedFields".into(), entries.into());
        }
    }
}

impl Entry {
    fn shown(&self) -> String {
        let mut shown = Value::from(self.manager.as_str()).to_string();
        if !self.subresource.is_empty() {
            shown.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == Operation::Update {
            shown.push_str(&format!(" using {}", self.version));
        }
        shown
    }

    fn into_value(self) -> Value {
        let mut map = Map::new();
        map.insert("manager".into(), self.manager.into());
        let operation = if self.operation == Operation::Apply {
            "Apply"
        } else {
            "Update"
        };
        map.insert("operation".into(), operation.into());
        map.insert("apiVersion".into(), self.version.into());
        if !self.time.is_empty() {
            map.insert("time".into(), self.time.into());
        }
        map.insert("fieldsType".into(), "FieldsV1".into());
        map.insert("fieldsV1".into(), Value::Object(self.fields.0));
        if !self.subresource.is_empty() {
            map.insert("subresource".into(), self.subresource.into());
        }
        Value::Object(map)
    }
}

fn read(value: &Value) -> Option<Entry> {
    let text = |field: &str| {
        value
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let operation = match value.get("operation")?.as_str()? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    let fields = value.get("fieldsV1")?.as_object()?.clone();
    Some(Entry {
        manager: text("manager"),
        operation,
        version: text("apiVersion"),
        subresource: text("subresource"),
        time: text("time"),
        fields: FieldSet(fields),
    })
}

/// Kubernetes' times have whole seconds.
fn seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}
