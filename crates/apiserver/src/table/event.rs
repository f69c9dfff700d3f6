//! Cells of events, in the field names of both event APIs.

use jiff::Timestamp;
use serde_json::Value;

use super::{age, text};

/// The first pointer that has a text.
fn first<'a>(event: &'a Value, pointers: &[&str]) -> &'a str {
    pointers
        .iter()
        .map(|pointer| text(event, pointer))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

fn seen(event: &Value, pointers: &[&str], now: Timestamp) -> String {
    match first(event, pointers) {
        "" => "<unknown>".into(),
        time => age::since(time, now),
    }
}

const LAST: &[&str] = &[
    "/lastTimestamp",
    "/deprecatedLastTimestamp",
    "/eventTime",
    "/metadata/creationTimestamp",
];
const FIRST: &[&str] = &[
    "/firstTimestamp",
    "/deprecatedFirstTimestamp",
    "/eventTime",
    "/metadata/creationTimestamp",
];

pub(super) fn last_seen(event: &Value, now: Timestamp) -> Value {
    match text(event, "/series/lastObservedTime") {
        "" => seen(event, LAST, now).into(),
        time => age::since(time, now).into(),
    }
}

pub(super) fn first_seen(event: &Value, now: Timestamp) -> Value {
    seen(event, FIRST, now).into()
}

pub(super) fn object(event: &Value, _: Timestamp) -> Value {
    let kind = first(event, &["/involvedObject/kind", "/regarding/kind"]).to_ascii_lowercase();
    match first(event, &["/involvedObject/name", "/regarding/name"]) {
        "" => kind.into(),
        name => format!("{kind}/{name}").into(),
    }
}

pub(super) fn source(event: &Value, _: Timestamp) -> Value {
    let component = first(
        event,
        &[
            "/source/component",
            "/deprecatedSource/component",
            "/reportingComponent",
            "/reportingController",
        ],
    );
    match first(
        event,
        &[
            "/source/host",
            "/deprecatedSource/host",
            "/reportingInstance",
        ],
    ) {
        "" => component.into(),
        host => format!("{component}, {host}").into(),
    }
}

pub(super) fn message(event: &Value, _: Timestamp) -> Value {
    first(event, &["/message", "/note"]).trim().into()
}

pub(super) fn count(event: &Value, _: Timestamp) -> Value {
    let counts = ["/series/count", "/count", "/deprecatedCount"];
    let found = counts
        .iter()
        .find_map(|pointer| event.pointer(pointer).and_then(Value::as_i64));
    found.filter(|count| *count > 0).unwrap_or(1).into()
}
