//! Values. JSON is read where it lies, through its type; only what an expression makes is owned.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

use crate::functions::net::{Cidr, Url};
use crate::functions::quantity::Quantity;
use crate::functions::semver::Semver;
use crate::temporal;
use crate::types::{ObjectType, Type};
use crate::{Budget, Error};

/// The result of an evaluation, or a part of it.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// 64-bit integer.
    Int(i64),
    /// 64-bit unsigned integer.
    Uint(u64),
    /// Floating point.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Point in time.
    Timestamp(Timestamp),
    /// Span of time.
    Duration(SignedDuration),
    /// A list.
    List(List<'a>),
    /// A map or an object.
    Map(Map<'a>),
    /// A value that may be missing.
    Optional(Option<Arc<Value<'a>>>),
    /// A type, by its name.
    Type(&'static str),
    /// A resource quantity.
    #[doc(hidden)]
    Quantity(Quantity),
    /// An IP address.
    #[doc(hidden)]
    Ip(IpAddr),
    /// A network.
    #[doc(hidden)]
    Cidr(Cidr),
    /// A URL.
    #[doc(hidden)]
    Url(Arc<Url>),
    /// A semantic version.
    #[doc(hidden)]
    Semver(Arc<Semver>),
    /// A named format.
    #[doc(hidden)]
    Format(&'static str),
}

/// Text of the object, or made by an expression.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Lies in the object.
    Borrowed(&'a str),
    /// Was made.
    Made(Arc<str>),
}

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Lies in the object.
    Json(&'a [Json], Shape<'a>),
    /// Was made.
    Made(Arc<[Value<'a>]>),
}

/// A map or an object.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Lies in the object.
    Json(&'a serde_json::Map<String, Json>, Shape<'a>),
    /// Was made. Keys are unique.
    Made(Arc<[(Value<'a>, Value<'a>)]>),
}

/// What is known of the parts of a JSON value.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// Nothing.
    Any,
    /// All items or values have this type.
    Of(&'a Type),
    /// Items have this type and their order does not matter.
    Set(&'a Type),
    /// Fields have their own types.
    Object(&'a ObjectType),
}

impl<'a> Value<'a> {
    /// Reads JSON as a value of type `of`.
    pub fn read(json: &'a Json, of: &'a Type) -> Self {
        match (json, of) {
            (Json::Null, _) => Self::Null,
            (Json::Bool(value), _) => Self::Bool(*value),
            (Json::Number(number), Type::Double) => {
                Self::Double(number.as_f64().unwrap_or_default())
            }
            (Json::Number(number), _) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Self::Int(number),
                // JSON has one number type: `3.0` is an integer where the schema says so.
                (None, Some(number)) if *of == Type::Int && number.fract() == 0.0 => {
                    Self::Int(number as i64)
                }
                (None, number) => Self::Double(number.unwrap_or_default()),
            },
            (Json::String(text), of) => read_text(text, of),
            (Json::Array(items), Type::List(item)) => {
                Self::List(List::Json(items, Shape::Of(item)))
            }
            (Json::Array(items), Type::Set(item)) => {
                Self::List(List::Json(items, Shape::Set(item)))
            }
            (Json::Array(items), _) => Self::List(List::Json(items, Shape::Any)),
            (Json::Object(map), Type::Map(_, value)) => Self::Map(Map::Json(map, Shape::Of(value))),
            (Json::Object(map), Type::Object(object)) => {
                Self::Map(Map::Json(map, Shape::Object(object)))
            }
            (Json::Object(map), _) => Self::Map(Map::Json(map, Shape::Any)),
        }
    }

    /// JSON of which nothing is known.
    pub fn json(json: &'a Json) -> Self {
        Self::read(json, &Type::Dyn)
    }

    /// Text that was made.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Made(text.into()))
    }

    /// A list that was made.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Made(items.into()))
    }

    /// A map that was made; of equal keys the last one counts.
    pub fn map(entries: Vec<(Arc<str>, Value<'a>)>) -> Self {
        let mut unique: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let known = unique
                .iter_mut()
                .find(|(own, _)| own.as_str() == Some(&*key));
            match known {
                Some(entry) => entry.1 = value,
                None => unique.push((Value::text(key), value)),
            }
        }
        Self::Map(Map::Made(unique.into()))
    }

    /// An optional with or without a value.
    pub fn optional(value: Option<Value<'a>>) -> Self {
        Self::Optional(value.map(Arc::new))
    }

    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Whether this is the value of its type that is left out: false, zero, empty.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null
            | Self::Bool(false)
            | Self::Int(0)
            | Self::Uint(0)
            | Self::Optional(None) => true,
            Self::Double(number) => *number == 0.0,
            Self::String(text) => text.as_str().is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.len() == 0,
            Self::Map(map) => map.len() == 0,
            Self::Duration(span) => span.is_zero(),
            _ => false,
        }
    }

    /// cel-go's name of the type, in errors and for `type()`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
        }
    }

    /// Equality as CEL has it: numbers by value, sets without order.
    pub(crate) fn equals(&self, other: &Value<'a>, budget: &mut Budget) -> Result<bool, Error> {
        budget.spend(1)?;
        Ok(match (self, other) {
            (Self::String(a), Self::String(b)) => {
                let (a, b) = (a.as_str(), b.as_str());
                budget.spend_text(a.len().min(b.len()))?;
                a == b
            }
            (Self::List(a), Self::List(b)) => return a.equals(b, budget),
            (Self::Map(a), Self::Map(b)) => return a.equals(b, budget),
            (Self::Bytes(a), Self::Bytes(b)) => {
                budget.spend_text(a.len().min(b.len()))?;
                a == b
            }
            (Self::Optional(Some(a)), Self::Optional(Some(b))) => return a.equals(b, budget),
            (Self::Optional(a), Self::Optional(b)) => a.is_none() && b.is_none(),
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Type(a), Self::Type(b)) | (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.compare(b) == Ordering::Equal,
            (a, b) => compare_numbers(a, b) == Some(Ordering::Equal),
        })
    }
}

