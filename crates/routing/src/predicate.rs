//! A [`Predicate`], ready to be asked: expressions are compiled, patterns folded, nothing left to
//! parse but the request.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::authority;
use crate::model::{Network, Predicate, Subject, Test, TextTest};
use crate::query;
use crate::regex;
use crate::view::RequestView;

/// One condition.
#[derive(Clone, Debug)]
pub struct CompiledPredicate {
    subject: Subject,
    test: CompiledTest,
    negate: bool,
    missing_is_empty: bool,
}

/// Conditions that must all hold; none always do.
#[derive(Clone, Debug, Default)]
pub struct Predicates(Box<[CompiledPredicate]>);

#[derive(Clone, Debug)]
enum CompiledTest {
    Present,
    Text {
        how: Text,
        /// The pattern is in lower case, and so must the value be.
        fold: bool,
    },
    In(Arc<[Arc<str>]>),
    Network(Arc<[Network]>),
    Range {
        min: i64,
        end: i64,
    },
    /// What routes cannot ask: nobody has verified anything before a route is selected.
    Never,
}

#[derive(Clone, Debug)]
enum Text {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Element(Arc<str>),
    Suffix(Arc<str>),
    Contains(Arc<str>),
    /// `None` if it does not compile, which dialects refuse: then nothing matches.
    Regex(Option<Box<::regex::bytes::Regex>>),
}

impl Predicates {
    /// For a guard, which may ask what was verified.
    pub fn new(predicates: &[Predicate]) -> Self {
        Self(predicates.iter().map(CompiledPredicate::new).collect())
    }

    /// For a route's match. Who the client is was not verified yet, so asking for it never holds.
    pub(crate) fn of_route(predicates: &[Predicate]) -> Self {
        let compiled = predicates.iter().map(|one| match one.subject {
            Subject::Claim(_) | Subject::Principal | Subject::RequestPrincipal => {
                CompiledPredicate::never(one)
            }
            _ => CompiledPredicate::new(one),
        });
        Self(compiled.collect())
    }

    /// Whether all hold.
    pub fn hold(&self, request: &impl RequestView) -> bool {
        self.0.iter().all(|one| one.holds(request))
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl CompiledPredicate {
    /// Compiles a condition.
    pub fn new(predicate: &Predicate) -> Self {
        let test = match &predicate.test {
            Test::Present => CompiledTest::Present,
            Test::Text {
                how,
                value,
                ignore_case,
            } => CompiledTest::Text {
                how: Text::new(*how, value, *ignore_case),
                fold: *ignore_case,
            },
            Test::In(values) => CompiledTest::In(Arc::clone(values)),
            Test::Network(networks) => CompiledTest::Network(Arc::clone(networks)),
            Test::Range { min, end } => CompiledTest::Range {
                min: *min,
                end: *end,
            },
        };
        Self {
            subject: predicate.subject.clone(),
            test,
            negate: predicate.negate,
            missing_is_empty: predicate.missing_is_empty,
        }
    }

    fn never(predicate: &Predicate) -> Self {
        Self {
            subject: predicate.subject.clone(),
            test: CompiledTest::Never,
            negate: false,
            missing_is_empty: false,
        }
    }

    /// Whether the condition holds for a request.
    pub fn holds(&self, request: &impl RequestView) -> bool {
        self.tests(request) != self.negate
    }

    fn tests(&self, request: &impl RequestView) -> bool {
        match &self.subject {
            Subject::Path => self.value(Some(request.path().as_bytes())),
            Subject::Method => self.value(Some(request.method().as_bytes())),
            Subject::Scheme => self.value(Some(request.scheme().as_bytes())),
            Subject::Host => self.value(Some(host(request).as_bytes())),
            Subject::Authority => self.value(Some(request.host().as_bytes())),
            Subject::Header(name) => self.value(joined(request, name).as_deref()),
            Subject::Query(name) => self.value(query::first(request.query(), name).as_deref()),
            Subject::Cookie(name) => self.value(cookie(request, name).as_deref()),
            Subject::Peer => self.address(request.peer()),
            Subject::Client => self.address(request.client()),
            Subject::Port => {
                let port = request.port().map(|port| port.to_string());
                self.value(port.as_deref().map(str::as_bytes))
            }
            Subject::Destination => self.address(request.destination()),
            Subject::ServerName => self.value(request.server_name().map(str::as_bytes)),
            Subject::Namespace => self.value(request.namespace().map(str::as_bytes)),
            Subject::Claim(path) => {
                let values = request.claims(path);
                if values.is_empty() {
                    return self.value(None);
                }
                let mut values = values.iter();
                values.any(|value| self.value(Some(value.as_bytes())))
            }
            Subject::Principal => self.value(request.principal().map(str::as_bytes)),
            Subject::RequestPrincipal => self.value(request.request_principal().map(str::as_bytes)),
        }
    }

    fn address(&self, address: Option<IpAddr>) -> bool {
        match (&self.test, address) {
            (CompiledTest::Network(networks), Some(address)) => {
                networks.iter().any(|network| network.contains(address))
            }
            (_, Some(address)) => {
                let text = address.to_canonical().to_string();
                self.value(Some(text.as_bytes()))
            }
            (_, None) => self.value(None),
        }
    }

    fn value(&self, value: Option<&[u8]>) -> bool {
        match value {
            Some(value) => self.test.holds(value),
            None => self.missing_is_empty && self.test.holds(b""),
        }
    }
}

impl CompiledTest {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Text { how, fold: false } => how.holds(value),
            Self::Text { how, fold: true } => how.holds(&value.to_ascii_lowercase()),
            Self::In(values) => values.iter().any(|one| one.as_bytes() == value),
            Self::Network(networks) => parsed::<IpAddr>(value)
                .is_some_and(|address| networks.iter().any(|network| network.contains(address))),
            Self::Range { min, end } => {
                parsed::<i64>(value).is_some_and(|number| (*min..*end).contains(&number))
            }
            Self::Never => false,
        }
    }
}

