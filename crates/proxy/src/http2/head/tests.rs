//! Which heads are served, as tables, and how they look to everything behind.

use super::*;
use crate::http2::hpack;

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        // As a client writes it, in any case.
        out.push(0);
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        hpack::write_value(&mut out, value.as_bytes());
    }
    out
}

fn judge(fields: &[(&str, &str)], ends: bool) -> Result<(RequestHead, String), Fault> {
    let (mut head, mut bytes) = (RequestHead::default(), Vec::new());
    let input = (&*block(fields), 64 * 1024);
    let fault = request(
        &mut Decoder::default(),
        input,
        ends,
        (&mut head, &mut bytes),
    );
    match fault.expect("valid HPACK") {
        None => Ok((head, String::from_utf8(bytes).expect("text"))),
        Some(fault) => Err(fault),
    }
}

const TARGET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a.example"),
    (":path", "/p?q"),
];

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    TARGET.iter().chain(more).copied().collect()
}

/// The usual pseudo fields with one changed, or left out.
fn but(name: &str, value: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    let changed = TARGET.iter().map(|(known, usual)| match value {
        Some(value) if *known == name => (*known, value),
        _ => (*known, *usual),
    });
    changed
        .filter(|(known, _)| value.is_some() || *known != name)
        .collect()
}

#[test]
fn a_head_is_laid_out_as_http1_would_write_it() {
    let fields = with(&[
        ("cookie", "a=b"),
        ("accept", "*/*"),
        ("te", "trailers"),
        ("cookie", "c=d"),
        ("k-network-probe", "x"),
    ]);
    let (head, text) = judge(&fields, true).expect("valid");
    let lines = text
        .strip_prefix("GEThttpa.example/p?q")
        .expect("pseudo fields");
    assert_eq!(
        lines,
        "accept: */*\r\nte: trailers\r\nk-network-probe: x\r\ncookie: a=b; c=d\r\n\r\n"
    );
    let part = |span: Span| std::str::from_utf8(span.get(text.as_bytes())).expect("text");
    assert_eq!(
        (part(head.method), part(head.host), part(head.target)),
        ("GET", "a.example", "/p?q")
    );
    assert_eq!(
        head.fields.get(text.as_bytes(), "Cookie"),
        Some(&b"a=b; c=d"[..])
    );
    assert!(head.accepts_trailers && head.fields.has_internal);
    assert_eq!(
        (head.framing, head.version),
        (Framing::None, Version::Http2)
    );
}

