//! Formats as Envoy's access log has them: text with operators like `%RESPONSE_CODE%`, or a JSON
//! object whose values are such texts.
//!
//! An operator that Envoy does not have is refused. One that stands for something nobody here
//! knows prints `-`, as Envoy's do without a value, and is named to whoever reads the format.

use std::collections::BTreeMap;

use crate::{Field, Part, Template, TemplateError};

/// What Istio's proxies write where nothing else is said: one line of text.
pub const ENVOY: &str = concat!(
    r#"[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" "#,
    r#"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "#,
    r#"%CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" "#,
    r#"%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "#,
    r#""%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "#,
    r#""%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% "#,
    r#"%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "#,
    r#"%ROUTE_NAME%"#,
);

/// The same as a JSON object.
pub const ENVOY_JSON: [(&str, &str); 22] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
];

/// Bytes of a format, and keys of a JSON one.
const MOST: usize = 16 * 1024;
const MOST_KEYS: usize = 128;
const MOST_HEADERS: usize = 32;

/// Operators that need no argument and have a value here.
const KNOWN: [(&str, Field); 16] = [
    ("START_TIME", Field::Time),
    ("PROTOCOL", Field::Proto),
    ("RESPONSE_CODE", Field::Code),
    ("RESPONSE_FLAGS", Field::EnvoyFlag),
    ("RESPONSE_FLAGS_LONG", Field::Flag),
    ("BYTES_RECEIVED", Field::Received),
    ("BYTES_SENT", Field::Size),
    ("DURATION", Field::Millis),
    ("UPSTREAM_HOST", Field::Endpoint),
    ("UPSTREAM_REMOTE_ADDRESS", Field::Endpoint),
    ("UPSTREAM_CLUSTER", Field::Backend),
    ("UPSTREAM_CLUSTER_RAW", Field::Backend),
    ("ROUTE_NAME", Field::Route),
    ("DOWNSTREAM_REMOTE_ADDRESS", Field::RemoteAddr),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Field::RemoteIp),
    ("TRACE_ID", Field::TraceId),
];

/// Operators that nobody here has a value for.
const EMPTY: [&str; 22] = [
    "RESPONSE_CODE_DETAILS",
    "CONNECTION_TERMINATION_DETAILS",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "REQUESTED_SERVER_NAME",
    "GRPC_STATUS",
    "RESP",
    "TRAILER",
    "REQUEST_DURATION",
    "RESPONSE_DURATION",
    "RESPONSE_TX_DURATION",
    "DYNAMIC_METADATA",
    "FILTER_STATE",
    "CLUSTER_METADATA",
    "HOSTNAME",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_SUBJECT",
];

/// A format that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envoy {
    pub template: Template,
    /// Operators that always print `-`, each once.
    pub without_value: Vec<String>,
}

impl Envoy {
    /// A line of text.
    ///
    /// # Errors
    /// [`TemplateError`] for operators that do not exist or have arguments that are not served.
    pub fn text(format: &str) -> Result<Self, TemplateError> {
        let mut reader = Reader::default();
        let mut parts = Vec::new();
        for piece in reader.read(format)? {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text),
                Piece::Value(fields, most) => Part::First(fields, most),
            });
        }
        Ok(reader.done(parts))
    }

    /// A line that is a JSON object, sorted by key.
    ///
    /// # Errors
    /// The same.
    pub fn json<'f>(
        labels: impl IntoIterator<Item = (&'f str, &'f str)>,
    ) -> Result<Self, TemplateError> {
        let labels: BTreeMap<&str, &str> = labels.into_iter().collect();
        if labels.len() > MOST_KEYS {
            return Err(TemplateError::TooManyKeys {
                len: labels.len(),
                most: MOST_KEYS,
            });
        }
        let mut reader = Reader::default();
        let mut parts = Vec::new();
        for (at, (key, format)) in labels.into_iter().enumerate() {
            let before = if at == 0 { "{" } else { "," };
            let key = crate::Escape::Json.apply(key);
            parts.push(Part::Text(format!("{before}{key}:")));
            let mut pieces = reader.read(format)?;
            let single = match &mut pieces[..] {
                [Piece::Value(fields, most)] => Some((std::mem::take(fields), *most)),
                _ => None,
            };
            if let Some((fields, most)) = single {
                parts.push(Part::Json(fields, most));
                continue;
            }
            let inner = pieces.into_iter().map(|piece| match piece {
                Piece::Text(text) => Part::Text(text),
                Piece::Value(fields, most) => Part::First(fields, most),
            });
            parts.push(Part::Quoted(inner.collect()));
        }
        let end = if parts.is_empty() { "{}" } else { "}" };
        parts.push(Part::Text(end.to_owned()));
        Ok(reader.done(parts))
    }
}

