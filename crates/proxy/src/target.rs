//! What a request target may look like, for both protocols: one policy, documented in
//! `docs/operations.md`.
//!
//! A path is matched and forwarded byte by byte as it was sent: nothing is decoded, no slashes are
//! merged, so the backend sees what the route was chosen by. The one thing that would make both
//! disagree anyway is refused: a segment that is `.` or `..`, in whatever way it is written,
//! because most backends resolve it and would serve a path that another route is for.

/// Whether the path has a segment that a backend may resolve.
pub(crate) fn has_dot_segment(target: &[u8]) -> bool {
    // Nearly no path has a segment that starts with a dot, so this is all that most need.
    if !target.windows(2).any(may_begin) {
        return false;
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    segments(path).any(is_dots)
}

/// A separator, and a dot or what may be an escaped one.
fn may_begin(pair: &[u8]) -> bool {
    matches!(
        pair,
        [b'/' | b'\\' | b'f' | b'F' | b'c' | b'C', b'.' | b'%']
    )
}

/// The parts between slashes: plain ones, backslashes and escaped ones, which some servers take
/// for slashes.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let path = rest?;
        for (at, byte) in path.iter().enumerate() {
            let len = match byte {
                b'/' | b'\\' => 1,
                b'%' => match path.get(at + 1..at + 3) {
                    Some([b'2', b'f' | b'F'] | [b'5', b'c' | b'C']) => 3,
                    _ => continue,
                },
                _ => continue,
            };
            rest = Some(&path[at + len..]);
            return Some(&path[..at]);
        }
        rest = None;
        Some(path)
    })
}

/// `.` or `..`, escaped or not, perhaps with parameters (`..;x`), which some servers cut off.
fn is_dots(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    loop {
        rest = match rest {
            [] | [b';', ..] => return (1..=2).contains(&dots),
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
}

/// The path as a backend may read it: needless escapes undone (RFC 3986 §6.2.2.2), escaped slashes
/// and backslashes as slashes, and no empty segments. `None` if it is that already. Rules about who
/// may pass must hold for both.
pub(crate) fn resolved(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let is_odd = |pair: &[u8]| pair == b"//";
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\')) && !bytes.windows(2).any(is_odd) {
        return None;
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        let escaped = rest
            .strip_prefix('%')
            .and_then(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
        let (read, len) = match escaped {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~/\\".contains(&byte) => {
                (char::from(byte), 3)
            }
            _ => (next, next.len_utf8()),
        };
        let read = if read == '\\' { '/' } else { read };
        if read != '/' || !out.ends_with('/') {
            out.push(read);
        }
        rest = &rest[len..];
    }
    (out != path).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_a_backend_may_resolve_are_found_however_they_are_written() {
        for target in [
            "/.",
            "/..",
            "/a/..",
            "/a/../b",
            "/a/./b",
            "/a/..?q",
            "/./",
            "//..//",
            "/%2e",
            "/%2E%2e/",
            "/.%2e/x",
            "/%2e./x",
            "/a/..;x=y/b",
            "/a/.;/b",
            "/a\\..\\b",
            "/a%2f..%2fb",
            "/a%2F%2e%2e",
            "/a%5c..%5Cb",
        ] {
            assert!(has_dot_segment(target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn a_path_is_resolved_as_a_backend_may_read_it() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(resolved(path).as_deref(), expected, "{path}");
        };
        check("/admin", None);
        check("/a%20b", None);
        check("/a%zz%", None);
        check("/%+1x", None);
        check("/%61dmin", Some("/admin"));
        check("//admin", Some("/admin"));
        check("/a%2F%2fadmin", Some("/a/admin"));
        check("/a\\admin", Some("/a/admin"));
        check("/a%5Cadmin", Some("/a/admin"));
        check("/%7Ejoe/é", Some("/~joe/é"));
        check("/%2561dmin", None);
    }

    #[test]
    fn dots_that_are_names_and_all_else_are_left_alone() {
        for target in [
            "",
            "/",
            "*",
            "/a",
            "/a.b",
            "/...",
            "/.well-known/x",
            "/..a",
            "/a..",
            "/a...b/c",
            "/.git",
            "/%2ex",
            "/a%2fb",
            "/a//b",
            "/%00",
            "/%252e%252e",
            "/a?b=/../c",
            "/a?/..",
            "/f.c.F.%",
            "/;x",
        ] {
            assert!(!has_dot_segment(target.as_bytes()), "{target}");
        }
    }
}
