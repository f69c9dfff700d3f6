//! Conditions of a route as Gateway API has them.

use routing::model::{Match, PathMatch, TextMatch};
use serde_json::{Value, json};

/// The API's alternatives, as it will read them; empty means every request. Their scheme is said by
/// listeners.
///
/// # Errors
/// Why they cannot be said.
pub(crate) fn plain(all: &[Match]) -> Result<Vec<Match>, String> {
    let all: Result<Vec<_>, _> = all.iter().map(one).collect();
    let all = all?;
    // Whoever takes every request takes those of the others.
    let takes_all = all.iter().any(|one| *one == Match::default());
    Ok(if takes_all { Vec::new() } else { all })
}

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

fn one(one: &Match) -> Result<Match, String> {
    if let Some(other) = one.other.first() {
        return Err(format!("Gateway API has no condition that {other}"));
    }
    if let Some(method) = one.method.iter().find(|it| !METHODS.contains(&&***it)) {
        return Err(format!("Gateway API does not know the method {method}"));
    }
    let headers: Vec<_> = one.headers.iter().map(|it| &it.name).collect();
    let query: Vec<_> = one.query.iter().map(|it| &it.name).collect();
    for names in [headers, query] {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = names.into_iter().find(|name| !seen.insert((*name).clone())) {
            return Err(format!("Gateway API compares {twice} once"));
        }
    }
    let path = one.path.as_ref().map(path).transpose()?.flatten();
    Ok(Match {
        path,
        other: Vec::new(),
        ..one.clone()
    })
}

/// A match as the API writes it.
pub(super) fn written(one: &Match) -> Value {
    let mut written = json!({});
    if let Some(path) = &one.path {
        let said = match path {
            PathMatch::Exact(text) => Some(("Exact", text)),
            PathMatch::ElementPrefix(text) | PathMatch::StringPrefix(text) => {
                Some(("PathPrefix", text))
            }
            PathMatch::Regex(text) => Some(("RegularExpression", text)),
            // Was refused before.
            PathMatch::Connect => None,
        };
        if let Some((type_, value)) = said {
            written["path"] = json!({"type": type_, "value": value});
        }
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
    written
}

/// `None` is every path.
fn path(path: &PathMatch) -> Result<Option<PathMatch>, String> {
    match path {
        PathMatch::Exact(text) | PathMatch::ElementPrefix(text) => {
            if !is_path(text) {
                return Err(format!("Gateway API takes no path {text:?}"));
            }
            let is_all = matches!(path, PathMatch::ElementPrefix(_)) && is_everything(text);
            Ok((!is_all).then(|| path.clone()))
        }
        PathMatch::Connect => Err("Gateway API has no match for CONNECT requests".to_owned()),
        PathMatch::Regex(text) if matches!(&**text, ".*" | "/.*") => Ok(None),
        PathMatch::Regex(_) => Ok(Some(path.clone())),
        PathMatch::StringPrefix(text) if is_everything(text) => Ok(None),
        // A prefix of characters has no other spelling.
        PathMatch::StringPrefix(text) => {
            let expression = format!("{}.*", escaped(text));
            Ok(Some(PathMatch::Regex(expression.into())))
        }
    }
}

/// What the API's own rules for paths let pass.
fn is_path(text: &str) -> bool {
    let inner = ["//", "/./", "/../", "%2f", "%2F", "#"];
    text.starts_with('/')
        && !inner.iter().any(|part| text.contains(part))
        && !text.ends_with("/..")
        && !text.ends_with("/.")
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
        let Ok(Some(PathMatch::Regex(expression))) = written else {
            panic!("{written:?}")
        };
        let compiled = routing::regex::compile(&expression).expect("it compiles");
        assert!(compiled.is_match(b"/a.b(cd/e"));
        assert!(!compiled.is_match(b"/axb(c"));
    }
}
