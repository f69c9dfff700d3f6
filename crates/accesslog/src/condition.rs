//! Conditions on requests in the Common Expression Language, over the attributes that Envoy names
//! (`response.code >= 400`).
//!
//! An attribute that nobody here has is refused when the condition is read. A condition that
//! fails, for example because a header is not there, does not hold: Envoy's rule.

use std::sync::Arc;

use cel::{Budget, ObjectType, Program, Type, Value};
use serde_json::{Map, Value as Json, json};

use crate::Entry;
use crate::field::address;

/// Bytes of an expression.
const MOST: usize = 4 * 1024;
/// Work that one request is worth.
const WORK: u64 = 20_000;

/// For errors.
const ATTRIBUTES: &str = "attributes are request.{path, url_path, query, host, scheme, method, \
                          headers, referer, useragent, id, protocol, time, duration, size}, \
                          response.{code, size}, source.{address, port}, upstream.address and \
                          connection.mtls";

/// When a line is written.
#[derive(Debug)]
pub struct Condition {
    text: Box<str>,
    program: Program,
    /// The variables that it uses.
    variables: Vec<(&'static str, Type)>,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Condition {}

fn object(fields: &[(&str, Type)]) -> Type {
    let fields = fields
        .iter()
        .map(|(name, of)| ((*name).to_owned(), of.clone()));
    Type::Object(Arc::new(ObjectType::new(fields)))
}

fn variables() -> Vec<(&'static str, Type)> {
    let headers = Type::Map(Arc::new(Type::String), Arc::new(Type::String));
    let request = object(&[
        ("path", Type::String),
        ("url_path", Type::String),
        ("query", Type::String),
        ("host", Type::String),
        ("scheme", Type::String),
        ("method", Type::String),
        ("headers", headers),
        ("referer", Type::String),
        ("useragent", Type::String),
        ("id", Type::String),
        ("protocol", Type::String),
        ("time", Type::Timestamp),
        ("duration", Type::Duration),
        ("size", Type::Int),
    ]);
    let response = object(&[("code", Type::Int), ("size", Type::Int)]);
    let source = object(&[("address", Type::String), ("port", Type::Int)]);
    vec![
        ("request", request),
        ("response", response),
        ("source", source),
        ("upstream", object(&[("address", Type::String)])),
        ("connection", object(&[("mtls", Type::Bool)])),
    ]
}

impl Condition {
    /// # Errors
    /// What is wrong with the expression, and which attributes there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST {
            return Err(format!(
                "it has {} bytes, at most {MOST} are taken",
                text.len()
            ));
        }
        let mut variables = variables();
        let program =
            Program::compile(text, &variables).map_err(|error| format!("{error}; {ATTRIBUTES}"))?;
        if !matches!(program.result(), Type::Bool | Type::Dyn) {
            return Err("it is neither true nor false: write a comparison".to_owned());
        }
        variables.retain(|(name, _)| program.uses(name));
        Ok(Self {
            text: text.into(),
            program,
            variables,
        })
    }

    /// Whether [`Entry::fields`] is looked at.
    pub fn asks_for_fields(&self) -> bool {
        self.variables.iter().any(|(name, _)| *name == "request")
    }

    /// Whether it holds for a request that ended.
    pub fn holds(&self, entry: &Entry<'_>) -> bool {
        let read: Vec<Json> = self
            .variables
            .iter()
            .map(|(name, _)| attributes(name, entry))
            .collect();
        let values: Vec<_> = self
            .variables
            .iter()
            .zip(&read)
            .map(|((name, of), json)| (*name, Value::read(json, of)))
            .collect();
        let held = self.program.evaluate(&values, &mut Budget::new(WORK));
        matches!(held, Ok(Value::Bool(true)))
    }
}

/// The attributes of one variable; what has no value is left out.
fn attributes(variable: &str, entry: &Entry<'_>) -> Json {
    match variable {
        "request" => request(entry),
        "response" => json!({"code": entry.status, "size": entry.bytes}),
        "source" => {
            let (address, port) = address(entry.client);
            let mut source = json!({"address": address});
            if let Some(port) = port {
                source["port"] = port.into();
            }
            source
        }
        "upstream" if entry.endpoint.is_empty() => json!({}),
        "upstream" => json!({"address": entry.endpoint}),
        _ => json!({"mtls": entry.is_mutual}),
    }
}

fn request(entry: &Entry<'_>) -> Json {
    let (path, query) = entry.target.split_once('?').unwrap_or((entry.target, ""));
    let mut headers: Map<String, Json> = Map::new();
    for (name, value) in entry.fields {
        match headers.get_mut(name) {
            Some(Json::String(known)) => {
                known.push(',');
                known.push_str(value);
            }
            _ => drop(headers.insert(name.clone(), value.as_str().into())),
        }
    }
    let id = headers.get("x-request-id").cloned();
    let mut request = json!({
        "path": entry.target,
        "url_path": path,
        "query": query,
        "host": entry.host,
        "scheme": entry.scheme,
        "method": entry.method,
        "protocol": entry.protocol,
        "time": entry.time,
        "duration": format!("{}ns", entry.took.as_nanos()),
        "size": entry.content_length.unwrap_or(0),
        "headers": headers,
    });
    for (key, value) in [("referer", entry.referer), ("useragent", entry.user_agent)] {
        if !value.is_empty() {
            request[key] = value.into();
        }
    }
    if let Some(id) = id {
        request["id"] = id;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn holds(expression: &str) -> bool {
        let fields = [
            ("x-user".to_owned(), "ann".to_owned()),
            ("x-tag".to_owned(), "a".to_owned()),
            ("x-tag".to_owned(), "b".to_owned()),
        ];
        let entry = Entry {
            method: "POST",
            target: "/cart?id=1",
            host: "shop.example.com",
            client: "[2001:db8::1]:99",
            status: 404,
            bytes: 10,
            took: Duration::from_millis(1500),
            time: "2026-01-02T03:04:05Z",
            is_mutual: true,
            fields: &fields,
            scheme: "https",
            ..Entry::default()
        };
        let condition = Condition::parse(expression).expect(expression);
        condition.holds(&entry)
    }

    #[test]
    fn attributes_are_those_of_the_request() {
        for expression in [
            "response.code >= 400 && response.code < 500",
            "request.path == '/cart?id=1' && request.url_path == '/cart' && request.query == 'id=1'",
            "request.method == 'POST' && request.host.startsWith('shop.')",
            "request.headers['x-user'] == 'ann' && request.headers['x-tag'] == 'a,b'",
            "!('x-none' in request.headers)",
            "request.duration > duration('1s')",
            "request.time.getFullYear() == 2026",
            "source.address == '2001:db8::1' && source.port == 99",
            "connection.mtls && request.scheme == 'https'",
            "!has(upstream.address)",
        ] {
            assert!(holds(expression), "{expression}");
        }
    }

    #[test]
    fn what_fails_does_not_hold() {
        assert!(!holds("request.headers['x-none'] == 'a'"));
        assert!(!holds("request.useragent == ''"));
        assert!(!holds("response.code / 0 == 1"));
        assert!(!holds("response.code == 200"));
    }

    #[test]
    fn what_nobody_knows_is_refused_with_what_there_is() {
        for expression in [
            "response.flags == 1",
            "xds.node == 'a'",
            "response.code",
            "a +",
        ] {
            let error = Condition::parse(expression).expect_err(expression);
            assert!(
                error.contains("response.{code") || error.contains("write a comparison"),
                "{error}"
            );
        }
    }
}
