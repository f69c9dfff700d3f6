//! JSON reading that reports duplicate fields.
//!
//! `serde_json` keeps the last of two equal keys and says nothing; `fieldValidation=Strict` must
//! name them. The reader also bounds nesting, because bodies come from the network.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::schema::Path;

/// More duplicates than this are not named.
const MAX_DUPLICATES: usize = 100;

/// A document and the paths of fields that appeared twice (the last one won).
#[derive(Debug, PartialEq)]
pub struct Document {
    /// The JSON.
    pub value: Value,
    /// Paths such as `spec.replicas`.
    pub duplicates: Vec<String>,
}

/// Reads one JSON document. The error text is the parser's, for a `BadRequest`.
pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    let duplicates = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed {
        path: &Path::Root,
        duplicates: &duplicates,
    };
    let value = seed
        .deserialize(&mut reader)
        .map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(Document {
        value,
        duplicates: duplicates.into_inner(),
    })
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    path: &'a Path<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = self.path.index(items.len());
            match access.next_element_seed(Seed {
                path: &path,
                duplicates: self.duplicates,
            })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let path = self.path.field(&key);
            let value = access.next_value_seed(Seed {
                path: &path,
                duplicates: self.duplicates,
            })?;
            if map.contains_key(&key) {
                let mut duplicates = self.duplicates.borrow_mut();
                if duplicates.len() >= MAX_DUPLICATES {
                    return Err(A::Error::custom("too many duplicate fields"));
                }
                duplicates.push(path.to_string());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_named_and_the_last_wins() {
        let document = parse(br#"{"spec":{"a":1,"list":[{"x":1,"x":2}],"a":3}}"#).unwrap();
        assert_eq!(
            document.value,
            json!({"spec": {"a": 3, "list": [{"x": 2}]}})
        );
        assert_eq!(document.duplicates, ["spec.list[0].x", "spec.a"]);
    }

    #[test]
    fn plain_documents_read_as_serde_json_reads_them() {
        let text = br#"{"a":[1,-2,3.5,"x",true,null,18446744073709551615],"b":{}}"#;
        assert_eq!(
            parse(text).unwrap().value,
            serde_json::from_slice::<Value>(text).unwrap()
        );
        assert!(parse(b"{} {}").is_err());
        assert!(parse("[".repeat(10_000).as_bytes()).is_err());
    }
}
