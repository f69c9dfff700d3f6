//! The chunked coding, byte by byte and split anywhere.

use proptest::prelude::*;

use super::super::body::{Framing, Reader};
use super::*;

/// Body, trailers, and how much of the input they were.
type Got = (Vec<u8>, Vec<String>, usize);

/// Decodes `input`, given in parts of these lengths.
fn decode(input: &[u8], mut cuts: impl FnMut() -> usize) -> Result<Option<Got>, ChunkError> {
    let mut reader = Reader::new(Framing::Chunked);
    let mut body = Vec::new();
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let end = (at + cuts().max(1)).min(input.len());
        buffer.extend_from_slice(&input[at..end]);
        at = end;
        let decoded = reader.decode(&mut buffer)?;
        body.extend_from_slice(&buffer[decoded.start..decoded.start + decoded.len]);
        buffer.drain(..decoded.consumed);
        if decoded.last {
            let trailers = decoded.trailers.iter().flat_map(|all| all.iter());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
            let trailers = trailers.map(|(name, value)| format!("{}={}", text(name), text(value)));
            return Ok(Some((body, trailers.collect(), at - buffer.len())));
        }
    }
    Ok(None)
}

fn check(input: &str, expected: &str, trailers: &[&str]) {
    let (body, got, consumed) = decode(input.as_bytes(), || usize::MAX / 2)
        .expect("valid")
        .expect("complete");
    assert_eq!(
        (String::from_utf8_lossy(&body).as_ref(), consumed),
        (expected, input.len()),
        "{input:?}"
    );
    assert_eq!(got, trailers, "{input:?}");
}

#[test]
fn chunks_are_joined_and_extensions_dropped() {
    check("0\r\n\r\n", "", &[]);
    check("5\r\nhello\r\n0\r\n\r\n", "hello", &[]);
    check(
        "5\r\nhello\r\n006;a=b;c=\"d\"\r\n world\r\nA \t\r\n0123456789\r\n0\r\n\r\n",
        "hello world0123456789",
        &[],
    );
}

#[test]
fn trailers_that_frame_route_or_authenticate_are_dropped() {
    check(
        "1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\nHost: evil\r\nTransfer-Encoding: x\r\nK-Network-Hash: h\r\n\
         Authorization: y\r\nX-More: 2\r\n\r\n",
        "a",
        &["x-sum=1", "x-more=2"],
    );
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    for input in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\na\r\n",
        "0x1\r\na\r\n",
        " 1\r\na\r\n",
        "1 0\r\na\r\n",
        "1 x\r\na\r\n",
        "1\tx=y\r\na\r\n",
        "0 1\r\n\r\n",
        "1\na\r\n",
        "1\r\na\n",
        "1\r\nab\r\n",
        "1\ra\r\n",
        "1;a\nb\r\na\r\n",
        "1;a\0\r\na\r\n",
        "1;a\rb\r\na\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000001\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n folded\r\n\r\n",
    ] {
        assert!(
            decode(input.as_bytes(), || usize::MAX / 2).is_err(),
            "{input:?} was accepted"
        );
    }
}

#[test]
fn framing_cannot_outgrow_its_bounds() {
    let long = format!("1;{}\r\na\r\n", "x".repeat(MAX_EXTENSIONS + 1));
    assert!(decode(long.as_bytes(), || 1000).is_err());
    let many = "1;x=y\r\na\r\n".repeat(MAX_EXTENSIONS / 3 + 1);
    assert!(decode(many.as_bytes(), || 1000).is_err());
    let trailers = format!("0\r\n{}", "X: y\r\n".repeat(MAX_TRAILERS / 6 + 2));
    assert!(decode(trailers.as_bytes(), || 1000).is_err());
}

proptest! {
    #[test]
    fn any_split_decodes_alike(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        trailer in any::<bool>(),
        after in prop::collection::vec(any::<u8>(), 0..8),
        cuts in prop::collection::vec(1usize..20, 1..50),
    ) {
        let mut input = Vec::new();
        for chunk in &chunks {
            input.extend_from_slice(format!("{:x};e\r\n", chunk.len()).as_bytes());
            input.extend_from_slice(chunk);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(if trailer { b"0\r\nA: b\r\n\r\n" } else { b"0\r\n\r\n" });
        let len = input.len();
        input.extend_from_slice(&after);
        let mut cuts = cuts.into_iter().cycle();
        let (body, trailers, consumed) = decode(&input, || cuts.next().unwrap_or(1))?.expect("complete");
        prop_assert_eq!(body, chunks.concat());
        prop_assert_eq!(trailers.len(), usize::from(trailer));
        prop_assert_eq!(consumed, len);
    }

    #[test]
    fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(1usize..20, 1..50)) {
        let mut cuts = cuts.into_iter().cycle();
        let _ = decode(&input, || cuts.next().unwrap_or(1));
    }
}
