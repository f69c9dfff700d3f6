//! What a route changes or limits besides the headers of its requests.
//!
//! Everything here is rare per route: a route without any has none of it, and pays nothing.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{AnswerRewrite, BackendId, CookieEdit, Guards, HeaderOps, Network, Respond, Telemetry};

/// Changes and limits of a route, or of one arm of its split. Reads as a [`FilterSet`]; most are
/// empty, and take no room then.
#[derive(Clone, Default)]
pub struct Filters(Option<Box<FilterSet>>);

/// What [`Filters`] say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FilterSet {
    /// Changes to the answer, whoever gave it upstream.
    pub response_headers: HeaderOps,
    /// Changes to cookies of the answer, whoever set them; an arm's come after its route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookies: Option<Arc<[CookieEdit]>>,
    pub rewrite_path: Option<PathEdit>,
    /// The authority sent upstream; an arm's wins over its route's.
    pub rewrite_host: Option<Arc<str>>,
    pub cors: Option<Arc<Cors>>,
    /// The whole request; `None` leaves the backend's own limit in force, the shorter one counts.
    pub request_timeout: Option<Duration>,
    /// One try at a backend, until the last byte of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub try_timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Arc<Retry>>,
    /// Backends that get a copy of the request; what they answer is dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Request headers whose values depend on the request, after all other changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_templates: Vec<Template>,
    /// The same for the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_templates: Vec<Template>,
    /// What else becomes of answers, after the changes of their headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<AnswerRewrite>,
    /// What is asked of a request before it is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guards: Option<Arc<Guards>>,
    /// Who may say the client's address. Of a route, not of an arm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Arc<ClientSource>>,
    /// What is told of requests; an arm's counts in place of its route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Arc<Telemetry>>,
    /// What becomes of a CONNECT request; without it one is answered 403. Of a route, not of an arm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Connect>,
}

/// How a CONNECT request becomes a tunnel. Either way it leads to a backend of its route, never to
/// the authority that the client names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Connect {
    /// The backend gets the request; what follows is a tunnel once it has agreed.
    Pass,
    /// The gateway agrees once it is connected; the backend gets the tunnel's bytes alone.
    Terminate,
}

/// Where the client's address is, if proxies are in front of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ClientSource {
    pub place: ClientPlace,
    pub trust: TrustedProxies,
}

impl ClientSource {
    /// Behind so many proxies that add to `X-Forwarded-For`; `None` if there are none.
    pub fn behind(hops: u32) -> Option<Self> {
        (hops > 0).then(|| Self {
            place: ClientPlace::Header("x-forwarded-for".into()),
            trust: TrustedProxies::Hops(hops),
        })
    }
}

/// A list of addresses, separated by commas; each proxy adds to its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ClientPlace {
    /// Lower case.
    Header(Arc<str>),
    Query(Arc<str>),
}

/// Which proxies are believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TrustedProxies {
    /// So many in front of the gateway: the client's is the address so many places from the end.
    Hops(u32),
    /// Those in these networks; an empty list trusts everybody. The last address counts, or, if
    /// `is_recursive`, the last one that is not in the networks itself.
    Networks {
        networks: Arc<[Network]>,
        is_recursive: bool,
    },
}

impl Filters {
    /// Whether nothing is changed and nothing limited.
    pub fn is_empty(&self) -> bool {
        let set = self.0.as_deref();
        set.is_none_or(|set| *set == FilterSet::default())
    }
}

impl From<Filters> for FilterSet {
    fn from(filters: Filters) -> Self {
        filters.0.map(|set| *set).unwrap_or_default()
    }
}

impl From<FilterSet> for Filters {
    fn from(set: FilterSet) -> Self {
        let is_empty = set == FilterSet::default();
        Self((!is_empty).then(|| Box::new(set)))
    }
}

impl Deref for Filters {
    type Target = FilterSet;

    fn deref(&self) -> &FilterSet {
        static EMPTY: LazyLock<FilterSet> = LazyLock::new(FilterSet::default);
        self.0.as_deref().unwrap_or_else(|| &EMPTY)
    }
}

