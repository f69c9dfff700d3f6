//! Templates as users write them, and as they should not.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn entry<'a>(headers: &'a [Vec<String>]) -> Entry<'a> {
    Entry {
        method: "GET",
        target: "/a?b=\"c\"",
        host: "shop.example.com",
        protocol: "HTTP/1.1",
        content_length: None,
        client: "192.0.2.1:55000",
        user_agent: "curl/8 'x'",
        headers,
        status: 200,
        bytes: 12,
        took: Duration::from_micros(1500),
        namespace: "default",
        revision: "hello-00001",
        pod_ip: "10.0.0.7",
        time: "2026-01-02T03:04:05.000006Z",
        ..Entry::default()
    }
}

fn line(template: &str) -> String {
    let template = Template::parse(template).expect("a valid template");
    let headers: Vec<Vec<String>> = template
        .headers()
        .iter()
        .map(|name| match &**name {
            "x-two" => vec!["1".into(), "2".into()],
            "x-one" => vec!["1".into()],
            _ => Vec::new(),
        })
        .collect();
    let mut out = String::new();
    template.render(&mut out, &entry(&headers));
    out
}

fn refused(template: &str) -> String {
    let refused = Template::parse(template).expect_err("an invalid template");
    refused.to_string()
}

#[test]
fn the_templates_of_knative_and_of_the_gateway_are_json() {
    for template in [KNATIVE, JSON] {
        let line = line(template);
        // JavaScript's \' is not JSON; Knative's own lines have this flaw too.
        let line = line.replace("\\'", "'");
        let read: serde_json::Value = serde_json::from_str(&line).expect(&line);
        assert!(read.is_object());
    }
    let line = line(KNATIVE);
    assert!(
        line.contains(r#""requestUrl": "/a?b\u003D\"c\"""#),
        "{line}"
    );
    assert!(
        line.contains(r#""requestSize": "-1", "status": 200"#),
        "{line}"
    );
    assert!(line.contains(r#""serverIp": "10.0.0.7""#), "{line}");
    assert!(line.contains(r#""latency": "0.0015s""#), "{line}");
}

#[test]
fn values_are_named_as_in_go() {
    let check = |template: &str, expected: &str| {
        assert_eq!(line(template), format!("{expected}\n"), "{template}");
    };
    check("{{.Request.Method}} {{ .Response.Code }}", "GET 200");
    check(
        "{{.Request.URL.Path}}|{{.Request.URL.RawQuery}}",
        "/a|b=\"c\"",
    );
    check(r#"{{index .Request.Header "X-Two"}}"#, "[1 2]");
    check(r#"{{js (index .Request.Header "x-none")}}"#, "[]");
    check(
        r#"{{.Request.Header.Get "X-Two"}}{{.Request.Header.Get "x-none"}}"#,
        "1",
    );
    check("{{.Request.URL | urlquery | print}}", "%2Fa%3Fb%3D%22c%22");
    check("{{json .Request.URL}}", r#""/a?b=\"c\"""#);
    check("a  {{- /* nothing }} */ -}}  b", "ab");
    check("{{\"{{\"}}{{`}}`}}\n", "{{}}");
    check("no action", "no action");
}

#[test]
fn what_cannot_be_said_is_refused_with_what_can() {
    assert!(refused("{{.Request.Cookie}}").contains(".Response.{Code, Size, Latency}"));
    assert!(refused("{{if .Request.Method}}x{{end}}").contains("conditions and loops"));
    assert!(refused("x {{.Request.Method").contains("byte 2 has no end"));
    assert!(refused("{{.Request.Header}}").contains("index .Request.Header"));
    assert!(refused("{{.Request.Method | upper}}").contains("one value"));
    assert!(refused("{{}}").contains("one value"));
    assert!(refused(&"x".repeat(20_000)).contains("at most 16384"));
}

#[test]
fn a_client_cannot_begin_a_line() {
    let template = Template::parse("{{.Request.UserAgent}}{{json .Request.Host}}").expect("valid");
    let mut out = String::new();
    let entry = Entry {
        user_agent: "a\nb\u{85}c",
        host: "a\r\nb",
        ..Entry::default()
    };
    template.render(&mut out, &entry);
    assert_eq!(out, "a b c\"a\\u000d\\u000ab\"\n");
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_an_error(text in "([{}]{2}|[-.a-zA-Z|()\"`\\\\ /*]|\\PC){0,40}") {
        if let Ok(template) = Template::parse(&text) {
            let mut out = String::new();
            template.render(&mut out, &Entry::default());
            prop_assert!(out.ends_with('\n'));
        }
    }
}
