//! Spans as Zipkin's API takes them: a JSON list (its OpenAPI document, version 2, `POST /spans`).

use serde_json::{Map, Value as Json, json};

use crate::{Span, Value};

/// The body of one request.
pub(crate) fn json(service: &str, spans: &[Span]) -> Vec<u8> {
    let spans: Vec<_> = spans.iter().map(|span| one(service, span)).collect();
    Json::from(spans).to_string().into_bytes()
}

/// Times are microseconds; a span that took less took one.
fn one(service: &str, span: &Span) -> Json {
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
    };
    let attributes = span.attributes.iter().map(|(key, value)| (*key, value));
    let tags = span.tags.iter().map(|(key, value)| (&**key, value));
    let mut tags: Map<String, Json> = attributes
        .chain(tags)
        .map(|(key, value)| (key.to_owned(), text(value).into()))
        .collect();
    if span.is_error {
        tags.insert("error".to_owned(), "true".into());
    }
    let annotations = span
        .events
        .iter()
        .map(|event| json!({ "timestamp": event.time / 1000, "value": event.name }));
    let mut json = json!({
        "traceId": hex::encode(span.trace),
        "id": hex::encode(span.id),
        "name": span.name,
        "kind": "SERVER",
        "timestamp": span.start / 1000,
        "duration": (span.end.saturating_sub(span.start) / 1000).max(1),
        "localEndpoint": { "serviceName": service },
        "annotations": annotations.collect::<Vec<_>>(),
        "tags": tags,
    });
    if let Some(parent) = span.parent {
        json["parentId"] = hex::encode(parent).into();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;

    #[test]
    fn a_span_has_hex_ids_microseconds_and_tags_of_text() {
        let span = Span {
            trace: [1; 16],
            id: [2; 8],
            parent: Some([3; 8]),
            state: "a=b".into(),
            name: "GET".into(),
            start: 5_000_000,
            end: 5_000_300,
            attributes: vec![("http.response.status_code", Value::Number(503))],
            tags: vec![("team".into(), Value::from("shop"))],
            events: vec![Event {
                time: 5_000_100,
                name: "retry",
                attributes: Vec::new(),
            }],
            is_error: true,
        };
        let body: Json = serde_json::from_slice(&json("gateway", &[span])).expect("JSON");
        let expected = json!([{
            "traceId": "01".repeat(16),
            "id": "02".repeat(8),
            "parentId": "03".repeat(8),
            "name": "GET",
            "kind": "SERVER",
            "timestamp": 5000,
            "duration": 1,
            "localEndpoint": { "serviceName": "gateway" },
            "annotations": [{ "timestamp": 5000, "value": "retry" }],
            "tags": { "http.response.status_code": "503", "team": "shop", "error": "true" },
        }]);
        assert_eq!(body, expected);
    }
}
