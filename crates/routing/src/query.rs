//! Query parameters of a request target, decoded as HTML forms write them.

use std::borrow::Cow;

/// The first value of a parameter. A parameter without `=` has an empty value.
pub(crate) fn first<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty() && *decode(key) == *name.as_bytes()).then(|| decode(value))
    })
}

/// Undoes `+` and percent-encoding; what is no valid escape stands for itself.
fn decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = match bytes[at] {
            b'%' => bytes.get(at + 1..at + 3).and_then(hex),
            _ => None,
        };
        match (bytes[at], escaped) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (byte, None) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(digits[0])? * 16 + digit(digits[1])?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_counts_and_escapes_are_undone() {
        let check = |query: &str, name: &str, expected: Option<&str>| {
            let found =
                first(query, name).map(|value| String::from_utf8_lossy(&value).into_owned());
            assert_eq!(found.as_deref(), expected, "{query} {name}");
        };
        check("a=1&a=2", "a", Some("1"));
        check("x&a", "a", Some(""));
        check("animal=blue%20whale", "animal", Some("blue whale"));
        check("animal=blue+whale", "animal", Some("blue whale"));
        check("%61=1", "a", Some("1"));
        check("a=100%", "a", Some("100%"));
        check("a=%zz", "a", Some("%zz"));
        check("", "a", None);
        check("&&", "", None);
    }
}
