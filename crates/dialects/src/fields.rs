//! Reading a user's JSON so that nothing is passed over: what nobody asked for is reported.
//!
//! A translator takes what it translates out of a [`Fields`]; when the `Fields` ends, each of its
//! keys that was not asked for becomes a diagnostic, and so does a value of the wrong type. So a
//! field of a newer release, a misspelt one and one that we do not serve are all told about.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Effect};

/// Where findings about one object are gathered.
#[derive(Debug, Default)]
pub(crate) struct Findings(RefCell<Vec<Diagnostic>>);

impl Findings {
    pub(crate) fn say(
        &self,
        effect: Effect,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) {
        let finding = Diagnostic::new(effect, reason, field, message);
        self.0.borrow_mut().push(finding);
    }

    /// This field is not served as written.
    pub(crate) fn refuse(&self, reason: &'static str, field: &str, message: impl Into<String>) {
        self.say(Effect::Refused, reason, field, message);
    }

    /// Sorted, each once.
    pub(crate) fn take(&self) -> Vec<Diagnostic> {
        let mut all = self.0.take();
        all.sort();
        all.dedup();
        all
    }
}

/// One JSON object inside a user's object.
pub(crate) struct Fields<'v> {
    map: &'v Map<String, Value>,
    path: String,
    findings: &'v Findings,
    asked: RefCell<BTreeSet<&'v str>>,
}

/// Reads what is told about elsewhere: what is wrong with it is not said again.
pub(crate) fn quietly<T>(value: &Value, read: impl FnOnce(&Fields<'_>) -> T) -> T {
    let findings = Findings::default();
    let fields = Fields::new(value, String::new(), &findings);
    fields.pass_over();
    read(&fields)
}

impl<'v> Fields<'v> {
    /// `value` at `path` (for example `spec`). What is no JSON object is reported and read as an
    /// empty one; what is null is empty.
    pub(crate) fn new(value: &'v Value, path: String, findings: &'v Findings) -> Self {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let map = match value {
            Value::Object(map) => map,
            Value::Null => &EMPTY,
            other => {
                findings.refuse("FieldInvalid", &path, wrong("an object", other));
                &EMPTY
            }
        };
        Self {
            map,
            path,
            findings,
            asked: RefCell::default(),
        }
    }

    pub(crate) fn findings(&self) -> &'v Findings {
        self.findings
    }

    /// JSON path of this object.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// JSON path of a field of it.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Refuses a field of this object.
    pub(crate) fn refuse(&self, key: &str, reason: &'static str, message: impl Into<String>) {
        self.findings.refuse(reason, &self.at(key), message);
    }

    /// Whether there is such a field; does not count as asking for it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// The keys that are there.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'v str> + use<'v> {
        self.map.keys().map(String::as_str)
    }

    /// The value as it is; everything in it counts as asked for.
    pub(crate) fn raw(&self, key: &str) -> Option<&'v Value> {
        let (key, value) = self.map.get_key_value(key)?;
        self.asked.borrow_mut().insert(key);
        (!value.is_null()).then_some(value)
    }

    /// The value as it is, which may be wrapped as in protocol buffers: `{value: 1}` is 1.
    pub(crate) fn unwrapped(&self, key: &str) -> Option<&'v Value> {
        let value = self.raw(key)?;
        if value.get("value").is_none() {
            return Some(value);
        }
        Fields::new(value, self.at(key), self.findings).raw("value")
    }

    /// All of this object, for joining it with another. Nothing counts as asked for.
    pub(crate) fn whole(&self) -> Value {
        Value::Object(self.map.clone())
    }

    /// A field that changes nothing that is served, whatever it says.
    pub(crate) fn ignore(&self, key: &str) {
        self.raw(key);
    }

    /// A field that is not served: reported, if it is there, with what to do instead.
    pub(crate) fn unsupported(&self, key: &str, remedy: &str) {
        if self.raw(key).is_some() {
            let message = format!("{} is not supported; {remedy}", self.at(key));
            self.refuse(key, "FieldNotSupported", message);
        }
    }

    /// All fields that were not asked for yet are passed over: they belong to something that was
    /// refused as a whole.
    pub(crate) fn pass_over(&self) {
        self.asked.borrow_mut().extend(self.keys());
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.raw(key)?;
        let typed = read(value);
        if typed.is_none() {
            self.refuse(key, "FieldInvalid", wrong(expected, value));
        }
        typed
    }

    pub(crate) fn str(&self, key: &str) -> Option<&'v str> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A string that is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&'v str> {
        self.str(key).filter(|text| !text.is_empty())
    }

    pub(crate) fn bool(&self, key: &str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn int(&self, key: &str) -> Option<i64> {
        self.typed(key, "a whole number", Value::as_i64)
    }

    /// A whole number that fits into `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        self.typed(key, "a whole number in range", |value| {
            T::try_from(value.as_i64()?).ok()
        })
    }

    pub(crate) fn float(&self, key: &str) -> Option<f64> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A number or the same as text, as YAML's authors often write it.
    pub(crate) fn loose(&self, key: &str) -> Option<String> {
        self.typed(key, "a string or a number", |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        })
    }

    /// A value that `parse` reads out of a string; what it says of a bad one is reported.
    pub(crate) fn parse<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.str(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(key, "FieldInvalid", format!("{}: {error}", self.at(key)));
                None
            }
        }
    }

    /// A nested object.
    pub(crate) fn object(&self, key: &str) -> Option<Fields<'v>> {
        let value = self.raw(key)?;
        Some(Fields::new(value, self.at(key), self.findings))
    }

    /// The objects of a list, each with its path.
    pub(crate) fn objects(&self, key: &str) -> Vec<Fields<'v>> {
        let items = self.list(key).into_iter().enumerate();
        items
            .map(|(at, item)| Fields::new(item, format!("{}[{at}]", self.at(key)), self.findings))
            .collect()
    }

    /// The values of a list as they are.
    pub(crate) fn list(&self, key: &str) -> Vec<&'v Value> {
        let list = self.typed(key, "a list", Value::as_array);
        list.map_or_else(Vec::new, |list| list.iter().collect())
    }

    /// The strings of a list; others are reported.
    pub(crate) fn strings(&self, key: &str) -> Vec<&'v str> {
        let mut strings = Vec::new();
        for (at, item) in self.list(key).into_iter().enumerate() {
            match item.as_str() {
                Some(text) => strings.push(text),
                None => {
                    let field = format!("{}[{at}]", self.at(key));
                    self.findings
                        .refuse("FieldInvalid", &field, wrong("a string", item));
                }
            }
        }
        strings
    }

    /// A map of strings, in the order of its keys; other values are reported.
    pub(crate) fn string_map(&self, key: &str) -> Vec<(&'v str, &'v str)> {
        let map = self.typed(key, "an object", Value::as_object);
        let mut pairs = Vec::new();
        for (name, value) in map.into_iter().flatten() {
            match value.as_str() {
                Some(text) => pairs.push((name.as_str(), text)),
                None => {
                    let field = format!("{}.{name}", self.at(key));
                    self.findings
                        .refuse("FieldInvalid", &field, wrong("a string", value));
                }
            }
        }
        pairs
    }
}

