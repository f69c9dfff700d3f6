//! `auth-url`: a service that is asked about every request, as NGINX's `auth_request` does.

use std::sync::Arc;

use routing::model::{AuthRequest, UrlPart};

use super::{Annotations, words};
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Name, Reader};
use crate::shared::headers;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE",
];

/// The variables that may stand in a header for the service.
fn told_variable(name: &str) -> Option<UrlPart> {
    let cookie = || name.strip_prefix("cookie_");
    Some(match name {
        "request_method" => UrlPart::Method,
        "remote_addr" => UrlPart::Client,
        "best_http_host" => UrlPart::Authority,
        _ if variable(name).is_some() => return variable(name),
        _ => match (name.strip_prefix("http_"), cookie()) {
            (Some(header), _) if !header.is_empty() => {
                UrlPart::Header(header.replace('_', "-").to_ascii_lowercase().into())
            }
            (_, Some(cookie)) if !cookie.is_empty() => UrlPart::Cookie(cookie.into()),
            _ => return None,
        },
    })
}

/// A header for the service.
fn told(name: &str, value: &str) -> Result<(Arc<str>, Vec<UrlPart>), String> {
    let (name, value) = headers::settable(name, value.trim())?;
    let known = "of variables $scheme, $host, $http_host, $request_uri, $escaped_request_uri, \
                 $request_method, $remote_addr, $http_NAME and $cookie_NAME are served";
    Ok((name, split(&value, told_variable, known)?))
}

/// The variables that may stand in a URL.
fn variable(name: &str) -> Option<UrlPart> {
    Some(match name {
        "scheme" | "pass_access_scheme" => UrlPart::Scheme,
        "host" => UrlPart::Host,
        "http_host" => UrlPart::Authority,
        "request_uri" => UrlPart::Target,
        "escaped_request_uri" => UrlPart::EscapedTarget,
        _ => return None,
    })
}

/// Who is asked, and how.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ingress) struct Auth {
    /// The annotation that names it.
    pub(in crate::ingress) key: String,
    pub(in crate::ingress) is_tls: bool,
    /// `None` is the host of the rule.
    pub(in crate::ingress) host: Option<Arc<str>>,
    pub(in crate::ingress) port: u16,
    /// Headers of its answer that are set on the request.
    pub(in crate::ingress) headers: Vec<Arc<str>>,
    /// For the host that is asked, which is not said here.
    pub(in crate::ingress) request: AuthRequest,
}