/// Order of two numbers of any type; `None` if one is no number or not a number.
pub(crate) fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    #[allow(clippy::cast_precision_loss)] // As in cel-go: a double decides with its precision.
    let float = |value: &Value<'_>| match value {
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        _ => None,
    };
    let whole = |value: &Value<'_>| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => float(a)?.partial_cmp(&float(b)?),
    }
}

fn read_text<'a>(text: &'a str, of: &Type) -> Value<'a> {
    let read = match of {
        Type::Timestamp => temporal::timestamp(text).map(Value::Timestamp),
        Type::Duration => temporal::duration(text).map(Value::Duration),
        Type::Bytes => BASE64
            .decode(text)
            .ok()
            .map(|bytes| Value::Bytes(bytes.into())),
        _ => None,
    };
    // The schema's format refuses other texts by itself.
    read.unwrap_or(Value::String(Text::Borrowed(text)))
}

impl<'a> Shape<'a> {
    fn item(self) -> &'a Type {
        match self {
            Self::Of(of) | Self::Set(of) => of,
            Self::Any | Self::Object(_) => &Type::Dyn,
        }
    }

    fn field(self, json: &str) -> &'a Type {
        match self {
            Self::Object(object) => object.by_json(json).map_or(&Type::Dyn, |field| &field.of),
            shape => shape.item(),
        }
    }
}

impl<'a> List<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Json(items, shape) => Some(Value::read(items.get(index)?, shape.item())),
            Self::Made(items) => items.get(index).cloned(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn contains(&self, item: &Value<'a>, budget: &mut Budget) -> Result<bool, Error> {
        for other in self.iter() {
            if other.equals(item, budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Error> {
        if self.len() != other.len() {
            return Ok(false);
        }
        let set = |list: &Self| matches!(list, Self::Json(_, Shape::Set(_)));
        if set(self) || set(other) {
            for item in self.iter() {
                if !other.contains(&item, budget)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for (a, b) in self.iter().zip(other.iter()) {
            if !a.equals(&b, budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<'a> Map<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(map, _) => map.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// The value of a field by the name that expressions use.
    pub(crate) fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(map, Shape::Object(object)) => {
                let field = object.field(name)?;
                Some(Value::read(map.get(&*field.json)?, &field.of))
            }
            Self::Json(map, shape) => Some(Value::read(map.get(name)?, shape.item())),
            Self::Made(entries) => {
                let found = entries.iter().find(|(key, _)| key.as_str() == Some(name));
                found.map(|(_, value)| value.clone())
            }
        }
    }

    /// The value of a key.
    pub(crate) fn get(
        &self,
        key: &Value<'a>,
        budget: &mut Budget,
    ) -> Result<Option<Value<'a>>, Error> {
        if let Self::Json(map, shape) = self {
            let Some(name) = key.as_str() else {
                return Ok(None);
            };
            return Ok(map
                .get(name)
                .map(|json| Value::read(json, shape.field(name))));
        }
        for (known, value) in self.entries() {
            if known.equals(key, budget)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    pub(crate) fn entries(&self) -> Box<dyn Iterator<Item = (Value<'a>, Value<'a>)> + '_> {
        match self {
            Self::Json(map, shape) => Box::new(map.iter().map(|(key, json)| {
                let value = Value::read(json, shape.field(key));
                (Value::String(Text::Borrowed(key)), value)
            })),
            Self::Made(entries) => Box::new(entries.iter().cloned()),
        }
    }

    fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Error> {
        if self.len() != other.len() {
            return Ok(false);
        }
        for (key, value) in self.entries() {
            match other.get(&key, budget)? {
                Some(found) if found.equals(&value, budget)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}
