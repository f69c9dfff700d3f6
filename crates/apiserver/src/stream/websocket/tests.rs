//! A client's frames, good and bad, against the server's reader.

use super::*;

/// A client's frame: the first byte, the payload, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match u16::try_from(payload.len()) {
        Ok(short @ ..126) => out.push(0x80 | short as u8),
        Ok(middle) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask, 0);
    out
}

/// Every event until the end, and whether the end was an error.
async fn read(bytes: &[u8]) -> (Vec<Event>, bool) {
    let mut reader = Reader::new(bytes);
    let mut events = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, false),
            Err(_) => return (events, true),
        }
    }
}

#[test]
fn the_key_of_the_standard_has_the_answer_of_the_standard() {
    // RFC 6455, 1.3.
    let answer = accept("dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[tokio::test]
async fn a_message_comes_in_bounded_pieces_whatever_its_frames() {
    let long = vec![9; 3 * PIECE];
    let bytes = [
        frame(BINARY, b"one "),
        frame(0x80 | PING, b"there?"),
        frame(0x80, &long),
        frame(0x80 | CLOSE, &[]),
    ]
    .concat();
    let (events, failed) = read(&bytes).await;
    assert!(!failed);
    let mut message = Vec::new();
    let (mut begins, mut ends) = (0, 0);
    for event in &events {
        if let Event::Data { first, last, bytes } = event {
            assert!(bytes.len() <= PIECE);
            message.extend_from_slice(bytes);
            begins += usize::from(*first);
            ends += usize::from(*last);
        }
    }
    assert_eq!((begins, ends), (1, 1));
    assert_eq!(message, [b"one ".as_slice(), &long].concat());
    assert!(events.contains(&Event::Ping(Bytes::from_static(b"there?"))));
    assert_eq!(events.last(), Some(&Event::Close));
}

#[tokio::test]
async fn frames_that_no_client_may_send_are_errors() {
    let mut unmasked = frame(0x80 | BINARY, b"x");
    unmasked[1] &= 0x7f;
    let mut huge = vec![0x80 | BINARY, 0x80 | 127];
    huge.extend_from_slice(&[0xff; 12]);
    let mut cut = frame(0x80 | BINARY, b"hello");
    cut.pop();
    let cases = [
        ("no mask", unmasked),
        ("a length of 64 bits", huge),
        ("the end inside a frame", cut),
        ("a reserved bit", frame(0xc0 | BINARY, b"x")),
        ("an unknown kind", frame(0x83, b"x")),
        ("a rest without a begin", frame(0x80, b"x")),
        (
            "a begin inside a message",
            [frame(BINARY, b"x"), frame(0x80 | BINARY, b"y")].concat(),
        ),
        ("a ping in parts", frame(PING, b"x")),
        ("a long ping", frame(0x80 | PING, &[0; 126])),
    ];
    for (name, bytes) in cases {
        assert!(read(&bytes).await.1, "{name} is accepted");
    }
}
