//! Lines that tell of requests: templates as Knative's request log has them (a part of Go's
//! `text/template`), checked once and rendered without surprises.
//!
//! A template names values of the request, its answer and the revision behind; what it cannot say
//! is refused when it is read, so a line is never wrong in silence.

mod condition;
mod envoy;
mod escape;
mod field;
mod parse;

use std::borrow::Cow;
use std::time::Duration;

pub use condition::Condition;
pub use envoy::{ENVOY, ENVOY_JSON, Envoy};
pub use escape::Escape;
pub use field::Field;

/// The template of `logging.request-log-template` where a ConfigMap has none (Knative's own).
pub const KNATIVE: &str = concat!(
    r#"{"httpRequest": {"requestMethod": "{{.Request.Method}}", "#,
    r#""requestUrl": "{{js .Request.RequestURI}}", "requestSize": "{{.Request.ContentLength}}", "#,
    r#""status": {{.Response.Code}}, "responseSize": "{{.Response.Size}}", "#,
    r#""userAgent": "{{js .Request.UserAgent}}", "remoteIp": "{{js .Request.RemoteAddr}}", "#,
    r#""serverIp": "{{.Revision.PodIP}}", "referer": "{{js .Request.Referer}}", "#,
    r#""latency": "{{.Response.Latency}}s", "protocol": "{{.Request.Proto}}"}, "#,
    r#""traceId": "{{.TraceID}}"}"#,
);

/// One JSON object a line.
pub const JSON: &str = concat!(
    r#"{"time":{{json .Gateway.Time}},"client":{{json .Request.RemoteAddr}},"#,
    r#""method":{{json .Request.Method}},"host":{{json .Request.Host}},"#,
    r#""target":{{json .Request.RequestURI}},"protocol":{{json .Request.Proto}},"#,
    r#""status":{{.Response.Code}},"bytes":{{.Response.Size}},"seconds":{{.Response.Latency}},"#,
    r#""route":{{json .Gateway.Route}},"backend":{{json .Gateway.Backend}},"#,
    r#""endpoint":{{json .Gateway.Endpoint}},"revision":{{json .Revision.Name}},"#,
    r#""namespace":{{json .Revision.Namespace}},"flag":{{json .Gateway.Flag}},"#,
    r#""trace":{{json .TraceID}},"userAgent":{{json .Request.UserAgent}}}"#,
);

/// For reading: what is quoted may hold anything, the rest cannot hold a space.
pub const TEXT: &str = concat!(
    r#"{{.Gateway.Time}} {{.Request.RemoteAddr}} {{.Response.Code}} "#,
    r#"{{json .Request.Method}} {{json .Request.Host}} {{json .Request.RequestURI}} "#,
    r#"{{.Request.Proto}} {{.Response.Size}}B {{.Response.Latency}}s "#,
    r#"{{json .Gateway.Backend}} {{json .Gateway.Endpoint}} {{json .Gateway.Flag}}"#,
);

/// A line's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    headers: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// With what makes it fit, applied in this order.
    Value(Field, Vec<Escape>),
    /// The first of these that has a value, cut to so many characters; `-` if none has.
    First(Vec<Field>, Option<usize>),
    /// A JSON string of what the parts say.
    Quoted(Vec<Part>),
    /// One value as JSON: a number as such, `null` if there is none.
    Json(Vec<Field>, Option<usize>),
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("it has {len} bytes, at most {most} are taken")]
    TooLong { len: usize, most: usize },
    #[error("it has {len} keys, at most {most} are taken")]
    TooManyKeys { len: usize, most: usize },
    #[error("the action that begins at byte {at} has no end: write {{{{…}}}}")]
    Unclosed { at: usize },
    #[error("the action \"{action}\" at byte {at} is not supported: {hint}")]
    Action {
        action: String,
        at: usize,
        hint: &'static str,
    },
    #[error(
        "the field \"{field}\" at byte {at} does not exist, use one of .Request.{{Method, URL, \
         RequestURI, Proto, Host, ContentLength, RemoteAddr, UserAgent, Referer, Header}}, \
         .Response.{{Code, Size, Latency}}, .Revision.{{Name, Namespace, Service, Configuration, \
         PodName, PodIP}}, .TraceID or .Gateway.{{Time, Route, Backend, Endpoint, Flag}}"
    )]
    Field { field: String, at: usize },
    #[error("the operator {operator:?} at byte {at} is not known: {hint}")]
    Operator {
        operator: String,
        at: usize,
        hint: &'static str,
    },
}

