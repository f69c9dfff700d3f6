//! Types of expressions, and the signature language of the function table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type. JSON values are read through it: the same text is a string or a timestamp.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything; checked when it is evaluated.
    Dyn,
    /// The type of `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// 64-bit integer.
    Int,
    /// 64-bit unsigned integer.
    Uint,
    /// Floating point.
    Double,
    /// Text.
    String,
    /// Bytes; base64 in JSON.
    Bytes,
    /// Point in time; RFC 3339 in JSON, or a date.
    Timestamp,
    /// Span of time; Go's notation in JSON.
    Duration,
    /// A list.
    List(Arc<Type>),
    /// A list whose order does not matter for equality.
    Set(Arc<Type>),
    /// A map from texts (or other scalars) to values.
    Map(Arc<Type>, Arc<Type>),
    /// An object with known fields.
    Object(Arc<ObjectType>),
    /// A value that may be missing.
    Optional(Arc<Type>),
    /// A type itself.
    Type,
    /// A value of one of the function libraries.
    Opaque(&'static str),
    /// A type parameter of a signature.
    #[doc(hidden)]
    Param(char),
}

/// An object with known fields.
#[derive(Debug, Default)]
pub struct ObjectType {
    /// Fields by the name that expressions use.
    fields: BTreeMap<String, Field>,
}

/// Objects are equal if they are the same one, as in Kubernetes, where each schema has its own type.
impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    /// Name in JSON.
    pub json: Box<str>,
    /// Type.
    pub of: Type,
}

impl ObjectType {
    /// An object with these fields, by their names in JSON. Fields whose name cannot be escaped
    /// cannot be named in expressions.
    pub fn new(fields: impl IntoIterator<Item = (String, Type)>) -> Self {
        let named = fields.into_iter().filter_map(|(json, of)| {
            let field = Field {
                json: json.as_str().into(),
                of,
            };
            Some((escape(&json)?, field))
        });
        Self {
            fields: named.collect(),
        }
    }

    /// A field by the name that expressions use.
    pub fn field(&self, name: &str) -> Option<&Field> {
        // Words that are reserved only as variables may also be named as they are: `self.namespace`.
        let escaped = || {
            self.fields
                .get(&escape(name).filter(|_| WORDS.contains(&name))?)
        };
        self.fields.get(name).or_else(escaped)
    }

    pub(crate) fn by_json(&self, json: &str) -> Option<&Field> {
        self.fields.get(&escape(json)?)
    }
}

/// Words that Kubernetes escapes as `__word__`.
const WORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Kubernetes' name of a JSON field in expressions.
fn escape(name: &str) -> Option<String> {
    if WORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let first = name.chars().next()?;
    if !first.is_ascii_alphabetic() && first != '_' && first != '.' && first != '-' && first != '/'
    {
        return None;
    }
    let mut out = String::with_capacity(name.len());
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '_' if letters.peek() == Some(&'_') => {
                letters.next();
                out.push_str("__underscores__");
            }
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            '_' => out.push('_'),
            letter if letter.is_ascii_alphanumeric() => out.push(letter),
            _ => return None,
        }
    }
    Some(out)
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) | Self::Set(item) => write!(f, "list({item})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(_) => f.write_str("object"),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Type => f.write_str("type"),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(name) => write!(f, "{name}"),
        }
    }
}

impl Type {
    /// A list of `item`.
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    /// A map from texts to `value`.
    pub fn map(value: Type) -> Self {
        Self::Map(Arc::new(Self::String), Arc::new(value))
    }

    pub(crate) fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// Reads the signature language: `list<A>`, `map<K,V>`, `optional<A>`, names of types.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let inside = |name: &str| {
            text.strip_prefix(name)?
                .strip_prefix('<')?
                .strip_suffix('>')
        };
        if let Some(item) = inside("list") {
            return Some(Self::list(Self::read(item)?));
        }
        if let Some(of) = inside("optional") {
            return Some(Self::optional(Self::read(of)?));
        }
        if let Some(pair) = inside("map") {
            let (key, value) = pair.split_once(',')?;
            return Some(Self::Map(
                Arc::new(Self::read(key)?),
                Arc::new(Self::read(value)?),
            ));
        }
        Some(match text {
            "dyn" => Self::Dyn,
            "null" => Self::Null,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "timestamp" => Self::Timestamp,
            "duration" => Self::Duration,
            "type" => Self::Type,
            "Quantity" => Self::Opaque("kubernetes.Quantity"),
            "IP" => Self::Opaque("net.IP"),
            "CIDR" => Self::Opaque("net.CIDR"),
            "URL" => Self::Opaque("kubernetes.URL"),
            "Semver" => Self::Opaque("kubernetes.Semver"),
            "Format" => Self::Opaque("kubernetes.NamedFormat"),
            "A" | "B" | "K" | "V" => Self::Param(text.chars().next()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn field_names_are_escaped_as_in_kubernetes() {
        assert_eq!(
            escape("foo-bar.x/y").as_deref(),
            Some("foo__dash__bar__dot__x__slash__y")
        );
        assert_eq!(escape("a__b").as_deref(), Some("a__underscores__b"));
        assert_eq!(escape("namespace").as_deref(), Some("__namespace__"));
        assert_eq!(escape("a_b").as_deref(), Some("a_b"));
        assert_eq!(escape("1a"), None);
        assert_eq!(escape("ä"), None);
    }
}