impl Drop for Fields<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for (key, value) in self.map {
            if !asked.contains(key.as_str()) && !value.is_null() {
                let message = format!("{} is not known here and changes nothing", self.at(key));
                self.findings
                    .refuse("FieldNotSupported", &self.at(key), message);
            }
        }
    }
}

fn wrong(expected: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("must be {expected}, is {found}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(value: &Value, read: impl FnOnce(&Fields<'_>)) -> Vec<(String, String)> {
        let findings = Findings::default();
        let fields = Fields::new(value, "spec".to_owned(), &findings);
        read(&fields);
        drop(fields);
        let all = findings.take().into_iter();
        all.map(|one| (one.field, one.message)).collect()
    }

    #[test]
    fn what_nobody_asked_for_is_told() {
        let value = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [{"f": 1}, {"g": 2}], "n": null});
        let found = told(&value, |fields| {
            assert_eq!(fields.int("a"), Some(1));
            let inner = fields.object("b").expect("b is there");
            assert_eq!(inner.int("c"), Some(1));
            drop(inner);
            for item in fields.objects("e") {
                item.int("f");
            }
        });
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["spec.b.d", "spec.e[1].g"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_and_left_out() {
        let value = json!({"a": "x", "b": [1, "y"], "c": {"k": 1}, "d": 70_000, "e": "soon"});
        let found = told(&value, |fields| {
            assert_eq!(fields.bool("a"), None);
            assert_eq!(fields.strings("b"), ["y"]);
            assert_eq!(fields.string_map("c"), []);
            assert_eq!(fields.number::<u16>("d"), None);
            let parsed: Option<()> = fields.parse("e", |_| Err("no such time".to_owned()));
            assert_eq!(parsed, None);
            assert_eq!(fields.str("missing"), None);
        });
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            ["spec.a", "spec.b[0]", "spec.c.k", "spec.d", "spec.e"]
        );
        assert_eq!(found[0].1, "must be true or false, is a string");
    }
}
