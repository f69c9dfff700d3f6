//! Values of an AuthorizationPolicy: `*`, `prefix*`, `*suffix`, path templates, or the text itself.

use std::sync::Arc;

use routing::model::{Test, TextTest};

use super::http::escape;

/// How a value is compared.
pub(super) enum Pattern {
    Present,
    Exact(String),
    Prefix(String),
    Suffix(String),
    Regex(String),
}

/// `*`, `prefix*`, `*suffix`, or the text itself.
pub(super) fn text(value: &str) -> Pattern {
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        _ if value == "*" => Pattern::Present,
        (Some(suffix), _) => Pattern::Suffix(suffix.to_owned()),
        (None, Some(prefix)) => Pattern::Prefix(prefix.to_owned()),
        (None, None) => Pattern::Exact(value.to_owned()),
    }
}

/// The same as an expression.
pub(super) fn glob(value: &str) -> String {
    match text(value) {
        Pattern::Present => "[^/]+".to_owned(),
        Pattern::Exact(text) => escape(&text),
        Pattern::Prefix(text) => format!("{}[^/]*", escape(&text)),
        Pattern::Suffix(text) => format!("[^/]*{}", escape(&text)),
        Pattern::Regex(text) => text,
    }
}

/// A path may have `{*}` for one element and `{**}` for any number.
pub(super) fn path(value: &str) -> Pattern {
    if !value.contains("{*}") && !value.contains("{**}") {
        return text(value);
    }
    let escaped = escape(value);
    let any = escaped.replace(&escape("{**}"), ".*");
    Pattern::Regex(any.replace(&escape("{*}"), "[^/]+"))
}

pub(super) fn texts(values: &[&str], ignore_case: bool) -> Test {
    combine(values.iter().map(|value| text(value)), ignore_case)
}

/// One test that holds if one of these does.
pub(super) fn combine(patterns: impl Iterator<Item = Pattern>, ignore_case: bool) -> Test {
    let mut patterns: Vec<_> = patterns.collect();
    if patterns
        .iter()
        .any(|pattern| matches!(pattern, Pattern::Present))
    {
        return Test::Present;
    }
    let one = |how, value: String| Test::Text {
        how,
        value: value.into(),
        ignore_case,
    };
    let is_exact = |pattern: &Pattern| matches!(pattern, Pattern::Exact(_));
    if patterns.iter().all(is_exact) && !ignore_case {
        let exact = patterns.into_iter().filter_map(|pattern| match pattern {
            Pattern::Exact(text) => Some(Arc::from(text)),
            _ => None,
        });
        return Test::In(exact.collect());
    }
    if patterns.len() == 1
        && let Some(only) = patterns.pop()
    {
        return match only {
            Pattern::Exact(text) => one(TextTest::Exact, text),
            Pattern::Prefix(text) => one(TextTest::Prefix, text),
            Pattern::Suffix(text) => one(TextTest::Suffix, text),
            Pattern::Regex(text) => one(TextTest::Regex, text),
            Pattern::Present => Test::Present,
        };
    }
    let alternatives = patterns.into_iter().map(|pattern| match pattern {
        Pattern::Exact(text) => escape(&text),
        Pattern::Prefix(text) => format!("{}.*", escape(&text)),
        Pattern::Suffix(text) => format!(".*{}", escape(&text)),
        Pattern::Regex(text) => text,
        Pattern::Present => ".*".to_owned(),
    });
    let all: Vec<_> = alternatives.collect();
    one(TextTest::Regex, all.join("|"))
}

/// Whether a text passes a test, for what is decided when the policy is read.
pub(super) fn holds(test: &Test, value: &str) -> bool {
    match test {
        Test::Present => true,
        Test::In(all) => all.iter().any(|one| **one == *value),
        Test::Text {
            how, value: wanted, ..
        } => match how {
            TextTest::Exact => value == &**wanted,
            TextTest::Prefix | TextTest::ElementPrefix => value.starts_with(&**wanted),
            TextTest::Suffix => value.ends_with(&**wanted),
            TextTest::Contains => value.contains(&**wanted),
            TextTest::Regex => routing::regex::compile(wanted)
                .is_ok_and(|expression| expression.is_match(value.as_bytes())),
        },
        Test::Network(_) | Test::Range { .. } => false,
    }
}
