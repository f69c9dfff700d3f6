//! That nothing is read otherwise than by a parser that many others use.

use proptest::prelude::*;

use super::*;

/// Bytes at which something ends or goes wrong, and some at which nothing does.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        prop::sample::select(b"\r\n\t :\0\x1f\x20\x21\x7e\x7f\x80\xff#[]\"(),/".to_vec()),
        any::<u8>(),
        b'a'..=b'z',
        prop::sample::select(b"AZaz09-_.@[`{/:".to_vec()),
    ]
}

/// A head with something odd in one place.
fn head(start: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let line = "[A-Za-z-]{1,18}:[ \t]{0,2}[ -~\t]{0,40}\r\n";
    let lines = prop::collection::vec(line, 0..6);
    let odd = prop::collection::vec(byte(), 0..4);
    (lines, odd, any::<prop::sample::Index>()).prop_map(move |(lines, odd, place)| {
        let text = format!("{start}\r\n{}\r\n", lines.concat());
        let mut bytes = text.into_bytes();
        let at = place.index(bytes.len());
        bytes.splice(at..at, odd);
        bytes
    })
}

/// What both parsers say of a field.
type Read = (Vec<u8>, Vec<u8>);

fn ours(bytes: &[u8], line: Result<usize, Stop>) -> Result<(usize, Vec<Read>), Stop> {
    let mut list = Vec::new();
    let end = fields((bytes, line?), &mut list, Most::default(), |_| Ok(()))?;
    let read = list.iter().map(|field| {
        let (name, value) = (field.name.get(bytes), field.value.get(bytes));
        (name.to_vec(), value.to_vec())
    });
    Ok((end, read.collect()))
}

fn theirs(
    parsed: httparse::Result<usize>,
    fields: &[httparse::Header<'_>],
) -> Option<(usize, Vec<Read>)> {
    let Ok(httparse::Status::Complete(end)) = parsed else {
        return None;
    };
    let read = fields
        .iter()
        .map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec()));
    Some((end, read.collect()))
}

/// Whether a line ends in something else than CRLF, which `httparse` allows.
fn has_bare_lf(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r'))
}

/// That the same was read, or nothing by either; only where lines end `httparse` allows more.
fn agree(
    bytes: &[u8],
    ours: Result<(usize, Vec<Read>), Stop>,
    theirs: Option<(usize, Vec<Read>)>,
) -> Result<(), TestCaseError> {
    match (ours, theirs) {
        (Ok(ours), Some(theirs)) => prop_assert_eq!(ours, theirs),
        (Err(_), None) => {}
        (Err(Stop::Bad(_)), Some((end, _))) => {
            let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
            let is_lenient = has_bare_lf(&bytes[..end]) || start != Some(0);
            prop_assert!(is_lenient, "{:?}", bytes.escape_ascii().to_string());
        }
        (ours, theirs) => prop_assert!(false, "{ours:?} {theirs:?}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn requests_are_read_as_httparse_reads_them(bytes in head("GET /a?b HTTP/1.1")) {
        let mut space = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut space);
        let parsed = request.parse(&bytes);
        let theirs = theirs(parsed, request.headers);
        let line = request_line(&bytes);
        if let (Ok(line), Some(method), Some(target)) = (&line, request.method, request.path) {
            prop_assert_eq!(line.method.get(&bytes), method.as_bytes());
            prop_assert_eq!(line.target.get(&bytes), target.as_bytes());
        }
        agree(&bytes, ours(&bytes, line.map(|line| line.end)), theirs)?;
    }

    #[test]
    fn answers_are_read_as_httparse_reads_them(bytes in head("HTTP/1.0 200 All right")) {
        let mut space = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut space);
        let parsed = response.parse(&bytes);
        let theirs = theirs(parsed, response.headers);
        let line = status_line(&bytes, 0);
        if let (Ok(line), Some(code), Some(reason)) = (&line, response.code, response.reason) {
            prop_assert_eq!(line.status, code);
            prop_assert_eq!(line.reason.get(&bytes), reason.as_bytes());
        }
        agree(&bytes, ours(&bytes, line.map(|line| line.end)), theirs)?;
    }

    #[test]
    fn an_end_is_found_wherever_it_stands(mut bytes in prop::collection::vec(byte(), 0..40), name in "[A-Za-z0-9-]{0,30}", at in 0usize..40) {
        let at = at.min(bytes.len());
        bytes.splice(at..at, name.into_bytes());
        let text = &bytes[at.min(bytes.len())..];
        let slow = |is_stop: &dyn Fn(u8) -> bool| {
            let found = text.iter().position(|byte| is_stop(*byte));
            found.unwrap_or(text.len())
        };
        prop_assert_eq!(token_len(text), slow(&|byte| !TOKEN[usize::from(byte)]));
        prop_assert_eq!(visible_len(text), slow(&|byte| byte < 0x21 || byte == 0x7f));
        let is_value = |byte: u8| byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        prop_assert_eq!(value_len(text), slow(&|byte| !is_value(byte)));
    }
}

#[test]
fn a_head_is_partial_until_its_last_byte() {
    let whole = b"PUT /x HTTP/1.1\r\nHost: a\r\nX:\t b \t\r\n\r\n";
    for end in 0..whole.len() {
        let part = &whole[..end];
        let read = ours(part, request_line(part).map(|line| line.end));
        assert_eq!(
            read,
            Err(Stop::Partial),
            "{:?}",
            part.escape_ascii().to_string()
        );
    }
    let (end, read) = ours(whole, request_line(whole).map(|line| line.end)).expect("whole");
    assert_eq!(end, whole.len());
    assert_eq!(read[1], (b"X".to_vec(), b"b".to_vec()));
}