fn parsed<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

impl Text {
    fn new(how: TextTest, value: &Arc<str>, fold: bool) -> Self {
        let pattern = || match fold {
            true => Arc::from(value.to_ascii_lowercase()),
            false => Arc::clone(value),
        };
        match how {
            TextTest::Exact => Self::Exact(pattern()),
            TextTest::Prefix => Self::Prefix(pattern()),
            TextTest::ElementPrefix => Self::Element(pattern().trim_end_matches('/').into()),
            TextTest::Suffix => Self::Suffix(pattern()),
            TextTest::Contains => Self::Contains(pattern()),
            TextTest::Regex if fold => {
                Self::Regex(regex::compile_ignoring_case(value).ok().map(Box::new))
            }
            TextTest::Regex => Self::Regex(regex::compile(value).ok().map(Box::new)),
        }
    }

    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Element(prefix) => value
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
            Self::Suffix(suffix) => value.ends_with(suffix.as_bytes()),
            Self::Contains(part) => {
                let part = part.as_bytes();
                part.is_empty() || value.windows(part.len()).any(|window| window == part)
            }
            Self::Regex(expression) => expression.as_ref().is_some_and(|it| it.is_match(value)),
        }
    }
}

/// The host of a request in lower case, without its port.
pub fn host<'r>(request: &'r impl RequestView) -> Cow<'r, str> {
    let host = authority::host(request.host());
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// All values of a header, joined by `, `; `None` if it is not there.
pub fn joined<'r>(request: &'r impl RequestView, name: &str) -> Option<Cow<'r, [u8]>> {
    let mut more: Option<Vec<u8>> = None;
    let mut count = 0;
    request.each_value(name, &mut |value| {
        count += 1;
        if count > 1 {
            let first = || request.header(name).unwrap_or_default().to_vec();
            let all = more.get_or_insert_with(first);
            all.extend_from_slice(b", ");
            all.extend_from_slice(value);
        }
    });
    match more {
        Some(all) => Some(Cow::Owned(all)),
        None => request.header(name).map(Cow::Borrowed),
    }
}

/// The value of a cookie, without its quotes; the first if it is there more than once.
pub fn cookie(request: &impl RequestView, name: &str) -> Option<Vec<u8>> {
    let mut found = None;
    request.each_value("cookie", &mut |value| {
        if found.is_some() {
            return;
        }
        found = value.split(|byte| *byte == b';').find_map(|pair| {
            let pair = pair.trim_ascii();
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&pair[..at], &pair[at + 1..]);
            let unquoted = value
                .strip_prefix(b"\"")
                .and_then(|it| it.strip_suffix(b"\""));
            (key.trim_ascii_end() == name.as_bytes()).then(|| unquoted.unwrap_or(value).to_vec())
        });
    });
    found
}

/// The first value of a query parameter, decoded.
pub fn query_value<'r>(request: &'r impl RequestView, name: &str) -> Option<Cow<'r, [u8]>> {
    query::first(request.query(), name)
}

#[cfg(test)]
mod tests;