impl Annotations<'_> {
    pub(super) fn auth(&mut self, reader: &Reader<'_>) -> Option<Auth> {
        let (key, url) = self.take("auth-url").filter(|(_, url)| !url.is_empty())?;
        // Connections are kept anyway; its cookies are set whatever the answer's status is.
        for short in [
            "auth-always-set-cookie",
            "auth-keepalive",
            "auth-keepalive-requests",
            "auth-keepalive-share-vars",
            "auth-keepalive-timeout",
        ] {
            self.take(short);
        }
        if let Some((key, _)) = self.take("auth-snippet").filter(|(_, it)| !it.is_empty()) {
            let why = "what it would tell the service of auth-url is not supported; write headers \
                       for it into a ConfigMap, and that into auth-proxy-set-headers";
            self.close(key, why);
        }
        let set = self.told(reader);
        let parsed = match place(url) {
            Ok(parsed) => parsed,
            Err(why) => {
                self.close(key, &why);
                return None;
            }
        };
        let method = match self.take("auth-method").filter(|(_, it)| !it.is_empty()) {
            None => "GET",
            Some((_, method)) if METHODS.contains(&method) => method,
            Some((key, method)) => {
                self.close(key, &format!("{method:?} is no method"));
                return None;
            }
        };
        let mut names = Vec::new();
        if let Some((key, list)) = self.take("auth-response-headers") {
            for word in words(list) {
                match headers::settable(word, "") {
                    Ok((name, _)) => names.push(name),
                    Err(error) => self.close(key, &error),
                }
            }
        }
        let redirect = self.url("auth-request-redirect", str::to_owned);
        let param = self.text("auth-signin-redirect-param").unwrap_or_default();
        let param = if param.is_empty() { "rd" } else { param };
        let sign_in = self.url("auth-signin", |url| sign_in(url, param));
        if self.closed {
            // Nobody passes: nobody needs to be asked, least of all without what is to be said.
            return None;
        }
        Some(Auth {
            key: key.to_owned(),
            is_tls: parsed.is_tls,
            host: parsed.host,
            port: parsed.port,
            headers: names,
            request: AuthRequest {
                method: method.into(),
                host: "".into(),
                target: parsed.target,
                redirect: redirect.unwrap_or_else(|| vec![UrlPart::Target]),
                sign_in: sign_in.unwrap_or_default(),
                headers: set,
            },
        })
    }

    /// The headers of `auth-proxy-set-headers`, which are in a ConfigMap.
    fn told(&mut self, reader: &Reader<'_>) -> Vec<(Arc<str>, Vec<UrlPart>)> {
        let named = self.take("auth-proxy-set-headers");
        let Some((key, map)) = named.filter(|(_, map)| !map.is_empty()) else {
            return Vec::new();
        };
        let own = Arc::clone(&self.name.namespace);
        let (namespace, map) = map.split_once('/').unwrap_or((&own, map));
        if *namespace != *own {
            self.close(key, "the ConfigMap must be in the Ingress's own namespace");
            return Vec::new();
        }
        let name = Name::new(namespace, map);
        let Some(data) = reader.config_map(&name) else {
            self.closed = true;
            let message = format!(
                "ConfigMap {name} does not exist; its paths answer 503. Create it with `kubectl \
                 create configmap {map} --from-literal=X-Header=value`"
            );
            let field = format!("metadata.annotations[{key}]");
            let missing = Diagnostic::new(Effect::Waiting, "ConfigMapMissing", &field, message);
            self.found.push(missing);
            return Vec::new();
        };
        let mut set = Vec::new();
        for (header, value) in data.iter() {
            match told(header, value) {
                Ok(header) => set.push(header),
                Err(why) => self.close(key, &format!("ConfigMap {name}, key {header}: {why}")),
            }
        }
        set
    }

    /// The URL of an annotation.
    fn url(&mut self, short: &str, full: impl Fn(&str) -> String) -> Option<Vec<UrlPart>> {
        let (key, text) = self.take(short).filter(|(_, text)| !text.is_empty())?;
        match parts(&full(text)) {
            Ok(parts) => Some(parts),
            Err(why) => {
                self.refuse(key, &why);
                None
            }
        }
    }
}

/// Where the service is.
struct Place {
    is_tls: bool,
    host: Option<Arc<str>>,
    port: u16,
    target: Vec<UrlPart>,
}

/// `http(s)://host[:port][/path][?query]`.
fn place(url: &str) -> Result<Place, String> {
    let form = || format!("{url:?} is not of the form http(s)://host[:port]/path");
    let (scheme, rest) = url.split_once("://").ok_or_else(form)?;
    let is_tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(form()),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    let usual = if is_tls { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| form())?),
        None => (authority, usual),
    };
    let host = match host {
        "$host" | "$http_host" => None,
        "" => return Err(form()),
        name if name.contains(['$', '@', ':', '[']) => {
            return Err(format!("{name:?} is no host: write a name, or $host alone"));
        }
        name => Some(name.to_ascii_lowercase().into()),
    };
    let target = match target {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    Ok(Place {
        is_tls,
        host,
        port,
        target: parts(&target)?,
    })
}

/// NGINX's text for a URL.
fn parts(text: &str) -> Result<Vec<UrlPart>, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{text:?} is no URL"));
    }
    let known = "of variables $scheme, $host, $http_host, $request_uri and $escaped_request_uri \
                 are served";
    split(text, variable, known)
}

