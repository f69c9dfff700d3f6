//! Labels of requests (`http.request.header.NAME`, …) and conditions on parts of requests.

use std::sync::Arc;

use routing::model::{LimitKey, Predicate, Subject, Test, TextTest};

use crate::fields::Fields;
use crate::shared::headers;

/// A condition that cannot be read; it was reported.
#[derive(Debug)]
pub(super) struct Unreadable;

/// The part of a request that a label is.
fn subject(label: &str) -> Option<Subject> {
    if let Some(name) = label.strip_prefix("http.request.header.") {
        return headers::name(name).ok().map(Subject::Header);
    }
    match label {
        "http.method" => Some(Subject::Method),
        "http.target" => Some(Subject::Path),
        "http.host" => Some(Subject::Host),
        "http.scheme" => Some(Subject::Scheme),
        _ => None,
    }
}

/// The part of a request that has a bucket of its own.
pub(super) fn key(label: &str) -> Option<LimitKey> {
    match subject(label)? {
        Subject::Header(name) => Some(LimitKey::Header(name)),
        Subject::Host => Some(LimitKey::Host),
        Subject::Path => Some(LimitKey::Path),
        _ => None,
    }
}

fn ask(
    fields: &Fields<'_>,
    label: &str,
    test: Test,
    negate: bool,
) -> Result<Predicate, Unreadable> {
    let Some(subject) = subject(label) else {
        let message = format!(
            "{label:?} is not known; http.request.header.NAME, http.method, http.target, http.host \
             and http.scheme are"
        );
        fields
            .findings()
            .refuse("LabelUnknown", fields.path(), message);
        return Err(Unreadable);
    };
    Ok(Predicate {
        subject,
        test,
        negate,
        missing_is_empty: false,
    })
}

fn text(how: TextTest, value: &str) -> Test {
    Test::Text {
        how,
        value: value.into(),
        ignore_case: false,
    }
}

fn regex(fields: &Fields<'_>, key: &str, value: &str) -> Result<Test, Unreadable> {
    routing::regex::compile(value).map_err(|error| {
        fields.refuse(key, "RegexInvalid", format!("{value:?}: {error}"));
        Unreadable
    })?;
    Ok(text(TextTest::Regex, value))
}

/// `label_matcher`: all of what it says.
pub(super) fn matcher(fields: &Fields<'_>) -> Result<Vec<Predicate>, Unreadable> {
    let mut all = Vec::new();
    let mut result = Ok(());
    for (label, value) in fields.string_map("match_labels") {
        match ask(fields, label, text(TextTest::Exact, value), false) {
            Ok(predicate) => all.push(predicate),
            Err(error) => result = Err(error),
        }
    }
    for entry in fields.objects("match_list") {
        match listed(&entry) {
            Ok(predicate) => all.push(predicate),
            Err(error) => result = Err(error),
        }
    }
    if let Some(inner) = fields.object("expression") {
        match expression(&inner) {
            Ok(predicates) => all.extend(predicates),
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| all)
}

fn listed(entry: &Fields<'_>) -> Result<Predicate, Unreadable> {
    let label = entry.text("key").unwrap_or_default();
    let values: Arc<[Arc<str>]> = entry.strings("values").into_iter().map(Arc::from).collect();
    let (test, negate) = match entry.text("operator") {
        Some("In") => (Test::In(values), false),
        Some("NotIn") => (Test::In(values), true),
        Some("Exists") => (Test::Present, false),
        Some("DoesNotExist") => (Test::Present, true),
        other => {
            let written = other.unwrap_or_default();
            let message = format!("{written:?} is not In, NotIn, Exists or DoesNotExist");
            entry.refuse("operator", "OperatorUnknown", message);
            return Err(Unreadable);
        }
    };
    ask(entry, label, test, negate)
}

/// Conditions of which all must hold; a choice of several cannot be said.
fn expression(fields: &Fields<'_>) -> Result<Vec<Predicate>, Unreadable> {
    let mut all = Vec::new();
    if let Some(of) = fields.object("all") {
        for inner in of.objects("of") {
            all.extend(expression(&inner)?);
        }
    }
    if let Some(inner) = fields.object("not") {
        let mut negated = expression(&inner)?;
        match negated.as_mut_slice() {
            [only] => only.negate = !only.negate,
            _ => {
                fields.refuse(
                    "not",
                    "FieldNotSupported",
                    "only one condition can be negated",
                );
                return Err(Unreadable);
            }
        }
        all.extend(negated);
    }
    if let Some(equals) = fields.object("label_equals") {
        let label = equals.text("label").unwrap_or_default();
        let value = equals.str("value").unwrap_or_default();
        all.push(ask(&equals, label, text(TextTest::Exact, value), false)?);
    }
    if let Some(label) = fields.text("label_exists") {
        all.push(ask(fields, label, Test::Present, false)?);
    }
    if let Some(matches) = fields.object("label_matches") {
        let label = matches.text("label").unwrap_or_default();
        let test = regex(&matches, "regex", matches.str("regex").unwrap_or_default())?;
        all.push(ask(&matches, label, test, false)?);
    }
    if fields.raw("any").is_some() {
        let message = "write a workload for each of the alternatives";
        fields.refuse("any", "FieldNotSupported", message);
        return Err(Unreadable);
    }
    Ok(all)
}

/// One entry of `header_match` or `query_match`.
pub(super) fn part(
    entry: &Fields<'_>,
    subject: impl Fn(Arc<str>) -> Subject,
) -> Result<Predicate, Unreadable> {
    let name = entry.text("name").unwrap_or_default();
    let name = headers::name(name).map_err(|error| {
        entry.refuse("name", "NameInvalid", error);
        Unreadable
    })?;
    let nested = entry.object("string_match");
    let mut test = compared(entry, "_match")?;
    if let Some(nested) = &nested {
        test = test.or(compared(nested, "")?);
    }
    let present = entry.bool("present_match");
    let negate = entry.bool("invert_match").unwrap_or(false) != (present == Some(false));
    let test = test
        .or_else(|| present.map(|_| Test::Present))
        .unwrap_or(Test::Present);
    Ok(Predicate {
        subject: subject(name),
        test,
        negate,
        missing_is_empty: false,
    })
}

fn compared(fields: &Fields<'_>, suffix: &str) -> Result<Option<Test>, Unreadable> {
    let ignore_case = suffix.is_empty() && fields.bool("ignore_case").unwrap_or(false);
    let hows = [
        ("exact", TextTest::Exact),
        ("prefix", TextTest::Prefix),
        ("suffix", TextTest::Suffix),
        ("contains", TextTest::Contains),
    ];
    for (key, how) in hows {
        if let Some(value) = fields.str(&format!("{key}{suffix}")) {
            return Ok(Some(Test::Text {
                how,
                value: value.into(),
                ignore_case,
            }));
        }
    }
    let key = format!("regex{suffix}");
    if let Some(value) = fields.str(&key) {
        return regex(fields, &key, value).map(Some);
    }
    let key = format!("safe_regex{suffix}");
    if let Some(nested) = fields.object(&key) {
        return regex(&nested, "regex", nested.str("regex").unwrap_or_default()).map(Some);
    }
    Ok(None)
}
