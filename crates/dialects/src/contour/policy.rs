//! Policies of a route that stand for themselves: timeouts, retries, redirects, answers.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{PathEdit, Redirect, RedirectPort, Respond, Retry, RetryWhen};

use super::condition::{Path, PathKind};
use crate::fields::Fields;
use crate::shared::{go_duration, retry_on};

/// Envoy's, which Contour leaves in force.
const RESPONSE: Duration = Duration::from_secs(15);
const STREAM_IDLE: Duration = Duration::from_secs(5 * 60);
const CONNECTION_IDLE: Duration = Duration::from_secs(60 * 60);
/// Envoy's pauses between tries.
const PAUSE: Duration = Duration::from_millis(25);
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// A time as users say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Default,
    Endless,
    For(Duration),
}

impl Limit {
    pub(super) fn or(self, default: Duration) -> Option<Duration> {
        match self {
            Self::Default => Some(default),
            Self::Endless => None,
            Self::For(time) => Some(time),
        }
    }
}

/// Nothing and zero are the default, `infinity` is no limit.
pub(super) fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "" => Ok(Limit::Default),
        "infinity" | "infinite" => Ok(Limit::Endless),
        _ => {
            let time = go_duration::parse(text);
            let time = time.map_err(|error| format!("unable to parse timeout string: {error}"))?;
            Ok(if time.is_zero() {
                Limit::Default
            } else {
                Limit::For(time)
            })
        }
    }
}

/// The times of a route, `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) response: Option<Duration>,
    pub(super) idle: Option<Duration>,
    /// The object itself says how long a stream may be idle.
    pub(super) is_idle_written: bool,
    pub(super) idle_connection: Option<Duration>,
    /// The same for a connection.
    pub(super) is_connection_written: bool,
}

/// `timeoutPolicy`.
pub(super) fn times(fields: Option<&Fields<'_>>) -> Result<Times, String> {
    let read = |key: &str, what: &str| {
        let text = fields
            .and_then(|fields| fields.str(key))
            .unwrap_or_default();
        limit(text).map_err(|error| format!("error parsing {what} timeout: {error}"))
    };
    let response = read("response", "response");
    let idle = read("idle", "idle");
    let connection = read("idleConnection", "idle connection");
    let idle = (response.as_ref().map_err(String::clone)).and(idle)?;
    let (response, connection) = (response?, connection?);
    Ok(Times {
        response: response.or(RESPONSE),
        idle: idle.or(STREAM_IDLE),
        is_idle_written: idle != Limit::Default,
        idle_connection: connection.or(CONNECTION_IDLE),
        is_connection_written: connection != Limit::Default,
    })
}

/// Further tries.
#[derive(Clone, Debug, Default)]
pub(super) struct Retries {
    pub(super) retry: Option<Arc<Retry>>,
    pub(super) try_timeout: Option<Duration>,
}

/// `retryPolicy`.
pub(super) fn retries(fields: &Fields<'_>) -> Retries {
    let attempts = match fields.int("count") {
        Some(count) if count < 0 => 0,
        None | Some(0) => 1,
        Some(count) => u32::try_from(count).unwrap_or(u32::MAX),
    };
    let try_timeout = fields.text("perTryTimeout").and_then(|text| {
        let time = go_duration::parse(text);
        let told = |error| fields.refuse("perTryTimeout", "FieldIgnored", error);
        time.map_err(told).ok()
    });
    let mut on = fields.strings("retryOn");
    if on.is_empty() {
        on.push("5xx");
    }
    let codes = fields.list("retriableStatusCodes").into_iter();
    let codes = codes.filter_map(|code| u16::try_from(code.as_u64()?).ok());
    let codes: Vec<_> = codes.collect();
    if !codes.is_empty() && !on.contains(&"retriable-status-codes") {
        let text = "changes nothing without retriable-status-codes in retryOn";
        fields.refuse("retriableStatusCodes", "FieldIgnored", text);
    }
    let mut retry = Retry {
        attempts,
        statuses: Vec::new(),
        on_failure: false,
        when: RetryWhen::default(),
        pause: PAUSE,
        max_pause: MAX_PAUSE,
        avoid_tried: false,
    };
    for word in on {
        if !retry_on::add(word, &codes, &mut retry) {
            let text = format!("{word:?} is not supported as a reason to try again");
            fields.refuse("retryOn", "RetryOnNotSupported", text);
        }
    }
    retry.statuses.sort_unstable();
    retry.statuses.dedup();
    Retries {
        retry: (attempts > 0).then(|| Arc::new(retry)),
        try_timeout: try_timeout.filter(|time| !time.is_zero()),
    }
}

/// `requestRedirectPolicy`.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    scheme: Option<Arc<str>>,
    host: Option<Arc<str>>,
    port: Option<u16>,
    status: u16,
    path: Option<Arc<str>>,
    prefix: Option<Arc<str>>,
}

impl Elsewhere {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, String> {
        let text = |key| fields.text(key).map(Arc::from);
        let status = fields.number::<u16>("statusCode").unwrap_or(302);
        let out = Self {
            scheme: text("scheme"),
            host: text("hostname"),
            port: fields.number("port"),
            status,
            path: text("path"),
            prefix: text("prefix"),
        };
        if out.path.is_some() && out.prefix.is_some() {
            return Err("cannot specify both redirect path and redirect prefix".to_owned());
        }
        if ![301, 302, 303, 307, 308].contains(&status) {
            return Err(format!("{status} is no status of a redirect"));
        }
        Ok(out)
    }

    /// For a route of this path.
    pub(super) fn redirect(&self, path: &Path) -> Redirect {
        let full = self.path.clone().map(PathEdit::Full);
        let prefix = self.prefix.clone().map(|with| match path.kind {
            PathKind::Regex => PathEdit::Full(with),
            PathKind::Exact | PathKind::Prefix => PathEdit::Text {
                matched: Arc::clone(&path.text),
                with,
            },
        });
        let port = match self.port {
            Some(port) => RedirectPort::Number(port),
            None if self.scheme.is_some() || self.host.is_some() => RedirectPort::WellKnown,
            None => RedirectPort::Listener,
        };
        Redirect {
            scheme: self.scheme.clone(),
            host: self.host.clone(),
            port,
            path: full.or(prefix),
            strip_query: false,
            status: self.status,
        }
    }
}

/// `directResponsePolicy`.
pub(super) fn answer(fields: &Fields<'_>) -> Respond {
    let status = fields.number::<u16>("statusCode");
    let valid = status.filter(|status| (200..600).contains(status));
    if valid.is_none() {
        let text = "a status between 200 and 599 is needed; 500 is answered";
        fields.refuse("statusCode", "StatusInvalid", text);
    }
    let body = fields.str("body").unwrap_or_default();
    respond(valid.unwrap_or(500), body)
}

/// An answer of the gateway's own, as plain text if it says something.
pub(super) fn respond(status: u16, body: &str) -> Respond {
    let content = ("content-type".into(), "text/plain".into());
    Respond {
        status,
        headers: (!body.is_empty()).then_some(content).into_iter().collect(),
        body: body.into(),
    }
}
