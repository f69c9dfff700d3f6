//! Conditions of a route as Gateway API has them.

use routing::model::{Match, PathMatch, Predicate, Subject, Test, TextMatch};
use serde_json::{Value, json};

/// The API's alternatives; empty means every request.
pub(super) fn matches(all: &[Match]) -> Result<Vec<Value>, String> {
    all.iter().map(one).collect()
}

fn one(one: &Match) -> Result<Value, String> {
    if let Some(other) = one.other.iter().find(|it| !is_plain_http(it)) {
        return Err(format!(
            "Gateway API has no condition on {:?} ({:?})",
            other.subject, other.test
        ));
    }
    let mut written = json!({});
    if let Some(path) = &one.path {
        written["path"] = self::path(path);
    }
    if let Some(method) = &one.method {
        written["method"] = method.as_ref().into();
    }
    let headers = one.headers.iter().map(|it| text(&it.name, &it.value));
    let headers: Vec<_> = headers.collect();
    if !headers.is_empty() {
        written["headers"] = json!(headers);
    }
    let query: Vec<_> = one
        .query
        .iter()
        .map(|it| text(&it.name, &it.value))
        .collect();
    if !query.is_empty() {
        written["queryParams"] = json!(query);
    }
    Ok(written)
}

/// What the listener that is written serves anyway.
fn is_plain_http(one: &Predicate) -> bool {
    let is_http = matches!(&one.test, Test::Text { value, .. } if &**value == "http");
    one.subject == Subject::Scheme && is_http && !one.negate
}

fn path(path: &PathMatch) -> Value {
    match path {
        PathMatch::Exact(text) => json!({"type": "Exact", "value": text}),
        PathMatch::ElementPrefix(text) => json!({"type": "PathPrefix", "value": text}),
        PathMatch::Regex(text) => json!({"type": "RegularExpression", "value": text}),
        PathMatch::StringPrefix(text) if is_everything(text) => {
            json!({"type": "PathPrefix", "value": "/"})
        }
        // A prefix of characters has no other spelling.
        PathMatch::StringPrefix(text) => {
            json!({"type": "RegularExpression", "value": format!("{}.*", escaped(text))})
        }
    }
}

pub(super) fn is_everything(prefix: &str) -> bool {
    prefix.is_empty() || prefix == "/"
}

/// The text as an expression that finds just it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

fn text(name: &str, value: &TextMatch) -> Value {
    let (type_, value) = match value {
        TextMatch::Exact(value) => ("Exact", value),
        TextMatch::Regex(value) => ("RegularExpression", value),
    };
    json!({"type": type_, "name": name, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_characters_becomes_an_expression_that_finds_just_it() {
        let written = path(&PathMatch::StringPrefix("/a.b(c".into()));
        let expression = written["value"].as_str().expect("a value");
        let compiled = routing::regex::compile(expression).expect("it compiles");
        assert!(compiled.is_match(b"/a.b(cd/e"));
        assert!(!compiled.is_match(b"/axb(c"));
    }
}
