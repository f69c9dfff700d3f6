//! `redirect`, and the replacement of paths by expressions.

use std::sync::Arc;

use routing::model::{PathEdit, Redirect, RedirectPort};

use super::plugin::Effects;
use crate::fields::Fields;

/// What NGINX's text for a location says: scheme, host and port if it names them, and the path.
struct Location {
    scheme: Option<Arc<str>>,
    host: Option<Arc<str>>,
    port: RedirectPort,
    path: Option<PathEdit>,
    keeps_query: bool,
}

fn location(text: &str) -> Result<Location, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (authority, path) = match (scheme, rest.find(['/', '$'])) {
        (None, _) => ("", rest),
        (Some(_), _) if rest.starts_with("$host") => ("", &rest["$host".len()..]),
        (Some(_), Some(at)) => rest.split_at(at),
        (Some(_), None) => (rest, ""),
    };
    let (path, keeps_query) = match path {
        "" | "$request_uri" => (None, true),
        "$uri" => (None, false),
        literal if literal.contains(['$', '?']) => {
            return Err(format!(
                "{text:?} is not supported: of variables $request_uri and $uri may stand for the \
                 path and $host for the host"
            ));
        }
        literal => (Some(PathEdit::Full(literal.into())), false),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse();
            let port = port.map_err(|_| format!("{text:?} has no port that is a number"))?;
            (host, RedirectPort::Number(port))
        }
        None if scheme.is_some() => (authority, RedirectPort::WellKnown),
        None => (authority, RedirectPort::Listener),
    };
    Ok(Location {
        scheme: scheme.map(Into::into),
        host: (!host.is_empty()).then(|| host.into()),
        port,
        path,
        keeps_query,
    })
}

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
    if let Some(location) = config.parse("uri", location) {
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
