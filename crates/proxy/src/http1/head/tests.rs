//! What is a head and what is an attack.

use proptest::prelude::*;

use super::*;

fn request(text: &str) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::default();
    assert!(head.parse(text.as_bytes())?, "{text:?} is incomplete");
    Ok(head)
}

fn response(text: &str, to_head: bool) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::default();
    assert!(
        head.parse(text.as_bytes(), to_head)?,
        "{text:?} is incomplete"
    );
    Ok(head)
}

/// Fields after a valid request line and Host.
fn fields(lines: &str) -> Result<RequestHead, HeadError> {
    request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

#[test]
fn a_length_is_one_plain_number() {
    assert_eq!(
        fields("Content-Length: 5\r\n").expect("valid").framing,
        Framing::Length(5)
    );
    assert_eq!(
        fields("Content-Length: 0\r\n").expect("valid").framing,
        Framing::None
    );
    for value in [
        "",
        "+5",
        "-5",
        "0x5",
        "5, 5",
        "5 5",
        "5.0",
        "18446744073709551616",
        "99999999999999999999",
    ] {
        assert!(
            fields(&format!("Content-Length: {value}\r\n")).is_err(),
            "{value:?} was accepted"
        );
    }
    assert!(fields("Content-Length: 5\r\nContent-Length: 5\r\n").is_err());
    assert!(fields("Content-Length: 5\r\ncontent-length: 6\r\n").is_err());
}

#[test]
fn a_transfer_coding_is_chunked_and_alone() {
    assert_eq!(
        fields("Transfer-Encoding: Chunked\r\n")
            .expect("valid")
            .framing,
        Framing::Chunked
    );
    assert_eq!(
        fields("Transfer-Encoding: gzip, chunked\r\n").expect_err("refused"),
        HeadError::UnknownCoding
    );
    for lines in [
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        assert!(fields(lines).is_err(), "{lines:?} was accepted");
    }
    assert!(request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
}

#[test]
fn lines_end_in_crlf_and_fields_are_not_folded() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut head = RequestHead::default();
        assert!(
            head.parse(text.as_bytes()).is_err(),
            "{text:?} was accepted"
        );
    }
}

#[test]
fn the_host_is_said_once_and_is_a_host() {
    assert!(request("GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(request("GET / HTTP/1.0\r\n\r\n").is_ok());
    assert!(request("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").is_err());
    for host in ["a/b", "a b", "u@a", "a\\b", "a?b", "a#b", "ü", "<a>"] {
        assert!(
            request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).is_err(),
            "{host:?} was accepted"
        );
    }
}

#[test]
fn an_absolute_target_decides_the_host() {
    let check = |target: &str, host: &str, path: &str| {
        let text = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
        let head = request(&text).expect("valid");
        assert_eq!(
            (
                head.host.get(text.as_bytes()),
                head.target.get(text.as_bytes())
            ),
            (host.as_bytes(), path.as_bytes())
        );
    };
    check("http://a.example/x?y", "a.example", "/x?y");
    check("HTTPS://a.example:8443", "a.example:8443", "");
    check("http://a.example?q", "a.example", "?q");
    check("/x", "other", "/x");
    for target in [
        "http:///x",
        "ftp://a/x",
        "a",
        "x/y",
        "http://u@a/",
        "/x#y",
        "*",
        "//[/../",
    ] {
        let refused = request(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).is_err();
        assert_eq!(refused, target != "//[/../", "{target:?}");
    }
    assert!(request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
}

#[test]
fn a_connection_lasts_as_its_version_and_fields_say() {
    let check = |version: &str, connection: &str, expected: bool| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        assert_eq!(
            request(&text).expect("valid").persistent,
            expected,
            "{version} {connection}"
        );
    };
    check("1.1", "x", true);
    check("1.1", "Close", false);
    check("1.1", "keep-alive, close", false);
    check("1.0", "x", false);
    check("1.0", "Keep-Alive", true);
}

#[test]
fn only_a_named_upgrade_that_is_not_h2c_is_one() {
    let check = |lines: &str, expected: bool| {
        assert_eq!(
            fields(lines).expect("valid").upgrade.is_some(),
            expected,
            "{lines:?}"
        );
    };
    check("Connection: Upgrade\r\nUpgrade: websocket\r\n", true);
    check(
        "Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n",
        true,
    );
    check("Upgrade: websocket\r\n", false);
    check(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
        false,
    );
    check("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", false);
    let old = request("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .expect("valid");
    assert!(old.upgrade.is_none());
}

#[test]
fn answers_are_framed_in_the_order_of_the_rfc() {
    let check = |head: &str, to_head: bool, expected: Framing| {
        let text = format!("HTTP/1.1 {head}\r\n\r\n");
        assert_eq!(
            response(&text, to_head).expect("valid").framing,
            expected,
            "{head:?}"
        );
    };
    check("200 OK\r\nContent-Length: 3", false, Framing::Length(3));
    check("200 OK\r\nContent-Length: 3", true, Framing::None);
    check(
        "200 OK\r\nTransfer-Encoding: chunked",
        false,
        Framing::Chunked,
    );
    check("200 OK\r\nTransfer-Encoding: chunked", true, Framing::None);
    check("200 OK", false, Framing::Close);
    check("204 No Content\r\nContent-Length: 3", false, Framing::None);
    check(
        "304 Not Modified\r\nContent-Length: 3",
        false,
        Framing::None,
    );
    check("103 Early Hints\r\nContent-Length: 3", false, Framing::None);
    check("200", false, Framing::Close);
    let both = response(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        false,
    );
    let both = both.expect("readable");
    assert_eq!((both.framing, both.persistent), (Framing::Chunked, false));
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
    ] {
        let mut head = ResponseHead::default();
        assert!(
            head.parse(text.as_bytes(), false).is_err(),
            "{text:?} was accepted"
        );
    }
}

#[test]
fn a_server_may_say_how_long_it_waits() {
    let head = response(
        "HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=7\r\nContent-Length: 0\r\n\r\n",
        false,
    );
    assert_eq!(
        head.expect("valid").keep_alive,
        Some(Duration::from_secs(7))
    );
}

#[test]
fn fields_beyond_the_limit_are_refused() {
    assert_eq!(
        fields(&"X: y\r\n".repeat(MAX_FIELDS)).expect_err("too many"),
        HeadError::TooManyFields
    );
    assert!(fields(&"X: y\r\n".repeat(MAX_FIELDS - 1)).is_ok());
}

proptest! {
    #[test]
    fn the_end_of_a_head_is_found_however_it_arrives(lines in prop::collection::vec("[a-z]{1,8}: [ -~]{0,20}", 0..6), cut in 1usize..40) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.iter().map(|line| format!("x-{line}\r\n")).collect::<String>());
        let bytes = text.as_bytes();
        let (mut searched, mut found) = (0, false);
        for end in (0..bytes.len()).step_by(cut).skip(1).chain([bytes.len()]) {
            found = has_end(&bytes[..end], searched);
            prop_assert!(!found || end == bytes.len());
            let mut head = RequestHead::default();
            prop_assert_eq!(head.parse(&bytes[..end]), Ok(end == bytes.len()));
            searched = end;
        }
        prop_assert!(found);
    }

    #[test]
    fn no_head_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = RequestHead::default().parse(&bytes);
        let _ = ResponseHead::default().parse(&bytes, false);
        let mut after = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        after.extend_from_slice(&bytes);
        let _ = RequestHead::default().parse(&after);
    }
}
