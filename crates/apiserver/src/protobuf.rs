//! Protobuf bodies of built-in kinds, read into JSON.
//!
//! Generated Go clients, and so parts of `kubectl`, send protobuf for built-in kinds and have no
//! fallback; answers may stay JSON. One table of all messages, generated from the Go types
//! (`cargo run -p xtask -- protobuf-pack`), drives one reader. A field that Go would leave out of
//! its JSON is left out here too.

#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use wire::{Field, Reader};

/// Media type of such bodies.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
/// Deeper messages are refused; no kind is deeper than this.
const DEPTH: usize = 64;

static MESSAGES: &[u8] = include_bytes!("protobuf/messages.json.z");

// Flags of a field; the generator has the same.
const REPEATED: u64 = 1;
const MAP: u64 = 2;
const POINTER: u64 = 4;
const OMIT_EMPTY: u64 = 8;
const INLINE: u64 = 16;

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the body does not begin with the four bytes of Kubernetes' protobuf encoding")]
    Magic,
    #[error("the protobuf message is cut off or malformed")]
    Malformed,
    #[error("the protobuf message is nested too deeply")]
    Depth,
    #[error("{0} has no protobuf form on this server, send JSON")]
    Unknown(String),
}

type Messages = HashMap<String, HashMap<u32, Entry>>;

/// One field of a message.
#[derive(Debug)]
struct Entry {
    json: String,
    kind: Kind,
    flags: u64,
}

#[derive(Debug)]
enum Kind {
    Text,
    Flag,
    Number,
    Double,
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// JSON inside a message of one field.
    Raw,
    /// A message whose only field is a list of texts.
    Texts,
    /// A schema in field 1 or a list of schemas in field 2.
    SchemaOrArray,
    /// A flag in field 1 or a schema in field 2.
    SchemaOrBool,
    /// A schema in field 1 or a list of texts in field 2.
    SchemaOrTexts,
    Message(String),
    Skip,
}

fn messages() -> &'static Messages {
    static PARSED: OnceLock<Messages> = OnceLock::new();
    PARSED.get_or_init(|| {
        let mut text = String::new();
        let read = flate2::read::ZlibDecoder::new(MESSAGES).read_to_string(&mut text);
        let table: HashMap<String, Vec<(u32, String, String, u64)>> =
            // The data is compiled in and a test reads it.
            read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default();
        let entry = |(number, json, kind, flags): (u32, String, String, u64)| {
            (
                number,
                Entry {
                    json,
                    kind: kind_of(&kind),
                    flags,
                },
            )
        };
        table
            .into_iter()
            .map(|(name, fields)| (name, fields.into_iter().map(entry).collect()))
            .collect()
    })
}

fn kind_of(text: &str) -> Kind {
    match text {
        "string" => Kind::Text,
        "bool" => Kind::Flag,
        "int" => Kind::Number,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "time" => Kind::Time,
        "micro-time" => Kind::MicroTime,
        "duration" => Kind::Duration,
        "quantity" => Kind::Quantity,
        "int-or-string" => Kind::IntOrString,
        "raw" => Kind::Raw,
        "list:string" => Kind::Texts,
        "schema-or-array" => Kind::SchemaOrArray,
        "schema-or-bool" => Kind::SchemaOrBool,
        "schema-or-strings" => Kind::SchemaOrTexts,
        "skip" => Kind::Skip,
        name => Kind::Message(name.to_owned()),
    }
}

