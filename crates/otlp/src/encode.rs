//! `ExportTraceServiceRequest` of opentelemetry-proto: in protobuf for collectors, in JSON (the
//! protocol's own mapping) for people.
//!
//! Spans here are always of the kind server: a gateway serves requests.

use serde_json::{Value as Json, json};

use crate::message::Message;
use crate::{Event, Span, Value};

/// The kind SERVER, in both encodings.
const SERVER: u64 = 2;
/// The status code ERROR.
const ERROR: u64 = 2;
/// What made the spans (the instrumentation scope).
const SCOPE: &str = "suimon.dev/gateway";

impl Message {
    fn attribute(&mut self, field: u64, key: &str, value: &Value) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                Value::Number(number) => any.number(3, number.cast_unsigned()),
            });
        });
    }

    fn event(&mut self, event: &Event) {
        self.fixed64(1, event.time);
        self.text(2, event.name);
        for (key, value) in &event.attributes {
            self.attribute(3, key, value);
        }
    }

    fn span(&mut self, span: &Span) {
        self.bytes(1, &span.trace);
        self.bytes(2, &span.id);
        self.text(3, &span.state);
        if let Some(parent) = &span.parent {
            self.bytes(4, parent);
        }
        self.text(5, &span.name);
        self.number(6, SERVER);
        self.fixed64(7, span.start);
        self.fixed64(8, span.end);
        for (key, value) in &span.attributes {
            self.attribute(9, key, value);
        }
        for (key, value) in &span.tags {
            self.attribute(9, key, value);
        }
        for event in &span.events {
            self.message(11, |message| message.event(event));
        }
        if span.is_error {
            self.message(15, |status| status.number(3, ERROR));
        }
    }
}

/// The request's bytes; `service` is the resource's `service.name`.
pub(crate) fn protobuf(service: &str, version: &str, spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |of_resource| {
        of_resource.message(1, |resource| {
            resource.attribute(1, "service.name", &Value::from(service));
            resource.attribute(1, "service.version", &Value::from(version));
        });
        of_resource.message(2, |of_scope| {
            of_scope.message(1, |scope| scope.text(1, SCOPE));
            for span in spans {
                of_scope.message(2, |message| message.span(span));
            }
        });
    });
    request.0
}

/// The request as one line.
pub(crate) fn json(service: &str, version: &str, spans: &[Span]) -> String {
    let of_service = [
        ("service.name", Value::from(service)),
        ("service.version", Value::from(version)),
    ];
    let spans: Vec<_> = spans.iter().map(span_json).collect();
    let request = json!({ "resourceSpans": [{
        "resource": { "attributes": attributes_json(&of_service) },
        "scopeSpans": [{ "scope": { "name": SCOPE }, "spans": spans }],
    }] });
    request.to_string()
}

/// Ids are hex digits and 64-bit numbers are strings (OTLP, "JSON Protobuf Encoding").
fn span_json(span: &Span) -> Json {
    let events = span.events.iter().map(|event| {
        json!({
            "timeUnixNano": event.time.to_string(),
            "name": event.name,
            "attributes": attributes_json(&event.attributes),
        })
    });
    let mut attributes = attributes_json(&span.attributes);
    attributes.extend(span.tags.iter().map(|(key, value)| attribute(key, value)));
    let mut json = json!({
        "traceId": hex::encode(span.trace),
        "spanId": hex::encode(span.id),
        "name": span.name,
        "kind": SERVER,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes,
        "events": events.collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = hex::encode(parent).into();
    }
    if !span.state.is_empty() {
        json["traceState"] = span.state.as_str().into();
    }
    if span.is_error {
        json["status"] = json!({ "code": ERROR });
    }
    json
}

fn attributes_json(attributes: &[(&'static str, Value)]) -> Vec<Json> {
    let one = |(key, value): &(&'static str, Value)| attribute(key, value);
    attributes.iter().map(one).collect()
}

fn attribute(key: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": key, "value": value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span {
            trace: [1; 16],
            id: [2; 8],
            parent: Some([3; 8]),
            state: "a=b".into(),
            name: "GET".into(),
            start: 1,
            end: 300,
            attributes: vec![("n", Value::Number(200)), ("t", Value::from("x"))],
            tags: vec![("team".into(), Value::from("shop"))],
            events: vec![Event {
                time: 2,
                name: "e",
                attributes: Vec::new(),
            }],
            is_error: true,
        }
    }

    #[test]
    fn a_span_is_encoded_field_by_field_as_the_schema_numbers_them() {
        let mut message = Message::default();
        message.span(&span());
        let mut wanted = vec![0x0a, 16];
        wanted.extend([1; 16]);
        wanted.extend([0x12, 8]);
        wanted.extend([2; 8]);
        wanted.extend([0x1a, 3, b'a', b'=', b'b', 0x22, 8]);
        wanted.extend([3; 8]);
        wanted.extend([0x2a, 3, b'G', b'E', b'T', 0x30, 2]);
        wanted.extend([0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0x41, 44, 1, 0, 0, 0, 0, 0, 0]);
        // {key: "n", value: {int: 200}} and {key: "t", value: {string: "x"}}
        wanted.extend([0x4a, 8, 0x0a, 1, b'n', 0x12, 3, 0x18, 200, 1]);
        wanted.extend([0x4a, 8, 0x0a, 1, b't', 0x12, 3, 0x0a, 1, b'x']);
        // {key: "team", value: {string: "shop"}}
        wanted.extend([0x4a, 14, 0x0a, 4, b't', b'e', b'a', b'm', 0x12, 6, 0x0a, 4]);
        wanted.extend(*b"shop");
        wanted.extend([0x5a, 12, 0x09, 2, 0, 0, 0, 0, 0, 0, 0, 0x12, 1, b'e']);
        wanted.extend([0x7a, 2, 0x18, 2]);
        assert_eq!(message.0, wanted);
    }

    #[test]
    fn json_has_hex_ids_and_numbers_as_strings() {
        let line = json("gateway", "1", &[span()]);
        let request: Json = serde_json::from_str(&line).expect("JSON");
        let resource = &request["resourceSpans"][0];
        let span = &resource["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "01".repeat(16));
        assert_eq!(span["parentSpanId"], "03".repeat(8));
        assert_eq!(span["endTimeUnixNano"], "300");
        assert_eq!(span["attributes"][0]["value"]["intValue"], "200");
        assert_eq!(span["attributes"][2]["key"], "team");
        assert_eq!(span["status"]["code"], 2);
        let name = &resource["resource"]["attributes"][0]["value"]["stringValue"];
        assert_eq!(name, "gateway");
    }
}
