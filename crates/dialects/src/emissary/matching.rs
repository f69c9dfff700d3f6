//! What a Mapping is for: its group, its matches, and its place among the others of a host.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{
    HeaderMatch, Match, PathMatch, Predicate, QueryMatch, Subject, Test, TextMatch, TextTest,
};
use serde_json::{Map, Value, json};

use super::glob::Glob;
use super::instance;
use crate::fields::Fields;
use crate::foreign::Object;
use crate::shared::headers;

/// Family of the keys of Mappings that are not for every host; their hosts follow.
pub(super) const HOSTS: &str = "host";

/// The header that is the host.
const AUTHORITY: &str = ":authority";

/// What of a Mapping's JSON sets groups apart, in this order.
const GROUPED: [&str; 10] = [
    "method",
    "method_regex",
    "prefix",
    "prefix_regex",
    "prefix_exact",
    "headers",
    "regex_headers",
    "query_parameters",
    "regex_query_parameters",
    "case_sensitive",
];

/// The keys under which a Mapping is found: its group, and the hosts that it names.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    if !instance::is_ours(object) {
        return Vec::new();
    }
    let mut keys = vec![group(object.spec())];
    if let Ok(glob) = glob(object.spec())
        && glob != Glob::Any
    {
        keys.push(format!("{HOSTS} {}", glob.key()).into());
    }
    keys
}

/// Mappings with the same are one group.
pub(super) fn group(spec: &Value) -> Arc<str> {
    let sorted = |value: &Value| match value.as_object() {
        Some(map) => json!(map.iter().collect::<BTreeMap<_, _>>()),
        // What is false is as good as not there, but for what is true unless said otherwise.
        None if *value == json!(false) => Value::Null,
        None => value.clone(),
    };
    let mut parts: Vec<_> = GROUPED.iter().map(|key| sorted(&spec[*key])).collect();
    if let Some(sensitive) = parts.last_mut() {
        *sensitive = json!(spec["case_sensitive"] != json!(false));
    }
    parts.push(json!(spec["precedence"].as_i64().unwrap_or_default()));
    let host = glob(spec).map_or_else(|text| text, |glob| format!("{glob:?}"));
    parts.push(json!(host));
    format!("group {}", Value::Array(parts)).into()
}

/// The hosts that a Mapping names.
pub(super) fn glob(spec: &Value) -> Result<Glob, String> {
    if let Some(hostname) = spec["hostname"].as_str() {
        return Glob::parse(hostname);
    }
    let regex = |text: &str| {
        routing::regex::compile(text)?;
        Ok(Glob::Regex(text.to_owned()))
    };
    if let Some(host) = spec["host"].as_str() {
        if spec["host_regex"] == json!(true) {
            return regex(host);
        }
        return Glob::parse(host);
    }
    if let Some(host) = spec["headers"][AUTHORITY].as_str() {
        return Glob::parse(host);
    }
    match spec["regex_headers"][AUTHORITY].as_str() {
        Some(text) => regex(text),
        None => Ok(Glob::Any),
    }
}

/// When a Mapping applies.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    pub(super) glob: Glob,
    pub(super) matches: Match,
    /// Lower comes first.
    pub(super) order: Vec<i64>,
    pub(super) prefix: Prefix,
}

/// What is replaced by a rewrite.
#[derive(Clone, Debug)]
pub(super) enum Prefix {
    Text(Arc<str>),
    IgnoringCase(Arc<str>),
    /// The whole path.
    Exact,
    /// A rewrite has nothing to replace.
    Regex,
}

/// `None` if a condition cannot be read: without it the Mapping would be for more than it says.
pub(super) fn read(spec: &Fields<'_>, raw: &Value) -> Option<Matching> {
    for key in ["hostname", "host", "host_regex"] {
        spec.ignore(key);
    }
    let glob = match glob(raw) {
        Ok(glob) => Some(glob),
        Err(error) => {
            let message = format!("{error}; the Mapping is not served");
            spec.refuse("hostname", "HostInvalid", message);
            None
        }
    };
    if spec.has("hostname") && spec.has("host") {
        let message = "hostname is there too, and decides; remove host";
        spec.refuse("host", "HostTwice", message);
    }
    let mut matches = Match::default();
    let prefix = path(spec, &mut matches);
    let (headers, header_length) = texts(spec, "headers", "regex_headers")?;
    for (name, value) in headers {
        header(spec, &mut matches, &name, value)?;
    }
    let (query, query_length) = texts(spec, "query_parameters", "regex_query_parameters")?;
    for (name, value) in query {
        match value {
            Some(value) => matches.query.push(QueryMatch { name, value }),
            None => matches.other.push(present(Subject::Query(name))),
        }
    }
    let method = method(spec, &mut matches)?;
    let (glob, (prefix, text)) = (glob?, prefix?);
    let host_length = match &glob {
        Glob::Any => 0,
        other => AUTHORITY.len() + other.rank().1,
    };
    let length = |length: usize| -(length.min(1 << 30) as i64);
    let mut order = vec![
        -spec
            .int("precedence")
            .unwrap_or_default()
            .clamp(-(1 << 40), 1 << 40),
        length(text.len()),
        length(header_length + host_length),
        length(query_length),
    ];
    order.extend(descending(text));
    order.push(descending(method)[0]);
    Some(Matching {
        glob,
        matches,
        order,
        prefix,
    })
}