/// Reads a body. `definition` is the type's definition, such as `io.k8s.api.core.v1.Pod`.
pub(crate) fn parse(definition: &str, body: &[u8]) -> Result<Value, Error> {
    let body = body.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let (mut api_version, mut kind, mut raw): (String, String, &[u8]) = Default::default();
    // runtime.Unknown: type in field 1, the object in field 2.
    for field in Reader::new(body) {
        match field? {
            (1, Field::Bytes(meta)) => {
                for field in Reader::new(meta) {
                    match field? {
                        (1, Field::Bytes(text)) => api_version = utf8(text)?,
                        (2, Field::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(object)) => raw = object,
            _ => {}
        }
    }
    let name = message_name(definition).ok_or_else(|| Error::Unknown(definition.to_owned()))?;
    let mut object = message(&name, raw, 0)?;
    for (field, text) in [("apiVersion", api_version), ("kind", kind)] {
        if !text.is_empty() {
            object.insert(field.into(), text.into());
        }
    }
    Ok(Value::Object(object))
}

/// Packages of definitions; what follows names the message.
const PACKAGES: [&str; 4] = [
    "io.k8s.api.",
    "io.k8s.apimachinery.pkg.apis.",
    "io.k8s.apiextensions-apiserver.pkg.apis.",
    "io.k8s.kube-aggregator.pkg.apis.",
];

/// `io.k8s.api.core.v1.Pod` → `core/v1.Pod`.
fn message_name(definition: &str) -> Option<String> {
    let rest = PACKAGES
        .iter()
        .find_map(|package| definition.strip_prefix(package))?;
    let name = rest.replacen('.', "/", 1);
    messages().contains_key(&name).then_some(name)
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Error> {
    if depth > DEPTH {
        return Err(Error::Depth);
    }
    let fields = messages()
        .get(name)
        .ok_or_else(|| Error::Unknown(name.to_owned()))?;
    let mut object = Map::new();
    for field in Reader::new(bytes) {
        let (number, field) = field?;
        // Fields of newer clients are unknown fields: they are dropped, as pruning would.
        let Some(entry) = fields.get(&number) else {
            continue;
        };
        if entry.flags & INLINE != 0 {
            if let Kind::Message(name) = &entry.kind {
                object.append(&mut message(name, field.bytes()?, depth + 1)?);
            }
        } else if entry.flags & MAP != 0 {
            let (key, value) = map_entry(&entry.kind, field.bytes()?, depth)?;
            let map = object
                .entry(entry.json.clone())
                .or_insert_with(|| json!({}));
            map[key] = value;
        } else if entry.flags & REPEATED != 0 {
            let value = value(&entry.kind, field, depth)?;
            match object
                .entry(entry.json.clone())
                .or_insert_with(|| json!([]))
            {
                Value::Array(list) => list.push(value),
                _ => return Err(Error::Malformed),
            }
        } else {
            let value = value(&entry.kind, field, depth)?;
            if keep(entry, &value) {
                object.insert(entry.json.clone(), value);
            }
        }
    }
    Ok(object)
}

/// Go's protobuf writes zero values of fields that are no pointers; its JSON does not if they may
/// be omitted. Empty structs mean "not set" unless they are behind a pointer.
fn keep(entry: &Entry, value: &Value) -> bool {
    if value.is_null() {
        return false;
    }
    if entry.flags & POINTER != 0 {
        return true;
    }
    match value {
        Value::Object(map) => !map.is_empty(),
        _ if entry.flags & OMIT_EMPTY == 0 => true,
        Value::String(text) => !text.is_empty(),
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

fn map_entry(kind: &Kind, bytes: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let mut key = String::new();
    // A missing value is the zero value, which for every kind of value in maps is empty text.
    let mut found = Value::String(String::new());
    for field in Reader::new(bytes) {
        match field? {
            (1, Field::Bytes(text)) => key = utf8(text)?,
            (2, field) => found = value(kind, field, depth)?,
            _ => {}
        }
    }
    Ok((key, found))
}

fn value(kind: &Kind, field: Field<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match kind {
        Kind::Text => utf8(field.bytes()?)?.into(),
        Kind::Flag => (field.varint()? != 0).into(),
        Kind::Number => signed(field.varint()?).into(),
        Kind::Double => match field {
            Field::Fixed64(bits) => f64::from_bits(bits).into(),
            _ => return Err(Error::Malformed),
        },
        Kind::Bytes => STANDARD.encode(field.bytes()?).into(),
        Kind::Time => time(field.bytes()?, false)?,
        Kind::MicroTime => time(field.bytes()?, true)?,
        Kind::Duration => format!("{}ns", signed(first_varint(field.bytes()?, 1)?)).into(),
        Kind::Quantity => first_text(field.bytes()?, 1)?
            .unwrap_or_else(|| "0".into())
            .into(),
        Kind::IntOrString => int_or_string(field.bytes()?)?,
        Kind::Raw => raw(field.bytes()?)?,
        Kind::Texts => texts(field.bytes()?)?,
        Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrTexts => {
            schema_or(kind, field.bytes()?, depth)?
        }
        Kind::Message(name) => Value::Object(message(name, field.bytes()?, depth + 1)?),
        Kind::Skip => Value::Null,
    })
}

/// `seconds` in field 1 and `nanos` in field 2; empty is no time.
fn time(bytes: &[u8], micro: bool) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let seconds = signed(first_varint(bytes, 1)?);
    let nanos = i32::try_from(signed(first_varint(bytes, 2)?)).map_err(|_| Error::Malformed)?;
    let at = Timestamp::new(seconds, nanos).map_err(|_| Error::Malformed)?;
    let format = if micro {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(at.strftime(format).to_string().into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    Ok(match first_varint(bytes, 1)? {
        0 => signed(first_varint(bytes, 2)?).into(),
        _ => first_text(bytes, 3)?.unwrap_or_default().into(),
    })
}

fn raw(bytes: &[u8]) -> Result<Value, Error> {
    for field in Reader::new(bytes) {
        if let (1, Field::Bytes(json)) = field? {
            return serde_json::from_slice(json).map_err(|_| Error::Malformed);
        }
    }
    Ok(Value::Null)
}

fn texts(bytes: &[u8]) -> Result<Value, Error> {
    let mut list = Vec::new();
    for field in Reader::new(bytes) {
        if let (1, Field::Bytes(text)) = field? {
            list.push(Value::String(utf8(text)?));
        }
    }
    Ok(Value::Array(list))
}

/// The unions in schemas of CRDs, whose JSON is one of the two things itself.
fn schema_or(kind: &Kind, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    const SCHEMA: &str = "apiextensions/v1.JSONSchemaProps";
    let schema = |field: Field<'_>| -> Result<Value, Error> {
        Ok(Value::Object(message(SCHEMA, field.bytes()?, depth + 1)?))
    };
    let mut found = Value::Null;
    let mut list = Vec::new();
    for field in Reader::new(bytes) {
        match (kind, field?) {
            // The flag is always written, also beside a schema.
            (Kind::SchemaOrBool, (1, _)) if found.is_object() => {}
            (Kind::SchemaOrBool, (1, field)) => found = (field.varint()? != 0).into(),
            (Kind::SchemaOrTexts, (2, field)) => list.push(utf8(field.bytes()?)?.into()),
            (Kind::SchemaOrArray, (2, field)) => list.push(schema(field)?),
            (_, (1 | 2, field)) => found = schema(field)?,
            _ => {}
        }
    }
    Ok(if list.is_empty() {
        found
    } else {
        Value::Array(list)
    })
}

fn first_varint(bytes: &[u8], wanted: u32) -> Result<u64, Error> {
    for field in Reader::new(bytes) {
        if let (number, Field::Varint(value)) = field?
            && number == wanted
        {
            return Ok(value);
        }
    }
    Ok(0)
}

fn first_text(bytes: &[u8], wanted: u32) -> Result<Option<String>, Error> {
    for field in Reader::new(bytes) {
        if let (number, Field::Bytes(text)) = field?
            && number == wanted
        {
            return utf8(text).map(Some);
        }
    }
    Ok(None)
}

/// Negative numbers are written as 64-bit two's complement.
fn signed(value: u64) -> i64 {
    value.cast_signed()
}

fn utf8(bytes: &[u8]) -> Result<String, Error> {
    std::str::from_utf8(bytes)
        .map(ToOwned::to_owned)
        .map_err(|_| Error::Malformed)
}
