//! How a request is refused, told the way its client understands.

use routing::RequestView;
use routing::model::Respond;

use crate::connection::Client;
use crate::downstream::Reply;
use crate::failure::Failure;
use crate::message::View;

/// Which guard refused; also the index of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Fault,
    Token,
    Authorization,
    Credential,
    External,
    Ramp,
    RateLimit,
    LimitService,
    Breaker,
    Quota,
    Concurrency,
    Body,
    Upgrade,
}

impl Kind {
    pub(crate) const COUNT: usize = 13;
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Fault,
        Self::Token,
        Self::Authorization,
        Self::Credential,
        Self::External,
        Self::Ramp,
        Self::RateLimit,
        Self::LimitService,
        Self::Breaker,
        Self::Quota,
        Self::Concurrency,
        Self::Body,
        Self::Upgrade,
    ];

    /// A word for logs and metrics.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Token => "token",
            Self::Authorization => "authorization",
            Self::Credential => "credential",
            Self::External => "external-authorization",
            Self::Ramp => "load-ramp",
            Self::RateLimit => "rate-limit",
            Self::LimitService => "rate-limit-service",
            Self::Breaker => "breaker",
            Self::Quota => "quota",
            Self::Concurrency => "concurrency",
            Self::Body => "body-too-large",
            Self::Upgrade => "upgrade",
        }
    }
}

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) enum Held {
    Refused(Box<Refusal>),
    /// It has its answer, and nothing was wrong.
    Answered(Box<Reply>),
    Failed(Failure),
}

impl From<Refusal> for Held {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// The answer of a guard.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    status: u16,
    /// For gRPC clients in place of what the status says.
    grpc: Option<u8>,
    headers: Vec<(String, String)>,
    body: String,
}

impl Refusal {
    /// A status and a text.
    pub(crate) fn new(kind: Kind, status: u16, body: &str) -> Self {
        Self {
            kind,
            status,
            grpc: None,
            headers: vec![("Content-Type".into(), "text/plain".into())],
            body: body.to_owned(),
        }
    }

    /// As a policy says.
    pub(crate) fn with(kind: Kind, respond: &Respond) -> Self {
        let headers = respond.headers.iter();
        let mut headers: Vec<(String, String)> = headers
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let has_type = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !has_type && !respond.body.is_empty() {
            headers.push(("Content-Type".into(), "text/plain".into()));
        }
        Self {
            kind,
            status: respond.status,
            grpc: None,
            headers,
            body: respond.body.to_string(),
        }
    }

    /// A gRPC status; other clients get what it means in HTTP.
    pub(crate) fn grpc(kind: Kind, status: u32, body: &str) -> Self {
        let http = match status {
            0 => 200,
            3 | 9 | 11 => 400,
            16 => 401,
            7 => 403,
            5 => 404,
            6 | 10 => 409,
            8 => 429,
            1 => 499,
            12 => 501,
            14 => 503,
            4 => 504,
            _ => 500,
        };
        Self {
            grpc: u8::try_from(status).ok(),
            ..Self::new(kind, http, body)
        }
    }

    /// Adds a header; the type of the body in place of the usual one.
    pub(crate) fn header(mut self, name: &str, value: String) -> Self {
        if name.eq_ignore_ascii_case("content-type") {
            let is_type = |known: &str| known.eq_ignore_ascii_case(name);
            self.headers.retain(|(known, _)| !is_type(known));
        }
        self.headers.push((name.to_owned(), value));
        self
    }

    /// For gRPC clients, this status whatever the other one means.
    pub(crate) fn grpc_status(mut self, status: u8) -> Self {
        self.grpc = Some(status);
        self
    }

    /// The answer.
    pub(crate) fn reply(self, is_grpc: bool) -> Reply {
        let grpc = self.grpc.unwrap_or_else(|| grpc_status(self.status));
        Reply {
            status: self.status,
            headers: self.headers,
            body: self.body.into(),
            grpc: is_grpc.then_some(grpc),
            close: false,
            flag: self.kind.flag(),
        }
    }
}

/// gRPC's own mapping of HTTP statuses.
pub(crate) fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// What `www-authenticate` calls the place that was asked for.
pub(crate) fn realm(view: View<'_>, client: &Client) -> String {
    let scheme = if client.peer.is_secure {
        "https"
    } else {
        "http"
    };
    let quotable = |text: &str| text.replace(['"', '\\'], "");
    format!(
        "{scheme}://{}{}",
        quotable(view.authority()),
        quotable(view.path())
    )
}