enum Piece {
    Text(String),
    Value(Vec<Field>, Option<usize>),
}

#[derive(Default)]
struct Reader {
    headers: Vec<Box<str>>,
    without_value: Vec<String>,
}

impl Reader {
    fn done(self, parts: Vec<Part>) -> Envoy {
        Envoy {
            template: Template {
                parts,
                headers: self.headers,
            },
            without_value: self.without_value,
        }
    }

    fn read(&mut self, format: &str) -> Result<Vec<Piece>, TemplateError> {
        if format.len() > MOST {
            return Err(TemplateError::TooLong {
                len: format.len(),
                most: MOST,
            });
        }
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let at = format.len() - after.len() - 1;
            let unclosed = || TemplateError::Operator {
                operator: after.chars().take(80).collect(),
                at,
                hint: "it has no end: write %NAME%, or %% for a percent sign",
            };
            // An argument may hold percent signs of its own.
            let arguments = after.find('(').zip(after.find(')'));
            let from = match arguments {
                Some((open, close)) if open < after.find('%').unwrap_or(0) => close,
                _ => 0,
            };
            let len = after[from..].find('%').ok_or_else(unclosed)? + from;
            let value = self.operator(&after[..len], at)?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(value);
            rest = &after[len + 1..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(pieces)
    }

    fn operator(&mut self, operator: &str, at: usize) -> Result<Piece, TemplateError> {
        let refuse = |hint| TemplateError::Operator {
            operator: operator.chars().take(80).collect(),
            at,
            hint,
        };
        let (name, argument, most) = split(operator)
            .ok_or_else(|| refuse("write NAME, NAME(argument) or NAME(argument):length"))?;
        if name == "REQ" {
            let argument = argument.ok_or_else(|| refuse("write REQ(name) or REQ(name?other)"))?;
            let mut fields = Vec::new();
            for one in argument.split('?') {
                let field = self.request(one);
                fields.push(field.ok_or_else(|| refuse("write the names of request headers"))?);
            }
            return Ok(Piece::Value(fields, most));
        }
        if let Some((_, field)) = KNOWN.iter().find(|(known, _)| *known == name) {
            if argument.is_some() {
                return Err(refuse(
                    "it has no argument here; times are in the form of RFC 3339",
                ));
            }
            return Ok(Piece::Value(vec![*field], most));
        }
        if !EMPTY.contains(&name) {
            return Err(refuse(
                "use Envoy's operators for requests, such as %RESPONSE_CODE%",
            ));
        }
        if !self.without_value.iter().any(|known| known == operator) {
            self.without_value.push(operator.to_owned());
        }
        Ok(Piece::Value(Vec::new(), most))
    }

    fn request(&mut self, name: &str) -> Option<Field> {
        let name = name.to_ascii_lowercase();
        Some(match name.as_str() {
            ":method" => Field::Method,
            ":path" => Field::RequestUri,
            ":authority" | "host" => Field::Host,
            ":scheme" => Field::Scheme,
            "user-agent" => Field::UserAgent,
            "referer" => Field::Referer,
            name => {
                let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.!#$&'*+^`|~".contains(c);
                if name.is_empty() || !name.chars().all(is_token) {
                    return None;
                }
                let known = self.headers.iter().position(|own| **own == *name);
                if known.is_none() && self.headers.len() >= MOST_HEADERS {
                    return None;
                }
                let at = known.unwrap_or_else(|| {
                    self.headers.push(name.into());
                    self.headers.len() - 1
                });
                Field::Header(at)
            }
        })
    }
}

/// Name, argument and length of `NAME(argument):length`.
fn split(operator: &str) -> Option<(&str, Option<&str>, Option<usize>)> {
    let Some((name, rest)) = operator.split_once('(') else {
        return Some(match operator.split_once(':') {
            Some((name, most)) => (name, None, Some(most.parse().ok()?)),
            None => (operator, None, None),
        });
    };
    let (argument, most) = rest.rsplit_once(')')?;
    let most = match most {
        "" => None,
        most => Some(most.strip_prefix(':')?.parse().ok()?),
    };
    Some((name, Some(argument), most))
}

#[cfg(test)]
mod tests;
