//! Where a collector is, and how it is spoken to.

use std::fmt;

use http::Uri;
use http::uri::Scheme;

/// How spans are brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf bodies.
    Http,
    /// Zipkin's JSON, version 2.
    Zipkin,
    /// Envoy's access log service, over gRPC.
    LogService,
}

/// A collector's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) protocol: Protocol,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_secure: bool,
    pub(crate) path: String,
}

/// Why a text names no collector.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("{0:?} is no URL, write http://host:port or https://host:port")]
    NoUrl(String),
    #[error("the scheme of {0:?} is neither http nor https")]
    Scheme(String),
    #[error("{0:?} has a password or a user in it, which would be sent nowhere: leave it out")]
    User(String),
}

/// `Export` of opentelemetry-proto's trace service.
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// `StreamAccessLogs` of Envoy's access log service.
const LOG_METHOD: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
/// Where OTLP/HTTP takes traces by default.
const PATH: &str = "/v1/traces";

impl Endpoint {
    /// Reads a URL. Without a port it is the protocol's own: 4317 for gRPC, 4318 for HTTP (OTLP,
    /// "Default port"), 9411 for Zipkin. For HTTP a path is taken as it is; without one it is `/v1/traces`.
    ///
    /// # Errors
    /// [`EndpointError`] for what is no URL of HTTP.
    pub fn parse(text: &str, protocol: Protocol) -> Result<Self, EndpointError> {
        let no_url = || EndpointError::NoUrl(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| no_url())?;
        let authority = uri.authority().ok_or_else(no_url)?;
        if authority.as_str().contains('@') {
            let masked = text.split_once('@').map_or(text, |(_, rest)| rest);
            return Err(EndpointError::User(format!("...@{masked}")));
        }
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(EndpointError::Scheme(text.to_owned())),
        };
        let own_port = match protocol {
            Protocol::Grpc => 4317,
            Protocol::Http => 4318,
            Protocol::Zipkin => 9411,
            Protocol::LogService if is_secure => 443,
            Protocol::LogService => 80,
        };
        let asked = uri.path_and_query().map(|path| path.as_str());
        let path = match (protocol, asked) {
            (Protocol::Grpc, _) => METHOD,
            (Protocol::LogService, _) => LOG_METHOD,
            (Protocol::Http, None | Some("" | "/")) => PATH,
            (Protocol::Zipkin, None | Some("" | "/")) => "/api/v2/spans",
            (Protocol::Http | Protocol::Zipkin, Some(path)) => path,
        };
        Ok(Self {
            protocol,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(own_port),
            is_secure,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, protocol: Protocol) -> (String, String) {
        let endpoint = Endpoint::parse(text, protocol).expect("a URL");
        (endpoint.to_string(), endpoint.path)
    }

    #[test]
    fn ports_and_paths_have_the_protocols_defaults() {
        let cases = [
            ("http://c", Protocol::Grpc, "http://c:4317", METHOD),
            ("https://c/x", Protocol::Grpc, "https://c:4317", METHOD),
            ("http://c", Protocol::Http, "http://c:4318", PATH),
            ("http://c:9/", Protocol::Http, "http://c:9", PATH),
            (
                "http://c",
                Protocol::Zipkin,
                "http://c:9411",
                "/api/v2/spans",
            ),
            ("http://c:9/z", Protocol::Zipkin, "http://c:9", "/z"),
            (
                "http://[::1]:9/a?b",
                Protocol::Http,
                "http://[::1]:9",
                "/a?b",
            ),
        ];
        for (text, protocol, url, path) in cases {
            assert_eq!(parsed(text, protocol), (url.into(), path.into()), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_no_password_is_repeated() {
        let of = |text: &str| Endpoint::parse(text, Protocol::Http).expect_err("refused");
        assert!(matches!(
            of("collector"),
            EndpointError::NoUrl(_) | EndpointError::Scheme(_)
        ));
        assert!(matches!(
            of("c:4318"),
            EndpointError::NoUrl(_) | EndpointError::Scheme(_)
        ));
        assert!(matches!(of("ftp://c"), EndpointError::Scheme(_)));
        assert!(!of("http://me:secret@c").to_string().contains("secret"));
    }
}