impl DerefMut for Filters {
    fn deref_mut(&mut self) -> &mut FilterSet {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for Filters {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Filters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// When a request is sent again, besides the gateway's own repetition of what was not acted on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Retry {
    /// Further tries after the first.
    pub attempts: u32,
    /// Statuses that are not passed on while there is a try left.
    pub statuses: Vec<u16>,
    /// What the backend cannot have acted on is tried again: connections that cannot be opened,
    /// requests that were refused. What it may have acted on (connections that end without an
    /// answer, tries that take too long) only if the method is idempotent (RFC 9110 §9.2.2).
    pub on_failure: bool,
    /// Further conditions.
    pub when: RetryWhen,
    /// Least pause before each further try.
    pub pause: Duration,
    /// Longest pause. Longer than `pause`, pauses grow: before try `n` (from 1) one is drawn from
    /// nothing up to `(2^n - 1) * pause`, at most this. Otherwise each is `pause`.
    pub max_pause: Duration,
    /// Another endpoint than the ones that failed, if there is one.
    pub avoid_tried: bool,
}

/// What besides [`Retry::statuses`] and [`Retry::on_failure`] is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RetryWhen {
    /// Connections that cannot be opened.
    pub connect_failure: bool,
    /// HTTP/2 streams that were refused; of idempotent requests connections that end without an
    /// answer, too.
    pub refused_stream: bool,
    /// Connections that end without an answer, and tries that take too long, whatever the method.
    pub reset: bool,
    /// Statuses of 500 to 599.
    pub any_5xx: bool,
    /// `grpc-status` of an answer without a message.
    pub grpc: Vec<u32>,
    /// Answers that have one of these headers (lower case).
    pub headers: Vec<Arc<str>>,
}

/// A header with a value put together for each request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Template {
    /// Lower case.
    pub name: Arc<str>,
    /// Text with `%REQ(name)%`, `%RESP(name)%`, `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`,
    /// `%PROTOCOL%`, `%HOST%`, `%PATH%`, `%METHOD%`, `%SCHEME%` in it; `%%` is a percent sign.
    pub value: Arc<str>,
    /// Added to the values that are there; otherwise it replaces them.
    pub append: bool,
}

/// A copy for another backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Mirror {
    pub backend: BackendId,
    pub share: Share,
}

/// So many of so many. Invariant: not more than all, and not of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Share {
    numerator: u32,
    denominator: u32,
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// `None` if it is not between none and all.
    pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
        (denominator > 0 && numerator <= denominator).then_some(Self {
            numerator,
            denominator,
        })
    }

    /// The same share in its lowest terms.
    pub fn reduced(self) -> Self {
        let (mut rest, mut divisor) = (self.numerator, self.denominator);
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        Self {
            numerator: self.numerator / divisor,
            denominator: self.denominator / divisor,
        }
    }

    /// So many of a hundred.
    pub fn percent(self) -> f64 {
        f64::from(self.numerator) * 100.0 / f64::from(self.denominator)
    }

    /// Where draws come from: `0..total()`.
    pub fn total(&self) -> u64 {
        u64::from(self.denominator)
    }

    /// Whether a draw is among the share.
    pub fn holds(&self, point: u64) -> bool {
        point < u64::from(self.numerator)
    }
}

/// How a path is replaced. The query stays.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PathEdit {
    Full(Arc<str>),
    /// The path begins with the elements of `matched`; they become `with`.
    Prefix {
        matched: Arc<str>,
        with: Arc<str>,
    },
    /// The path begins with the text of `matched`; it becomes `with`, and nothing else changes.
    Text {
        matched: Arc<str>,
        with: Arc<str>,
    },
    /// What the expression finds, every time, becomes `with`, where `\\1` to `\\9` stand for its
    /// groups and `\\0` for all of it. See [`regex`](crate::regex).
    Regex {
        pattern: Arc<str>,
        with: Arc<str>,
    },
}

impl PathEdit {
    /// The new path of a request with this path (no query). Never empty.
    pub fn apply(&self, path: &str) -> String {
        let path = match self {
            Self::Full(full) => full.to_string(),
            Self::Prefix { matched, with } => {
                let elements = matched.trim_end_matches('/');
                let rest = path.strip_prefix(elements).unwrap_or(path);
                let kept = with.trim_end_matches('/');
                match rest.strip_prefix('/') {
                    Some(rest) if path != &**matched => format!("{kept}/{rest}"),
                    Some(_) | None => with.to_string(),
                }
            }
            Self::Text { matched, with } => {
                let rest = path.strip_prefix(&**matched).unwrap_or(path);
                format!("{with}{rest}")
            }
            Self::Regex { pattern, with } => crate::regex::replace(pattern, with, path),
        };
        if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        }
    }
}