/// NGINX's text with variables.
fn split(
    text: &str,
    variable: impl Fn(&str) -> Option<UrlPart>,
    known: &str,
) -> Result<Vec<UrlPart>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        if !before.is_empty() {
            parts.push(UrlPart::Text(before.into()));
        }
        let (name, next) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
            None => {
                let is_name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
                let end = after.find(|letter| !is_name(letter));
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        let Some(part) = variable(name) else {
            return Err(format!("{text:?} has the variable ${name}: {known}"));
        };
        parts.push(part);
        rest = next;
    }
    if !rest.is_empty() {
        parts.push(UrlPart::Text(rest.into()));
    }
    Ok(parts)
}

/// `auth-signin` with the URL that was asked for in the parameter, if that has no value yet.
fn sign_in(url: &str, param: &str) -> String {
    const ASKED: &str = "$scheme://$http_host$escaped_request_uri";
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    if pairs.any(|(name, value)| name == param && !value.is_empty()) {
        return url.to_owned();
    }
    let between = match (url.contains('?'), query.is_empty()) {
        (false, _) => "?",
        (true, true) => "",
        (true, false) => "&",
    };
    format!("{url}{between}{param}={ASKED}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_service_is_comes_from_its_url() {
        let at = |url: &str| {
            let place = place(url)?;
            let host = place.host.map(|host| host.to_string());
            Ok::<_, String>((place.is_tls, host, place.port, place.target))
        };
        let text = |text: &str| vec![UrlPart::Text(text.into())];
        let host = |name: &str| Some(name.to_owned());
        let plain = at("http://Auth.example/check?a=b");
        assert_eq!(
            plain,
            Ok((false, host("auth.example"), 80, text("/check?a=b")))
        );
        let port = at("https://auth.ns.svc.cluster.local:8443");
        let name = host("auth.ns.svc.cluster.local");
        assert_eq!(port, Ok((true, name, 8443, text("/"))));
        let own = at("https://$host/oauth2/auth");
        assert_eq!(own, Ok((true, None, 443, text("/oauth2/auth"))));
        let variables = at("http://a?x=$scheme${request_uri}");
        let parts = [text("/?x="), vec![UrlPart::Scheme, UrlPart::Target]].concat();
        assert_eq!(variables, Ok((false, host("a"), 80, parts)));
        for wrong in [
            "auth.example/check",
            "ftp://a",
            "http://",
            "http://a:b/",
            "http://x$host/",
            "http://user@a/",
            "http://a/$remote_user",
            "http://a/ b",
            "http://[::1]/",
        ] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_for_the_service_are_texts_with_variables() {
        let parts = |value: &str| told("X-A", value).map(|(_, parts)| parts);
        let text = |text: &str| UrlPart::Text(text.into());
        assert_eq!(parts("plain \n"), Ok(vec![text("plain")]));
        assert_eq!(parts(""), Ok(Vec::new()));
        let many = "${http_X_Team}/$cookie_Sid at $http_host";
        let expected = vec![
            UrlPart::Header("x-team".into()),
            text("/"),
            UrlPart::Cookie("Sid".into()),
            text(" at "),
            UrlPart::Authority,
        ];
        assert_eq!(parts(many), Ok(expected));
        for wrong in ["$args", "$arg_a", "$http_", "a$", "a\nb", "$remote_user"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
        assert!(told("Content-Length", "1").is_err());
        assert!(told("Host", "a").is_err());
    }

    #[test]
    fn who_signs_in_comes_back_to_what_was_asked_for() {
        let back = "rd=$scheme://$http_host$escaped_request_uri";
        let check = |url: &str, expected: String| assert_eq!(sign_in(url, "rd"), expected);
        check("https://a/start", format!("https://a/start?{back}"));
        check("https://a/start?", format!("https://a/start?{back}"));
        check("https://a/start?x=y", format!("https://a/start?x=y&{back}"));
        check("https://a/start?rd=", format!("https://a/start?rd=&{back}"));
        let own = "https://$host/start?rd=$escaped_request_uri";
        check(own, own.to_owned());
        let parts = parts(own).expect("a URL");
        let text = |text: &str| UrlPart::Text(text.into());
        let expected = [
            text("https://"),
            UrlPart::Host,
            text("/start?rd="),
            UrlPart::EscapedTarget,
        ];
        assert_eq!(parts, expected);
    }
}
