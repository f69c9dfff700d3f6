//! NGINX's text for a location: a URL in which a few variables stand for parts of the request.

use std::sync::Arc;

use routing::model::{PathEdit, RedirectPort};

/// What NGINX's text for a location says: scheme, host and port if it names them, and the path.
pub(crate) struct Location {
    pub(crate) scheme: Option<Arc<str>>,
    pub(crate) host: Option<Arc<str>>,
    pub(crate) port: RedirectPort,
    pub(crate) path: Option<PathEdit>,
    pub(crate) keeps_query: bool,
}

/// Reads it.
pub(crate) fn parse(text: &str) -> Result<Location, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let mut keeps_host = ["$http_host", "$host"].iter();
    let after_host = keeps_host.find_map(|name| rest.strip_prefix(name));
    let (authority, path) = match (scheme, after_host, rest.find(['/', '$'])) {
        (None, _, _) => ("", rest),
        (Some(_), Some(after), _) => ("", after),
        (Some(_), None, Some(at)) => rest.split_at(at),
        (Some(_), None, None) => (rest, ""),
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
        scheme: scheme.filter(|it| *it != "$scheme").map(Into::into),
        host: (!host.is_empty()).then(|| host.into()),
        port,
        path,
        keeps_query,
    })
}
