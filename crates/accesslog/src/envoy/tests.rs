//! Formats of Envoy: what lines they come to, and what is refused.

use super::*;
use crate::Entry;
use std::time::Duration;

fn entry<'e>(headers: &'e [Vec<String>]) -> Entry<'e> {
    Entry {
        method: "GET",
        target: "/a?b=c",
        host: "shop.example.com",
        protocol: "HTTP/1.1",
        client: "192.0.2.7:4711",
        user_agent: "curl/8 \"x\"",
        headers,
        status: 503,
        bytes: 12,
        took: Duration::from_millis(34),
        time: "2026-01-02T03:04:05Z",
        route: "r",
        backend: "default/shop:80",
        flag: "no-endpoint",
        scheme: "http",
        ..Entry::default()
    }
}

fn line(envoy: &Envoy, headers: &[Vec<String>]) -> String {
    let mut out = String::new();
    envoy.template.render(&mut out, &entry(headers));
    out
}

#[test]
fn text_is_as_envoy_writes_it() {
    let format = "%REQ(:METHOD)% %REQ(X-A?:PATH)% %REQ(X-A):2% %RESPONSE_CODE% %DURATION% \
                  %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_HOST% 100%%";
    let read = Envoy::text(format).expect("a format");
    assert_eq!(read.template.headers(), [Box::from("x-a")]);
    let without = line(&read, &[vec![]]);
    assert_eq!(without, "GET /a?b=c - 503 34 192.0.2.7 - 100%\n");
    let with = line(&read, &[vec!["value".to_owned()]]);
    assert_eq!(with, "GET value va 503 34 192.0.2.7 - 100%\n");
}

#[test]
fn the_default_is_a_format_and_says_what_has_no_value() {
    let read = Envoy::text(ENVOY).expect("a format");
    assert!(
        read.without_value
            .contains(&"REQUESTED_SERVER_NAME".to_owned())
    );
    let line = line(&read, &[vec![], vec![]]);
    assert!(line.starts_with("[2026-01-02T03:04:05Z] \"GET /a?b=c HTTP/1.1\" 503 UH - - \"-\""));
}

#[test]
fn labels_become_one_json_object() {
    let labels = [
        ("status", "%RESPONSE_CODE%"),
        ("agent", "%REQ(USER-AGENT)%"),
        ("host", "%UPSTREAM_HOST%"),
        ("both", "%REQ(:METHOD)% %UPSTREAM_HOST%"),
        ("fixed", "a\"b"),
    ];
    let read = Envoy::json(labels).expect("a format");
    let line = line(&read, &[]);
    let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let expected = serde_json::json!({
        "status": 503, "agent": "curl/8 \"x\"", "host": null, "both": "GET -", "fixed": "a\"b",
    });
    assert_eq!(json, expected);
}

#[test]
fn what_is_no_format_is_refused_with_its_place() {
    for (format, at) in [
        ("a %NOPE%", 2),
        ("%REQ%", 0),
        ("%REQ(a b)%", 0),
        ("x%START_TIME(%s)%", 1),
        ("%RESPONSE_CODE", 0),
    ] {
        match Envoy::text(format) {
            Err(TemplateError::Operator { at: found, .. }) => assert_eq!(found, at, "{format}"),
            other => panic!("{format}: {other:?}"),
        }
    }
}

#[test]
fn a_format_with_too_many_keys_is_refused_whole() {
    let keys: Vec<String> = (0..129).map(|n| format!("k{n}")).collect();
    let labels = |most: usize| keys[..most].iter().map(|key| (key.as_str(), "%PROTOCOL%"));
    assert!(Envoy::json(labels(128)).is_ok());
    let error = Envoy::json(labels(129)).expect_err("too many");
    assert_eq!(error.to_string(), "it has 129 keys, at most 128 are taken");
}
