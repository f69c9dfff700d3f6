//! Named formats: `format.dns1123Label().validate(text)` is empty if the text has the format.

use std::sync::OnceLock;

use base64::Engine as _;
use regex::Regex;

use crate::Budget;
use crate::functions::{Out, Rows, text, unfit};
use crate::temporal;
use crate::value::Value;

const NAMES: &[&str] = &[
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(crate) const ROWS: Rows = &[
    ("format.named(string): optional<Format>", |_, a| {
        let wanted = text(a, 0)?;
        let found = NAMES.iter().find(|name| **name == wanted);
        Ok(Value::optional(found.map(|name| Value::Format(name))))
    }),
    ("format.dns1123Label(): Format", |_, _| {
        Ok(Value::Format("dns1123Label"))
    }),
    ("format.dns1123Subdomain(): Format", |_, _| {
        Ok(Value::Format("dns1123Subdomain"))
    }),
    ("format.dns1035Label(): Format", |_, _| {
        Ok(Value::Format("dns1035Label"))
    }),
    ("format.qualifiedName(): Format", |_, _| {
        Ok(Value::Format("qualifiedName"))
    }),
    ("format.dns1123LabelPrefix(): Format", |_, _| {
        Ok(Value::Format("dns1123LabelPrefix"))
    }),
    ("format.dns1123SubdomainPrefix(): Format", |_, _| {
        Ok(Value::Format("dns1123SubdomainPrefix"))
    }),
    ("format.dns1035LabelPrefix(): Format", |_, _| {
        Ok(Value::Format("dns1035LabelPrefix"))
    }),
    ("format.labelValue(): Format", |_, _| {
        Ok(Value::Format("labelValue"))
    }),
    ("format.uri(): Format", |_, _| Ok(Value::Format("uri"))),
    ("format.uuid(): Format", |_, _| Ok(Value::Format("uuid"))),
    ("format.byte(): Format", |_, _| Ok(Value::Format("byte"))),
    ("format.date(): Format", |_, _| Ok(Value::Format("date"))),
    ("format.datetime(): Format", |_, _| {
        Ok(Value::Format("datetime"))
    }),
    ("Format.validate(string): optional<list<string>>", validate),
];

fn validate<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let Some(Value::Format(name)) = args.first() else {
        return unfit();
    };
    let text = text(args, 1)?;
    budget.spend_text(text.len())?;
    let found = fault(name, text).map(|fault| Value::list(vec![Value::text(fault)]));
    Ok(Value::optional(found))
}

/// What is wrong with `text`, if anything.
fn fault(name: &str, text: &str) -> Option<String> {
    let (label, subdomain) = (
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "lower case alphanumeric characters, '-' or '.'",
    );
    // A prefix may end in a dash.
    let whole = name.strip_suffix("Prefix").map_or_else(
        || text.to_owned(),
        |_| {
            text.strip_suffix('-')
                .map_or_else(|| text.to_owned(), |start| format!("{start}a"))
        },
    );
    let (holds, text) = match name.trim_end_matches("Prefix") {
        "dns1123Label" => (whole.len() <= 63 && is_label(&whole), format!("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (regex used for validation is '{label}')")),
        "dns1035Label" => {
            let letter = whole.starts_with(|first: char| first.is_ascii_lowercase());
            (whole.len() <= 63 && letter && is_label(&whole), "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character".to_owned())
        }
        "dns1123Subdomain" => (is_subdomain(&whole), format!("a lowercase RFC 1123 subdomain must consist of {subdomain}, and must start and end with an alphanumeric character")),
        "qualifiedName" => (is_qualified(text), "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character".to_owned()),
        "labelValue" => (text.is_empty() || is_name(text), "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character".to_owned()),
        "uri" => (is_uri(text), format!("parse {text:?}: invalid URI for request")),
        "uuid" => (is_uuid(text), format!("does not match the UUID format: {text:?}")),
        "byte" => (base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "invalid base64".to_owned()),
        "date" => (text.parse::<jiff::civil::Date>().is_ok(), format!("invalid date {text:?}")),
        "datetime" => (text.contains(['T', 't']) && temporal::timestamp(text).is_some(), format!("invalid datetime {text:?}")),
        other => (false, format!("unknown format {other}")),
    };
    (!holds).then_some(text)
}

fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| plain(*byte))
        && bytes.last().is_some_and(|byte| plain(*byte))
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(text),
    }
}

fn is_uri(text: &str) -> bool {
    let absolute = text.split_once("://").is_some_and(|(scheme, rest)| {
        !rest.is_empty() && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
    });
    (absolute || text.starts_with('/'))
        && !text
            .chars()
            .any(|letter| letter.is_control() || letter == ' ')
}

fn is_uuid(text: &str) -> bool {
    static UUID: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern =
        "^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$";
    let regex = UUID.get_or_init(|| Regex::new(pattern).ok());
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}