/// What happened to one request. Values that do not exist are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    pub method: &'a str,
    /// Path and query, as sent.
    pub target: &'a str,
    pub host: &'a str,
    /// Such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// `None` if the length was not told.
    pub content_length: Option<u64>,
    /// Address and port of the client.
    pub client: &'a str,
    pub user_agent: &'a str,
    pub referer: &'a str,
    /// Values of the fields that [`Template::headers`] asks for, in its order.
    pub headers: &'a [Vec<String>],
    pub status: u16,
    /// Of the answer's body.
    pub bytes: u64,
    pub took: Duration,
    pub namespace: &'a str,
    pub revision: &'a str,
    pub service: &'a str,
    pub configuration: &'a str,
    pub pod: &'a str,
    pub pod_ip: &'a str,
    pub trace: &'a str,
    /// RFC 3339, of the request's arrival.
    pub time: &'a str,
    pub route: &'a str,
    pub backend: &'a str,
    pub endpoint: &'a str,
    /// Why the gateway answered in place of the backend.
    pub flag: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The client showed a certificate that was verified.
    pub is_mutual: bool,
    /// All fields of the request with names in lower case, for a [`Condition`] that asks for them.
    pub fields: &'a [(String, String)],
}

impl Template {
    /// # Errors
    /// [`TemplateError`] if it is not of the supported part of the language.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (parts, headers) = parse::parse(text)?;
        Ok(Self { parts, headers })
    }

    /// Names of the request's fields that lines need, in lower case.
    pub fn headers(&self) -> &[Box<str>] {
        &self.headers
    }

    /// Appends the line and its end. What a client sent cannot begin another line.
    pub fn render(&self, out: &mut String, entry: &Entry<'_>) {
        let start = out.len();
        render(&self.parts, out, entry);
        // A template that ends with a line break means that one line.
        while out.len() > start && out.ends_with('\n') {
            out.pop();
        }
        out.push('\n');
    }
}

fn render(parts: &[Part], out: &mut String, entry: &Entry<'_>) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Value(field, escapes) => {
                let mut value = field.value(entry);
                for escape in escapes {
                    value = Cow::Owned(escape.apply(&value));
                }
                push(out, &value);
            }
            Part::First(fields, most) => {
                let value = first(fields, *most, entry);
                push(out, value.as_deref().unwrap_or("-"));
            }
            Part::Quoted(parts) => {
                let mut text = String::new();
                render(parts, &mut text, entry);
                out.push_str(&Escape::Json.apply(&text));
            }
            Part::Json(fields, most) => match first(fields, *most, entry) {
                None => out.push_str("null"),
                Some(value) if fields.iter().all(|field| field.is_number()) => out.push_str(&value),
                Some(value) => out.push_str(&Escape::Json.apply(&value)),
            },
        }
    }
}

/// Without what could begin another line.
fn push(out: &mut String, value: &str) {
    out.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
}

fn first<'e>(fields: &[Field], most: Option<usize>, entry: &Entry<'e>) -> Option<Cow<'e, str>> {
    let mut values = fields.iter().map(|field| field.value(entry));
    let value = values.find(|value| !value.is_empty())?;
    let cut = most.and_then(|most| Some(value.char_indices().nth(most)?.0));
    Some(match cut {
        Some(at) => Cow::Owned(value[..at].to_owned()),
        None => value,
    })
}

#[cfg(test)]
mod tests;