#[test]
fn heads_that_could_be_read_in_two_ways_are_malformed() {
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("no method", but(":method", None)),
        ("no scheme", but(":scheme", None)),
        ("no path", but(":path", None)),
        ("an empty path", but(":path", Some(""))),
        ("a path without a slash", but(":path", Some("p"))),
        ("a star for another method", but(":path", Some("*"))),
        ("a space in the path", but(":path", Some("/a b"))),
        (
            "a line end in the path",
            but(":path", Some("/ HTTP/1.1\r\nx: y")),
        ),
        ("a fragment", but(":path", Some("/a#b"))),
        ("a method that is no token", but(":method", Some("GET /"))),
        ("an unknown scheme", but(":scheme", Some("ftp"))),
        ("an empty authority", but(":authority", Some(""))),
        ("user information", but(":authority", Some("u@a"))),
        (
            "a line end in the authority",
            but(":authority", Some("a\r\nx: y")),
        ),
        ("another host", with(&[("host", "b.example")])),
        (
            "two hosts",
            with(&[("host", "a.example"), ("host", "a.example")]),
        ),
        ("two paths", with(&[(":path", "/other")])),
        ("an unknown pseudo field", with(&[(":x", "y")])),
        ("a status", with(&[(":status", "200")])),
        ("a protocol", with(&[(":protocol", "websocket")])),
        ("upper case", with(&[("X-A", "b")])),
        ("a name with a space", with(&[("x a", "b")])),
        ("a name with a colon", with(&[("x:", "b")])),
        ("an empty name", with(&[("", "b")])),
        ("a carriage return", with(&[("x", "a\rb")])),
        ("a line feed", with(&[("x", "a\nb")])),
        ("a NUL", with(&[("x", "a\0b")])),
        ("a control byte", with(&[("x", "a\x1fb")])),
        ("space in front", with(&[("x", " a")])),
        ("space behind", with(&[("x", "a\t")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te with codings", with(&[("te", "gzip")])),
        (
            "two lengths",
            with(&[("content-length", "0"), ("content-length", "0")]),
        ),
        ("a signed length", with(&[("content-length", "+1")])),
        ("a list of lengths", with(&[("content-length", "1, 1")])),
        ("a body that cannot come", with(&[("content-length", "1")])),
        ("CONNECT with a path", but(":method", Some("CONNECT"))),
    ];
    for (why, fields) in cases {
        assert_eq!(judge(&fields, true).err(), Some(Malformed), "{why}");
    }
    let late = [("accept", "*/*"), (":method", "GET")];
    assert_eq!(judge(&late, true).err(), Some(Malformed));
}

#[test]
fn the_end_of_a_body_is_known_in_one_way() {
    for (length, ends, expected) in [
        (None, true, Framing::None),
        (Some("0"), true, Framing::None),
        (None, false, Framing::Chunked),
        (Some("0"), false, Framing::Chunked),
        (Some("7"), false, Framing::Length(7)),
    ] {
        let length = length.map(|length| ("content-length", length));
        let fields = with(&length.into_iter().collect::<Vec<_>>());
        let (head, _) = judge(&fields, ends).expect("valid");
        assert_eq!(head.framing, expected, "{fields:?} {ends}");
    }
}

#[test]
fn a_host_stands_for_a_missing_authority() {
    let mut fields = but(":authority", None);
    fields.push(("host", "b.example:81"));
    let (head, text) = judge(&fields, true).expect("valid");
    assert_eq!(head.host.get(text.as_bytes()), b"b.example:81");
    // Known to everybody, and no reason to refuse.
    let same = with(&[("host", "A.example")]);
    assert!(judge(&same, true).is_ok());
}

#[test]
fn lists_that_are_too_long_are_told_from_malformed_ones() {
    let many = vec![("x", "y"); MAX_FIELDS + 1];
    assert_eq!(judge(&with(&many), true).err(), Some(TooLarge));
    let long = "y".repeat(70_000);
    let mut fields = TARGET.to_vec();
    fields.push(("x", &long));
    assert_eq!(judge(&fields, true).err(), Some(TooLarge));
}

#[test]
fn answers_are_framed_by_status_length_and_end() {
    let answer = |fields: &[(&str, &str)], to_head, ends| {
        let mut answer = Answered::default();
        let input = (&*block(fields), 64 * 1024);
        let fault = response(&mut Decoder::default(), input, (to_head, ends), &mut answer);
        fault
            .expect("valid HPACK")
            .map_or(Ok((answer.head.status, answer.head.framing)), Err)
    };
    let length = |length| [(":status", "200"), ("content-length", length)];
    assert_eq!(
        answer(&length("5"), false, false),
        Ok((200, Framing::Length(5)))
    );
    assert_eq!(answer(&length("5"), true, true), Ok((200, Framing::None)));
    assert_eq!(
        answer(&[(":status", "304")], false, true),
        Ok((304, Framing::None))
    );
    assert_eq!(
        answer(&[(":status", "200")], false, true),
        Ok((200, Framing::Length(0)))
    );
    assert_eq!(
        answer(&[(":status", "200")], false, false),
        Ok((200, Framing::Chunked))
    );
    for status in ["20", "2000", "+20", "099", "2 0", ""] {
        assert_eq!(
            answer(&[(":status", status)], false, true),
            Err(Malformed),
            "{status}"
        );
    }
    for fields in [
        &[("x", "y")][..],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), (":path", "/")],
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        &[(":status", "200"), ("x", "a\r\nb: c")],
    ] {
        assert_eq!(answer(fields, false, true), Err(Malformed), "{fields:?}");
    }
}

#[test]
fn trailers_frame_and_route_nothing() {
    let read = |fields: &[(&str, &str)]| {
        let input = (&*block(fields), 64 * 1024);
        let (trailers, fault) = trailers(&mut Decoder::default(), input).expect("valid HPACK");
        match fault {
            None => Ok(String::from_utf8_lossy(trailers.lines()).into_owned()),
            Some(fault) => Err(fault),
        }
    };
    assert_eq!(
        read(&[
            ("grpc-status", "0"),
            ("content-length", "3"),
            ("host", "evil")
        ]),
        Ok("grpc-status: 0\r\n".to_owned())
    );
    assert_eq!(read(&[(":status", "200")]), Err(Malformed));
    assert_eq!(read(&[("connection", "close")]), Err(Malformed));
    assert_eq!(read(&[("x", "a\nb")]), Err(Malformed));
    assert_eq!(read(&vec![("x", "y"); MAX_FIELDS + 1]), Err(TooLarge));
}

#[test]
fn a_path_that_http1_would_refuse_is_malformed() {
    // A request for `/` and the byte 0xf0, which begins a character that never ends.
    let block = [&[0x82, 0x87, 0x04, 2][..], b"/\xf0", &[0x41, 1], b"a"].concat();
    let (mut head, mut bytes) = (RequestHead::default(), Vec::new());
    let fault = request(
        &mut Decoder::default(),
        (&block, 1000),
        true,
        (&mut head, &mut bytes),
    );
    assert_eq!(fault, Ok(Some(Malformed)));
}
