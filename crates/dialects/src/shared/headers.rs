//! Header names and values that users write.
//!
//! Refused: what would break the framing of the request, or smuggle a second header into it.

use std::sync::Arc;

/// Headers that belong to the connection or the message framing, and `host`, which has a field of
/// its own wherever it may be changed.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// The name in lower case, if it is a token (RFC 9110, 5.6.2).
pub(crate) fn name(text: &str) -> Result<Arc<str>, String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(token) {
        return Err(format!("{text:?} is not a header name"));
    }
    Ok(text.to_ascii_lowercase().into())
}

/// A name and value that may be set on requests.
pub(crate) fn settable(name_text: &str, value: &str) -> Result<(Arc<str>, Arc<str>), String> {
    let name = name(name_text)?;
    if RESERVED.contains(&&*name) {
        return Err(format!(
            "header {name} cannot be set, it belongs to the connection"
        ));
    }
    Ok((name, self::value(value)?))
}

/// A value without CR, LF and NUL (RFC 9110, 5.5).
pub(crate) fn value(text: &str) -> Result<Arc<str>, String> {
    if text.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err("the value holds CR, LF or NUL".to_owned());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_and_connection_headers_are_refused() {
        assert_eq!(settable("X-Tag", "a b"), Ok(("x-tag".into(), "a b".into())));
        assert!(settable("x-tag", "a\r\nhost: evil").is_err());
        assert!(settable("x-tag", "a\0").is_err());
        assert!(settable("x tag", "a").is_err());
        assert!(settable("", "a").is_err());
        assert!(settable("Transfer-Encoding", "chunked").is_err());
        assert!(settable("Host", "other").is_err());
    }
}
