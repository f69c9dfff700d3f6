//! The values that a template can name.

use std::borrow::Cow;

use crate::Entry;

/// One value of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Method,
    /// As Go has it on a server: path and query.
    Url,
    Path,
    Query,
    RequestUri,
    Proto,
    Host,
    /// -1 if it was not told, as in Go.
    ContentLength,
    RemoteAddr,
    UserAgent,
    Referer,
    /// The first value of a field, by its place in the list.
    Header(usize),
    /// All values of it, in brackets as Go prints a list.
    Headers(usize),
    Code,
    Size,
    /// Seconds.
    Latency,
    RevisionName,
    RevisionNamespace,
    Service,
    Configuration,
    PodName,
    PodIp,
    TraceId,
    Time,
    Route,
    Backend,
    Endpoint,
    Flag,
    /// The flag as Envoy writes it, where it has one for that.
    EnvoyFlag,
    Scheme,
    /// Thousandths of a second.
    Millis,
    /// The length that the request told; empty if it told none.
    Received,
    /// The client's address without its port.
    RemoteIp,
}

/// How templates name the values that need nothing more.
const NAMES: [(&str, Field); 28] = [
    (".Request.Method", Field::Method),
    (".Request.URL", Field::Url),
    (".Request.URL.String", Field::Url),
    (".Request.URL.Path", Field::Path),
    (".Request.URL.RawQuery", Field::Query),
    (".Request.RequestURI", Field::RequestUri),
    (".Request.Proto", Field::Proto),
    (".Request.Host", Field::Host),
    (".Request.ContentLength", Field::ContentLength),
    (".Request.RemoteAddr", Field::RemoteAddr),
    (".Request.UserAgent", Field::UserAgent),
    (".Request.Referer", Field::Referer),
    (".Response.Code", Field::Code),
    (".Response.Size", Field::Size),
    (".Response.Latency", Field::Latency),
    (".Revision.Name", Field::RevisionName),
    (".Revision.Namespace", Field::RevisionNamespace),
    (".Revision.Service", Field::Service),
    (".Revision.Configuration", Field::Configuration),
    (".Revision.PodName", Field::PodName),
    (".Revision.PodIP", Field::PodIp),
    (".TraceID", Field::TraceId),
    (".Gateway.Time", Field::Time),
    (".Gateway.Route", Field::Route),
    (".Gateway.Backend", Field::Backend),
    (".Gateway.Endpoint", Field::Endpoint),
    (".Gateway.Flag", Field::Flag),
    (".Response.Status", Field::Code),
];

impl Field {
    /// The value that a template calls so.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, field)| *field)
    }

    pub(crate) fn value<'e>(self, entry: &Entry<'e>) -> Cow<'e, str> {
        let split = || entry.target.split_once('?').unwrap_or((entry.target, ""));
        Cow::Borrowed(match self {
            Self::Method => entry.method,
            Self::Url | Self::RequestUri => entry.target,
            Self::Path => split().0,
            Self::Query => split().1,
            Self::Proto => entry.protocol,
            Self::Host => entry.host,
            Self::ContentLength => {
                let length = entry.content_length;
                return length.map_or(Cow::Borrowed("-1"), |length| length.to_string().into());
            }
            Self::RemoteAddr => entry.client,
            Self::UserAgent => entry.user_agent,
            Self::Referer => entry.referer,
            Self::Header(at) => {
                let values = entry.headers.get(at);
                values
                    .and_then(|values| values.first())
                    .map_or("", |value| value)
            }
            Self::Headers(at) => {
                let values = entry.headers.get(at).map_or(&[][..], |values| values);
                return format!("[{}]", values.join(" ")).into();
            }
            Self::Code => return entry.status.to_string().into(),
            Self::Size => return entry.bytes.to_string().into(),
            Self::Latency => return entry.took.as_secs_f64().to_string().into(),
            Self::RevisionName => entry.revision,
            Self::RevisionNamespace => entry.namespace,
            Self::Service => entry.service,
            Self::Configuration => entry.configuration,
            Self::PodName => entry.pod,
            Self::PodIp => entry.pod_ip,
            Self::TraceId => entry.trace,
            Self::Time => entry.time,
            Self::Route => entry.route,
            Self::Backend => entry.backend,
            Self::Endpoint => entry.endpoint,
            Self::Flag => entry.flag,
            Self::EnvoyFlag => envoy_flag(entry.flag),
            Self::Scheme => entry.scheme,
            Self::Millis => return entry.took.as_millis().to_string().into(),
            Self::Received => {
                let length = entry.content_length;
                return length
                    .map_or_else(String::new, |length| length.to_string())
                    .into();
            }
            Self::RemoteIp => address(entry.client).0,
        })
    }

    /// Whether the value is a number in JSON.
    pub(crate) fn is_number(self) -> bool {
        matches!(
            self,
            Self::Code | Self::Size | Self::Millis | Self::Received | Self::ContentLength
        )
    }
}

/// Address and port of `address:port` or `[address]:port`; the port may be missing.
pub(crate) fn address(text: &str) -> (&str, Option<u16>) {
    match text.parse::<std::net::SocketAddr>() {
        Ok(at) => {
            let address = text.rsplit_once(':').map_or(text, |(address, _)| address);
            (address.trim_matches(['[', ']']), Some(at.port()))
        }
        Err(_) => (text, None),
    }
}

/// Envoy's flags for reasons that it has too; the others stay words.
fn envoy_flag(flag: &str) -> &str {
    match flag {
        "no-route" => "NR",
        "no-backend" => "NC",
        "no-endpoint" | "backend-gone" | "no-healthy-upstream" => "UH",
        "connect" => "UF",
        "queue-full" | "overflow" => "UO",
        "retries-exhausted" => "URX",
        "request-timeout" | "response-start-timeout" => "UT",
        "idle-timeout" => "SI",
        "unanswered" | "answer-cut" => "UC",
        "reset" => "UR",
        "bad-answer" => "UPE",
        "bad-request" | "head-too-large" | "version" | "unknown-coding" => "DPE",
        "client-gone" => "DC",
        "rate-limited" => "RL",
        "overload" => "OM",
        other => other,
    }
}
