//! Requests as the letter of RFC 9112 has them and no further: the judge of what a proxy sends.
//! Knows nothing of the gateway's own parser, on purpose.

/// A request that was read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) target: String,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    /// Of its body, without the coding.
    pub(super) length: usize,
    /// Names of the fields behind the body, in lower case.
    pub(super) trailers: Vec<String>,
}

/// A body's length, where it ends, and the names behind it.
type Body = (usize, usize, Vec<String>);

impl Request {
    pub(super) fn values<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        let fields = self.fields.iter().filter(move |(known, _)| known == name);
        fields.map(|(_, value)| value.as_str())
    }
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Nothing that is complete.
    Partial,
    /// A request and its length with its body.
    Whole(Request, usize),
    /// What two readers may read in two ways.
    Bad(&'static str),
}

/// All requests of a connection, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) requests: Vec<Request>,
    /// Why reading ended before the end.
    pub(super) bad: Option<&'static str>,
}

pub(super) fn all(mut bytes: &[u8]) -> Carried {
    let mut carried = Carried::default();
    loop {
        match first(bytes) {
            First::Partial => return carried,
            First::Whole(request, len) => {
                carried.requests.push(request);
                bytes = &bytes[len..];
            }
            First::Bad(why) => {
                carried.bad = Some(why);
                return carried;
            }
        }
    }
}

pub(super) fn first(bytes: &[u8]) -> First {
    match read(bytes) {
        Ok(Some((request, len))) => First::Whole(request, len),
        Ok(None) => First::Partial,
        Err(why) => First::Bad(why),
    }
}

/// `None`: more bytes are needed.
type Step<T> = Result<Option<T>, &'static str>;

fn read(bytes: &[u8]) -> Step<(Request, usize)> {
    let mut at = 0;
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    let Some((start, next)) = line(bytes, at)? else {
        return Ok(None);
    };
    let (target, is_11) = start_line(start)?;
    let Some((fields, at)) = fields(bytes, next)? else {
        return Ok(None);
    };
    let mut request = Request {
        target,
        fields,
        ..Request::default()
    };
    let Some((length, end, trailers)) = body(&request, is_11, bytes, at)? else {
        return Ok(None);
    };
    (request.length, request.trailers) = (length, trailers);
    Ok(Some((request, end)))
}

/// A line without its CRLF, and where the next begins.
fn line(bytes: &[u8], at: usize) -> Step<(&[u8], usize)> {
    for (place, byte) in bytes.iter().enumerate().skip(at) {
        match (byte, bytes.get(place + 1)) {
            (b'\r', Some(b'\n')) => return Ok(Some((&bytes[at..place], place + 2))),
            (b'\r', None) => return Ok(None),
            (b'\r', _) => return Err("a CR without LF"),
            (b'\n', _) => return Err("an LF without CR"),
            (0, _) => return Err("a NUL"),
            _ => {}
        }
    }
    Ok(None)
}

fn is_token(text: &[u8]) -> bool {
    let is_mark = |byte: &u8| b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

/// The target, and whether the version is 1.1.
fn start_line(line: &[u8]) -> Result<(String, bool), &'static str> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("a start line of other than three words");
    };
    let is_url = target
        .first_chunk::<7>()
        .is_some_and(|start| start.eq_ignore_ascii_case(b"http://"));
    let is_target = target.starts_with(b"/") || target == b"*" || is_url;
    let is_clean = target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    if !is_token(method) || method == b"CONNECT" || !is_target || !is_clean {
        return Err("a start line that is not valid");
    }
    let target = String::from_utf8_lossy(target).into_owned();
    match version {
        b"HTTP/1.1" => Ok((target, true)),
        b"HTTP/1.0" => Ok((target, false)),
        _ => Err("a version that is not 1.0 or 1.1"),
    }
}

/// Fields up to the empty line, and where that ends.
#[allow(clippy::type_complexity)]
fn fields(bytes: &[u8], mut at: usize) -> Step<(Vec<(String, String)>, usize)> {
    let mut fields = Vec::new();
    loop {
        let Some((line, next)) = line(bytes, at)? else {
            return Ok(None);
        };
        at = next;
        if line.is_empty() {
            return Ok(Some((fields, at)));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or("a field without a colon")?);
        if !is_token(name) {
            return Err("a field whose name is no token");
        }
        let value = &value[1..];
        if value
            .iter()
            .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
        {
            return Err("a control byte in a field");
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = String::from_utf8_lossy(value.trim_ascii()).into_owned();
        fields.push((name, value));
    }
}

fn body(request: &Request, is_11: bool, bytes: &[u8], at: usize) -> Step<Body> {
    let hosts: Vec<&str> = request.values("host").collect();
    match hosts.as_slice() {
        [host] if !host.contains([' ', '\t', '/', '@', '?', '#', '\\']) => {}
        [] if !is_11 => {}
        _ => return Err("no Host, several, or one that is not valid"),
    }
    let lengths: Vec<&str> = request.values("content-length").collect();
    let codings: Vec<&str> = request.values("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Some((0, at, Vec::new()))),
        ([length], []) if !length.is_empty() && length.bytes().all(|it| it.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a length that is too large")?;
            let is_there = bytes.len() - at >= length;
            Ok(is_there.then(|| (length, at + length, Vec::new())))
        }
        ([], [coding]) if is_11 && coding.eq_ignore_ascii_case("chunked") => chunks(bytes, at),
        ([], _) => Err("a coding other than chunked once, or before 1.1"),
        (_, []) => Err("several lengths, or one that is no number"),
        _ => Err("both a length and a coding"),
    }
}

fn chunks(bytes: &[u8], mut at: usize) -> Step<Body> {
    let mut length = 0;
    loop {
        let Some((size, next)) = line(bytes, at)? else {
            return Ok(None);
        };
        // Nobody we know of passes extensions on.
        let is_size = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        if !is_size {
            return Err("a chunk size that is no number");
        }
        let size = usize::from_str_radix(&String::from_utf8_lossy(size), 16)
            .map_err(|_| "a chunk size that is too large")?;
        if size == 0 {
            let Some((trailers, end)) = fields(bytes, next)? else {
                return Ok(None);
            };
            let names = trailers.into_iter().map(|(name, _)| name).collect();
            return Ok(Some((length, end, names)));
        }
        let end = next + size;
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Err("a chunk that does not end in CRLF"),
            None => return Ok(None),
        }
        length += size;
        at = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_one_after_the_other() {
        let bytes = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
            POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n\
            GET /c HTTP/1.1\r\nHost: h\r\n\r\nGET /d HTTP";
        let carried = all(bytes);
        let seen: Vec<(&str, usize)> = carried
            .requests
            .iter()
            .map(|request| (request.target.as_str(), request.length))
            .collect();
        assert_eq!(seen, [("/a", 3), ("/b", 3), ("/c", 0)]);
        assert_eq!(carried.bad, None);
    }

    #[test]
    fn what_two_readers_may_read_in_two_ways_is_bad() {
        for bytes in [
            "GET /a HTTP/1.1\nHost: h\n\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nX: y\rz\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            "GET /a HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: x\r\n\r\n",
            "GET /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : x\r\n\r\n",
        ] {
            assert!(
                matches!(first(bytes.as_bytes()), First::Bad(_)),
                "{bytes:?}"
            );
        }
    }
}
