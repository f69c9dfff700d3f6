//! `redirect`, and the replacement of paths by expressions.

use routing::model::{PathEdit, Redirect, RedirectPort};

use super::plugin::Effects;
use crate::fields::Fields;
use crate::shared::location;

/// `[expression, replacement]` with `$1` to `$9`.
pub(super) fn regex_uri(config: &Fields<'_>) -> Option<PathEdit> {
    let parts = config.strings("regex_uri");
    let [pattern, with] = parts.as_slice() else {
        if !parts.is_empty() {
            let message = "regex_uri needs one expression and one replacement";
            config.refuse("regex_uri", "FieldInvalid", message);
        }
        return None;
    };
    if let Err(error) = routing::regex::compile(pattern) {
        config.refuse("regex_uri", "RegexInvalid", error);
        return None;
    }
    if with.contains("://") || with.contains('?') {
        let message = "the replacement is a path: schemes, hosts and queries stay";
        config.refuse("regex_uri", "FieldNotSupported", message);
        return None;
    }
    let mut out = String::new();
    let mut rest = with.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => out.push_str(r"\\"),
            '$' if rest.peek().is_some_and(char::is_ascii_digit) => out.push('\\'),
            other => out.push(other),
        }
    }
    Some(PathEdit::Regex {
        pattern: (*pattern).into(),
        with: out.into(),
    })
}

/// `redirect`.
pub(super) fn read(config: &Fields<'_>, effects: &mut Effects) {
    let status = config.number::<u16>("ret_code").unwrap_or(302);
    let appends = config.bool("append_query_string") == Some(true);
    config.ignore("encode_uri");
    if config.bool("http_to_https") == Some(true) {
        effects.to_https = true;
        for key in ["uri", "regex_uri"] {
            config.unsupported(key, "http_to_https is there too, and decides");
        }
        return;
    }
    let status = if (300..400).contains(&status) {
        status
    } else {
        let message = format!("ret_code {status} is no redirect: 302 is used");
        config.refuse("ret_code", "FieldInvalid", message);
        302
    };
    if let Some(path) = regex_uri(config) {
        effects.redirect = Some(Redirect {
            scheme: None,
            host: None,
            port: RedirectPort::Listener,
            path: Some(path),
            strip_query: !appends,
            status,
        });
        return;
    }
    if let Some(location) = config.parse("uri", location::parse) {
        effects.redirect = Some(Redirect {
            scheme: location.scheme,
            host: location.host,
            port: location.port,
            path: location.path,
            strip_query: !appends && !location.keeps_query,
            status,
        });
    }
}
