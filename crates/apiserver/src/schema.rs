//! Structural schemas, parsed once and walked by everything that reads objects.
//!
//! One shape serves custom resources and built-in kinds: defaulting, pruning, validation, strategic
//! merge, server-side apply and OpenAPI all take a [`Schema`]. Where no schema is known the walkers
//! pass `None`, which means "maps merge, lists are atomic, every field is allowed".

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::{Map, Value};

use crate::status::FieldError;

pub mod pack;
mod parse;
pub mod path;
pub mod structural;
#[cfg(test)]
mod tests;

pub use parse::parse;
pub use path::Path;

/// JSON type that a schema asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Any JSON value.
    #[default]
    Any,
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// A JSON string.
    String,
    /// A number without fraction.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An integer or a string, such as a port's number or name.
    IntOrString,
}

/// How two versions of a list merge (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// One writer owns the whole list.
    #[default]
    Atomic,
    /// Items are scalars, each owned on its own.
    Set,
    /// Items are objects told apart by these fields.
    Map(Vec<Box<str>>),
}

/// How a strategic merge patch treats a field (`x-kubernetes-patch-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists merge by key, or as a set of scalars, instead of being replaced.
    pub merge: bool,
    /// A patch names the keys to keep in `$retainKeys`.
    pub retain_keys: bool,
}

/// Value limits; only schemas that have any carry them.
#[derive(Debug, Default)]
pub struct Limits {
    /// Allowed values; empty means all.
    pub enumeration: Vec<Value>,
    /// Least number.
    pub minimum: Option<f64>,
    /// Greatest number.
    pub maximum: Option<f64>,
    /// `minimum` itself is not allowed.
    pub exclusive_minimum: bool,
    /// `maximum` itself is not allowed.
    pub exclusive_maximum: bool,
    /// Numbers must divide by this.
    pub multiple_of: Option<f64>,
    /// Least count of characters.
    pub min_length: Option<usize>,
    /// Greatest count of characters.
    pub max_length: Option<usize>,
    /// Least count of items.
    pub min_items: Option<usize>,
    /// Greatest count of items.
    pub max_items: Option<usize>,
    /// Least count of properties.
    pub min_properties: Option<usize>,
    /// Greatest count of properties.
    pub max_properties: Option<usize>,
    /// Regular expression that a string must contain.
    pub pattern: Option<Pattern>,
    /// Name of a string or number format, such as `date-time`.
    pub format: Option<Box<str>>,
    /// All of these must hold.
    pub all_of: Vec<Schema>,
    /// At least one of these must hold.
    pub any_of: Vec<Schema>,
    /// Exactly one of these must hold.
    pub one_of: Vec<Schema>,
    /// This must not hold.
    pub not: Option<Box<Schema>>,
}

/// A pattern, compiled when it is first needed: most CRDs of a server are never written to.
#[derive(Debug)]
pub struct Pattern {
    /// As written in the schema.
    pub source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Does not compile yet.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            compiled: OnceLock::new(),
        }
    }

    /// Whether `text` matches; a pattern that does not compile matches everything, because the
    /// structural check already refused the CRD that brought it.
    pub fn matches(&self, text: &str) -> bool {
        self.compiled
            .get_or_init(|| compile(&self.source))
            .as_ref()
            .is_none_or(|regex| regex.is_match(text))
    }
}

/// Bounded, so that a hostile pattern cannot take the memory of the server.
fn compile(source: &str) -> Option<Regex> {
    regex::RegexBuilder::new(source)
        .size_limit(1 << 20)
        .build()
        .ok()
}

/// Judges one object of a built-in definition at a path.
pub type Demand = fn(&Map<String, Value>, &Path<'_>, &mut Vec<FieldError>);

/// What is known of one place in an object.
#[derive(Debug, Default)]
pub struct Schema {
    /// Name of the built-in definition this is, such as `io.k8s.api.core.v1.Pod`.
    pub definition: Option<Arc<str>>,
    /// JSON type.
    pub kind: Kind,
    /// `null` is a value of its own here.
    pub nullable: bool,
    /// Unknown fields stay.
    pub preserve_unknown: bool,
    /// The object here is a Kubernetes object: `apiVersion`, `kind` and `metadata` are known.
    pub embedded: bool,
    /// Named fields.
    pub properties: BTreeMap<Box<str>, Arc<Schema>>,
    /// Values of all other keys.
    pub additional: Option<Arc<Schema>>,
    /// Items of a list.
    pub items: Option<Arc<Schema>>,
    /// Fields that must be there.
    pub required: Vec<Box<str>>,
    /// Value that a missing field gets.
    pub default: Option<Value>,
    /// Fills fields whose default depends on their neighbors (built-in kinds only).
    pub dynamic_default: Option<fn(&mut Map<String, Value>)>,
    /// Demands of built-in kinds that no schema word can say.
    pub demand: Option<Demand>,
    /// How lists merge.
    pub list: ListKind,
    /// Two items may have the same key: built-in kinds merge by key but accept duplicates.
    pub duplicates: bool,
    /// One writer owns the whole map.
    pub atomic_map: bool,
    /// Key of strategic merge.
    pub merge_key: Option<Box<str>>,
    /// Strategy of strategic merge.
    pub patch: PatchStrategy,
    /// Value limits.
    pub limits: Option<Arc<Limits>>,
    /// Names of the properties that have a default: defaulting looks at these only.
    pub defaulted: Vec<Box<str>>,
}

impl Schema {
    /// Schema of the field `key` of an object described by `schema`.
    pub fn field<'a>(schema: Option<&'a Schema>, key: &str) -> Option<&'a Schema> {
        let schema = schema?;
        schema
            .properties
            .get(key)
            .or(schema.additional.as_ref())
            .map(Arc::as_ref)
    }

    /// Schema of the items of a list described by `schema`.
    pub fn item(schema: Option<&Schema>) -> Option<&Schema> {
        schema?.items.as_deref()
    }

    /// Whether `key` is a field that the schema names, not just a key of a map.
    pub fn names(schema: Option<&Schema>, key: &str) -> bool {
        schema.is_some_and(|schema| schema.properties.contains_key(key))
    }

    /// How lists at this place merge.
    pub fn list_kind(schema: Option<&Schema>) -> &ListKind {
        schema.map_or(&ListKind::Atomic, |schema| &schema.list)
    }

    /// Whether a map at this place has one owner.
    pub fn is_atomic_map(schema: Option<&Schema>) -> bool {
        schema.is_some_and(|schema| schema.atomic_map)
    }

    /// Whether a field that no property names is allowed.
    pub fn allows_unknown(&self) -> bool {
        self.preserve_unknown || self.additional.is_some()
    }

    /// Collects `defaulted` from the properties; parsers call it last.
    pub(crate) fn seal(mut self) -> Self {
        let defaulted = self
            .properties
            .iter()
            .filter(|(_, schema)| schema.default.is_some());
        self.defaulted = defaulted.map(|(name, _)| name.clone()).collect();
        self
    }

    /// A copy that shares its children, for a place that differs from a definition in a hint.
    pub(crate) fn shallow(&self) -> Self {
        Self {
            definition: self.definition.clone(),
            properties: self.properties.clone(),
            additional: self.additional.clone(),
            items: self.items.clone(),
            required: self.required.clone(),
            default: self.default.clone(),
            list: self.list.clone(),
            merge_key: self.merge_key.clone(),
            limits: self.limits.clone(),
            defaulted: self.defaulted.clone(),
            ..*self
        }
    }
}

/// Go's and OpenAPI's name of the JSON type of a value, as error texts print it.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
