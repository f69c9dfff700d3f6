//! One alternative of a route's match, ready to be compared with requests.

use std::sync::Arc;

use crate::model::{Match, PathMatch, TextMatch};
use crate::predicate::Predicates;
use crate::query;
use crate::regex;
use crate::view::RequestView;

/// One alternative of a route, compiled once however many tables the route is in.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) path: PathRule,
    headers: Box<[(Arc<str>, TextRule)]>,
    rare: Option<Box<RareRule>>,
}

/// Predicates that few routes have.
#[derive(Debug)]
pub(crate) struct RareRule {
    method: Option<Arc<str>>,
    query: Box<[(Arc<str>, TextRule)]>,
    other: Predicates,
}

/// A [`TextMatch`], ready to be compared.
#[derive(Debug)]
pub(crate) enum TextRule {
    Exact(Arc<str>),
    /// `None` if it does not compile, which dialects refuse: then nothing matches.
    Regex(Option<Box<::regex::bytes::Regex>>),
}

#[derive(Debug)]
pub(crate) enum PathRule {
    Any,
    Exact(Arc<str>),
    Prefix(Arc<str>),
    /// Without trailing slashes; what follows the prefix is nothing or a slash.
    Element(Arc<str>),
    Text(TextRule),
    /// CONNECT requests, which no other rule is for.
    Connect,
}

impl Rule {
    pub(crate) fn new(one: &Match) -> Self {
        let path = match &one.path {
            None => PathRule::Any,
            Some(PathMatch::Exact(path)) => PathRule::Exact(Arc::clone(path)),
            Some(PathMatch::StringPrefix(prefix)) if prefix.is_empty() => PathRule::Any,
            Some(PathMatch::StringPrefix(prefix)) => PathRule::Prefix(Arc::clone(prefix)),
            Some(PathMatch::ElementPrefix(prefix)) => {
                let trimmed = prefix.trim_end_matches('/');
                let is_whole = trimmed.len() == prefix.len();
                PathRule::Element(if is_whole {
                    Arc::clone(prefix)
                } else {
                    trimmed.into()
                })
            }
            Some(PathMatch::Regex(expression)) => PathRule::Text(TextRule::regex(expression)),
            Some(PathMatch::Connect) => PathRule::Connect,
        };
        let headers = one.headers.iter();
        let query = one.query.iter();
        let is_rare = one.method.is_some() || !one.query.is_empty() || !one.other.is_empty();
        Self {
            path,
            headers: headers
                .map(|header| (Arc::clone(&header.name), TextRule::new(&header.value)))
                .collect(),
            rare: is_rare.then(|| {
                Box::new(RareRule {
                    method: one.method.clone(),
                    query: query
                        .map(|wanted| (Arc::clone(&wanted.name), TextRule::new(&wanted.value)))
                        .collect(),
                    other: Predicates::of_route(&one.other),
                })
            }),
        }
    }

    pub(crate) fn holds(&self, request: &impl RequestView) -> bool {
        let path_holds = match &self.path {
            PathRule::Connect => request.is_connect(),
            _ if request.is_connect() => false,
            PathRule::Any => true,
            PathRule::Exact(exact) => **exact == *request.path(),
            PathRule::Prefix(prefix) => request.path().starts_with(&**prefix),
            PathRule::Element(prefix) => request
                .path()
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            PathRule::Text(rule) => rule.holds(request.path().as_bytes()),
        };
        let header_holds = |(name, rule): &(Arc<str>, TextRule)| {
            request.header(name).is_some_and(|value| rule.holds(value))
        };
        path_holds
            && self.headers.iter().all(header_holds)
            && self.rare.as_ref().is_none_or(|rare| rare.holds(request))
    }
}

impl RareRule {
    fn holds(&self, request: &impl RequestView) -> bool {
        let query_holds = |(name, rule): &(Arc<str>, TextRule)| {
            query::first(request.query(), name).is_some_and(|value| rule.holds(&value))
        };
        self.method
            .as_ref()
            .is_none_or(|method| **method == *request.method())
            && self.query.iter().all(query_holds)
            && self.other.hold(request)
    }
}

impl TextRule {
    fn new(wanted: &TextMatch) -> Self {
        match wanted {
            TextMatch::Exact(exact) => Self::Exact(Arc::clone(exact)),
            TextMatch::Regex(expression) => Self::regex(expression),
        }
    }

    fn regex(expression: &str) -> Self {
        Self::Regex(regex::compile(expression).ok().map(Box::new))
    }

    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Regex(expression) => expression.as_ref().is_some_and(|it| it.is_match(value)),
        }
    }
}

/// Whether a value is such, for explanations: compiles what it needs.
pub(crate) fn text_holds(wanted: &TextMatch, value: &[u8]) -> bool {
    TextRule::new(wanted).holds(value)
}
