//! Heads in, heads out.

use routing::model::HeaderOps;

use super::*;
use crate::forwarded::Peer;

const FORWARDED: &str = "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Host: a.example\r\nX-Forwarded-Proto: http\r\n\
                         Forwarded: for=10.0.0.9;host=a.example;proto=http\r\n";

fn ops(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> HeaderOps {
    let pairs = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    };
    HeaderOps {
        remove: remove.iter().map(|name| (*name).into()).collect(),
        set: pairs(set),
        add: pairs(add),
    }
}

fn edited(text: &str, route: &HeaderOps, host: Option<&str>, strip_internal: bool) -> String {
    let mut head = RequestHead::default();
    assert_eq!(head.parse(text.as_bytes()), Ok(true), "{text:?}");
    let peer = Peer::new([10, 0, 0, 9].into(), false);
    let none = HeaderOps::default();
    let mut out = Vec::new();
    let edits = Edits {
        route,
        arm: &none,
        extra: None,
        host,
        target: None,
        strip_internal,
        is_outside: false,
        peer: &peer,
    };
    request(&mut out, &head, text.as_bytes(), &edits);
    let text = String::from_utf8(out).expect("ASCII");
    let mut again = RequestHead::default();
    assert_eq!(
        again.parse(text.as_bytes()),
        Ok(true),
        "{text:?} must parse"
    );
    assert_eq!(again.framing, head.framing);
    text
}

#[test]
fn an_ordinary_head_is_copied_and_told_where_it_came_from() {
    let text = "POST /a?b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nX:  y \r\nExpect: 100-continue\r\n\r\n";
    let expected = format!("{}{FORWARDED}\r\n", &text[..text.len() - 2]);
    assert_eq!(edited(text, &HeaderOps::default(), None, false), expected);
}

#[test]
fn what_belongs_to_this_hop_ends_here() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close, X-Secret, Host\r\nKeep-Alive: timeout=1\r\n\
                X-Secret: 1\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTE: gzip\r\nUpgrade: h2c\r\n\
                HTTP2-Settings: x\r\nA: b\r\n\r\n";
    let expected = format!("GET / HTTP/1.1\r\nHost: a.example\r\nA: b\r\n{FORWARDED}\r\n");
    assert_eq!(edited(text, &HeaderOps::default(), None, false), expected);
}

#[test]
fn upgrades_trailers_and_chunks_are_said_anew() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let out = edited(text, &HeaderOps::default(), None, false);
    assert!(
        out.contains("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"),
        "{out}"
    );
    let text = "POST / HTTP/1.1\r\nHost: a.example\r\nTE: trailers, deflate\r\nTransfer-Encoding: chunked\r\n\r\n";
    let out = edited(text, &HeaderOps::default(), None, false);
    assert!(
        out.contains("\r\nTransfer-Encoding: chunked\r\nConnection: TE\r\nTE: trailers\r\n"),
        "{out}"
    );
}

#[test]
fn the_authority_is_the_targets_or_the_routes() {
    let text = "GET http://a.example HTTP/1.1\r\nHost: other\r\n\r\n";
    let expected = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{FORWARDED}\r\n");
    assert_eq!(edited(text, &HeaderOps::default(), None, false), expected);
    let text = "GET / HTTP/1.1\r\nA: b\r\nHost: a.example\r\n\r\n";
    let expected = format!("GET / HTTP/1.1\r\nHost: new\r\nA: b\r\n{FORWARDED}\r\n");
    assert_eq!(
        edited(text, &HeaderOps::default(), Some("new"), false),
        expected
    );
}

#[test]
fn operations_remove_set_and_add() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nA: 1\r\nB: 2\r\na: 3\r\nC: 4\r\nX-Forwarded-Proto: https\r\n\r\n";
    let route = ops(
        &["a"],
        &[("b", "5"), ("x-forwarded-proto", "ws")],
        &[("c", "6")],
    );
    let out = edited(text, &route, None, false);
    assert!(
        out.starts_with("GET / HTTP/1.1\r\nHost: a.example\r\nC: 4\r\nX-Forwarded-For"),
        "{out}"
    );
    assert!(
        out.ends_with("b: 5\r\nx-forwarded-proto: ws\r\nc: 6\r\n\r\n"),
        "{out}"
    );
    assert_eq!(out.to_lowercase().matches("x-forwarded-proto").count(), 1);
}

#[test]
fn claims_of_hops_before_are_passed_on() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: b.example\r\n\r\n";
    let out = edited(text, &HeaderOps::default(), None, false);
    let expected = "X-Forwarded-For: 1.1.1.1, 10.0.0.9\r\nX-Forwarded-Host: b.example\r\nX-Forwarded-Proto: https\r\n\
                    Forwarded: for=1.1.1.1;host=b.example;proto=https, for=10.0.0.9\r\n\r\n";
    assert!(out.ends_with(expected), "{out}");
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nForwarded: for=x\r\n\r\n";
    let out = edited(text, &HeaderOps::default(), None, false);
    assert_eq!(out.matches("Forwarded: for=x\r\n").count(), 1);
    assert!(!out.contains("for=10.0.0.9;"), "{out}");
}

#[test]
fn internal_headers_reach_other_backends_but_not_user_containers() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nK-Network-Hash: h\r\nKnative-Serving-Revision: r\r\n\r\n";
    assert!(
        edited(text, &HeaderOps::default(), None, false)
            .contains("K-Network-Hash: h\r\nKnative-Serving-Revision: r\r\n")
    );
    let out = edited(text, &HeaderOps::default(), None, true).to_lowercase();
    assert!(
        !out.contains("k-network") && !out.contains("knative"),
        "{out}"
    );
}

#[test]
fn answers_get_the_framing_that_the_client_understands() {
    let check = |text: &str, version: Version, connection: Connection, expected: &str| {
        let mut head = ResponseHead::default();
        assert_eq!(head.parse(text.as_bytes(), false), Ok(true), "{text:?}");
        let mut out = Vec::new();
        response(
            &mut out,
            &head,
            text.as_bytes(),
            framing_for(version, head.framing),
            connection,
            None,
        );
        assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
    };
    check(
        "HTTP/1.0 200 Fine\r\nA: b\r\nConnection: close, c\r\nC: d\r\nKeep-Alive: x\r\n\r\n",
        Version::Http11,
        Connection::Keep,
        "HTTP/1.1 200 Fine\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nTrailer: x\r\n\r\n",
        Version::Http10,
        Connection::Close,
        "HTTP/1.1 200 OK\r\nTrailer: x\r\nConnection: close\r\n\r\n",
    );
    check(
        "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
        Version::Http11,
        Connection::Keep,
        "HTTP/1.1 204 No Content\r\n\r\n",
    );
    check(
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
        Version::Http10,
        Connection::KeepAlive,
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
    );
}

#[test]
fn own_names_are_the_same_in_both_protocols() {
    for own in [
        &FORWARDED_FOR,
        &FORWARDED_HOST,
        &FORWARDED_PROTO,
        &FORWARDED_HOPS,
    ] {
        let name = own.line.strip_suffix(b": ").expect("a name and a colon");
        let mut literal = Vec::new();
        crate::http2::hpack::write_with(&mut literal, name, |_| {});
        assert_eq!(literal, [own.literal, b"\x00"].concat());
    }
}