/// Cross-origin rules of the Fetch standard, answered by the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cors {
    pub origins: Vec<Origins>,
    /// Upper case; `*` stands for every method.
    pub methods: Vec<Arc<str>>,
    /// `*` stands for every name.
    pub headers: Vec<Arc<str>>,
    pub expose: Vec<Arc<str>>,
    pub credentials: bool,
    pub max_age: Duration,
}

/// Origins that are allowed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Origins {
    Any,
    /// The whole origin matches the expression.
    Regex(Arc<str>),
    /// The origin begins with this.
    Prefix(Arc<str>),
    /// `scheme://host[:port]`.
    Exact(Arc<str>),
    /// `scheme://*suffix`: the asterisk stands for one character or more.
    Wildcard {
        scheme: Arc<str>,
        /// With its leading dot, and with the port if there is one.
        suffix: Arc<str>,
    },
}

impl Origins {
    /// Whether an `Origin` header is among these.
    pub fn contains(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Regex(expression) => crate::regex::compile(expression)
                .is_ok_and(|expression| expression.is_match(origin.as_bytes())),
            Self::Prefix(prefix) => origin.starts_with(&**prefix),
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Wildcard { scheme, suffix } => {
                let Some((of, host)) = origin.split_once("://") else {
                    return false;
                };
                let begin = host.len().checked_sub(suffix.len());
                of.eq_ignore_ascii_case(scheme)
                    && begin.is_some_and(|begin| {
                        begin > 0
                            && host
                                .get(begin..)
                                .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
                    })
            }
        }
    }
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Redirect {
    /// `None` keeps the scheme of the request.
    pub scheme: Option<Arc<str>>,
    /// `None` keeps the host of the request.
    pub host: Option<Arc<str>>,
    pub port: RedirectPort,
    pub path: Option<PathEdit>,
    /// The query is left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strip_query: bool,
    pub status: u16,
}

/// The port of a redirect's location; the well-known port of its scheme is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum RedirectPort {
    /// Where the request came in.
    Listener,
    /// The one that belongs to the scheme.
    WellKnown,
    Number(u16),
}

/// What an arm of a split does other than forwarding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Instead {
    Respond(Respond),
    Redirect(Redirect),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_by_elements_and_the_path_is_never_empty() {
        let check = |path: &str, matched: &str, with: &str, expected: &str| {
            let edit = PathEdit::Prefix {
                matched: matched.into(),
                with: with.into(),
            };
            assert_eq!(edit.apply(path), expected, "{path} {matched} {with}");
        };
        // The table of Gateway API's `replacePrefixMatch`.
        check("/foo/bar", "/foo", "/xyz", "/xyz/bar");
        check("/foo/bar", "/foo", "/xyz/", "/xyz/bar");
        check("/foo/bar", "/foo/", "/xyz", "/xyz/bar");
        check("/foo/bar", "/foo/", "/xyz/", "/xyz/bar");
        check("/foo", "/foo", "/xyz", "/xyz");
        check("/foo/", "/foo", "/xyz", "/xyz/");
        check("/foo/bar", "/foo", "", "/bar");
        check("/foo/", "/foo", "", "/");
        check("/foo", "/foo", "", "/");
        check("/foo/", "/foo", "/", "/");
        check("/foo", "/foo", "/", "/");
        check("/foo", "/", "/xyz", "/xyz/foo");
        check("/", "/", "/xyz", "/xyz");
    }

    #[test]
    fn a_share_is_the_same_in_its_lowest_terms() {
        let share = |of: u32, all: u32| Share::new(of, all).expect("a share");
        assert_eq!(share(250_000, 1_000_000).reduced(), share(1, 4));
        assert_eq!(share(0, 100).reduced(), share(0, 1));
        assert_eq!(share(7, 7).reduced(), Share::ALL);
        assert!((share(1, 8).percent() - 12.5).abs() < 1e-9);
    }

    #[test]
    fn a_wildcard_origin_needs_something_in_its_place() {
        let wildcard = Origins::Wildcard {
            scheme: "https".into(),
            suffix: ".bar.example".into(),
        };
        assert!(wildcard.contains("https://a.b.bar.example"));
        assert!(wildcard.contains("HTTPS://A.bar.example"));
        assert!(!wildcard.contains("https://.bar.example"));
        assert!(!wildcard.contains("https://bar.example"));
        assert!(!wildcard.contains("http://a.bar.example"));
        assert!(!wildcard.contains("https://a.bar.example:8443"));
    }
}