/// Later texts come first; the first sixteen bytes are compared.
fn descending(text: &str) -> [i64; 2] {
    let part = |from: usize| {
        let mut bytes = [0; 8];
        let rest = text.as_bytes().get(from..).unwrap_or_default();
        let length = rest.len().min(8);
        bytes[..length].copy_from_slice(&rest[..length]);
        -((u64::from_be_bytes(bytes) >> 1) as i64)
    };
    [part(0), part(8)]
}

fn path<'v>(spec: &Fields<'v>, matches: &mut Match) -> Option<(Prefix, &'v str)> {
    let is_regex = spec.bool("prefix_regex") == Some(true);
    let is_exact = spec.bool("prefix_exact") == Some(true);
    let ignores_case = spec.bool("case_sensitive") == Some(false);
    let Some(text) = spec.text("prefix") else {
        let message = "prefix is missing: the Mapping is not served";
        spec.refuse("prefix", "PrefixMissing", message);
        return None;
    };
    if is_regex {
        if let Err(error) = routing::regex::compile(text) {
            let message = format!("prefix is no expression: {error}; the Mapping is not served");
            spec.refuse("prefix", "RegexInvalid", message);
            return None;
        }
    } else if !text.starts_with('/') {
        let message = format!("prefix {text:?} does not begin with /: the Mapping is not served");
        spec.refuse("prefix", "PrefixInvalid", message);
        return None;
    }
    let value: Arc<str> = text.into();
    if ignores_case {
        let how = match (is_regex, is_exact) {
            (true, _) => TextTest::Regex,
            (false, true) => TextTest::Exact,
            (false, false) => TextTest::Prefix,
        };
        matches.other.push(Predicate {
            subject: Subject::Path,
            test: Test::Text {
                how,
                value: Arc::clone(&value),
                ignore_case: true,
            },
            negate: false,
            missing_is_empty: false,
        });
    } else {
        let value = Arc::clone(&value);
        matches.path = Some(match (is_regex, is_exact) {
            (true, _) => PathMatch::Regex(value),
            (false, true) => PathMatch::Exact(value),
            (false, false) => PathMatch::StringPrefix(value),
        });
    }
    let prefix = match (is_regex, is_exact, ignores_case) {
        (true, _, _) => Prefix::Regex,
        (false, true, _) => Prefix::Exact,
        (false, false, true) => Prefix::IgnoringCase(value),
        (false, false, false) => Prefix::Text(value),
    };
    Some((prefix, text))
}

type Texts = Vec<(Arc<str>, Option<TextMatch>)>;

/// Names with what they must be (`None`: anything), and the length of all of it.
fn texts(spec: &Fields<'_>, exact: &str, regex: &str) -> Option<(Texts, usize)> {
    let (mut found, mut length) = (Vec::new(), 0);
    for (key, is_regex) in [(exact, false), (regex, true)] {
        for (name, value) in map(spec, key)? {
            let value = match value {
                Value::Bool(true) if !is_regex => None,
                Value::String(text) if is_regex => {
                    if let Err(error) = routing::regex::compile(text) {
                        let message = format!("{key} {name}: {error}; the Mapping is not served");
                        spec.refuse(key, "RegexInvalid", message);
                        return None;
                    }
                    Some(TextMatch::Regex(text.as_str().into()))
                }
                Value::String(text) => Some(TextMatch::Exact(text.as_str().into())),
                Value::Number(number) if !is_regex => {
                    Some(TextMatch::Exact(number.to_string().into()))
                }
                _ => {
                    let message = format!(
                        "{key} {name} must be a text, or true if any will do; the Mapping is not served"
                    );
                    spec.refuse(key, "FieldInvalid", message);
                    return None;
                }
            };
            if name == AUTHORITY {
                continue;
            }
            length += name.len()
                + match &value {
                    Some(TextMatch::Exact(text) | TextMatch::Regex(text)) => text.len(),
                    None => 0,
                };
            found.push((Arc::from(name.as_str()), value));
        }
    }
    Some((found, length))
}

fn map<'v>(spec: &Fields<'v>, key: &str) -> Option<&'v Map<String, Value>> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    match spec.raw(key) {
        None => Some(&EMPTY),
        Some(Value::Object(map)) => Some(map),
        Some(_) => {
            let message = format!("{key} must be a map; the Mapping is not served");
            spec.refuse(key, "FieldInvalid", message);
            None
        }
    }
}

fn header(
    spec: &Fields<'_>,
    matches: &mut Match,
    name: &str,
    value: Option<TextMatch>,
) -> Option<()> {
    let name = match headers::name(name) {
        Ok(name) => name,
        Err(error) => {
            let message = format!("{error}; the Mapping is not served");
            spec.refuse("headers", "HeaderInvalid", message);
            return None;
        }
    };
    match value {
        Some(value) => matches.headers.push(HeaderMatch { name, value }),
        None => matches.other.push(present(Subject::Header(name))),
    }
    Some(())
}

fn present(subject: Subject) -> Predicate {
    Predicate {
        subject,
        test: Test::Present,
        negate: false,
        missing_is_empty: false,
    }
}

/// The method's text, for the order.
fn method<'v>(spec: &Fields<'v>, matches: &mut Match) -> Option<&'v str> {
    let is_regex = spec.bool("method_regex") == Some(true);
    let Some(method) = spec.text("method") else {
        return Some("GET");
    };
    if !is_regex {
        matches.method = Some(method.into());
        return Some(method);
    }
    if let Err(error) = routing::regex::compile(method) {
        let message = format!("method is no expression: {error}; the Mapping is not served");
        spec.refuse("method", "RegexInvalid", message);
        return None;
    }
    matches.other.push(Predicate {
        subject: Subject::Method,
        test: Test::Text {
            how: TextTest::Regex,
            value: method.into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    });
    Some(method)
}
