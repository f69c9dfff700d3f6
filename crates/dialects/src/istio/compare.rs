//! `StringMatch`: exact, prefix or regex; nothing of these asks only whether it is there.

use std::sync::Arc;

use routing::model::{HeaderMatch, Predicate, QueryMatch, Subject, Test, TextMatch, TextTest};

use crate::fields::Fields;

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Regex(Arc<str>),
    Present,
}

/// A match that cannot be read; it was reported.
#[derive(Debug)]
pub(super) struct Unreadable;

/// Reads a `StringMatch`.
pub(super) fn read(fields: &Fields<'_>) -> Result<Compared, Unreadable> {
    let exact = fields.str("exact").map(|text| Compared::Exact(text.into()));
    let prefix = fields
        .str("prefix")
        .map(|text| Compared::Prefix(text.into()));
    let regex = fields.str("regex");
    let given = [exact.is_some(), prefix.is_some(), regex.is_some()];
    let known = ["exact", "prefix", "regex"];
    let is_broken = known
        .iter()
        .zip(given)
        .any(|(key, read)| fields.has(key) && !read);
    if is_broken || given.iter().filter(|given| **given).count() > 1 {
        let message = format!("{}: write one of exact, prefix and regex", fields.path());
        fields
            .findings()
            .refuse("MatchInvalid", fields.path(), message);
        return Err(Unreadable);
    }
    // A misspelt comparison must not become "anything": that would match too much.
    if let Some(other) = fields.keys().find(|key| !known.contains(key)) {
        let message = format!("{other} is no comparison; write exact, prefix or regex");
        fields.refuse(other, "MatchInvalid", message);
        fields.pass_over();
        return Err(Unreadable);
    }
    let found = exact.or(prefix);
    match (found, regex) {
        (Some(found), _) => Ok(found),
        // Istio's way to ask for any value; as an expression it would be none.
        (None, Some("*")) => Ok(Compared::Present),
        (None, Some(text)) => Ok(Compared::Regex(expression(fields, "regex", text)?)),
        (None, None) => Ok(Compared::Present),
    }
}

/// A regular expression that compiles.
pub(super) fn expression(
    fields: &Fields<'_>,
    key: &str,
    text: &str,
) -> Result<Arc<str>, Unreadable> {
    match routing::regex::compile(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => {
            fields.refuse(key, "RegexInvalid", format!("{text:?}: {error}"));
            Err(Unreadable)
        }
    }
}

impl Compared {
    /// The same as a test of a predicate.
    pub(super) fn test(&self, ignore_case: bool) -> Test {
        let (how, value) = match self {
            Self::Exact(value) => (TextTest::Exact, value),
            Self::Prefix(value) => (TextTest::Prefix, value),
            Self::Regex(value) => (TextTest::Regex, value),
            Self::Present => return Test::Present,
        };
        Test::Text {
            how,
            value: Arc::clone(value),
            ignore_case,
        }
    }

    /// As a condition on a part of the request.
    pub(super) fn predicate(&self, subject: Subject) -> Predicate {
        Predicate {
            subject,
            test: self.test(false),
            negate: false,
            missing_is_empty: false,
        }
    }

    /// A header's condition, in the words that are compared first if they can say it.
    pub(super) fn header(&self, name: Arc<str>) -> Result<HeaderMatch, Predicate> {
        match self {
            Self::Exact(value) => Ok(HeaderMatch {
                name,
                value: TextMatch::Exact(Arc::clone(value)),
            }),
            Self::Regex(value) => Ok(HeaderMatch {
                name,
                value: TextMatch::Regex(Arc::clone(value)),
            }),
            Self::Prefix(_) | Self::Present => Err(self.predicate(Subject::Header(name))),
        }
    }

    /// The same for a query parameter.
    pub(super) fn query(&self, name: Arc<str>) -> Result<QueryMatch, Predicate> {
        match self {
            Self::Exact(value) => Ok(QueryMatch {
                name,
                value: TextMatch::Exact(Arc::clone(value)),
            }),
            Self::Regex(value) => Ok(QueryMatch {
                name,
                value: TextMatch::Regex(Arc::clone(value)),
            }),
            Self::Prefix(_) | Self::Present => Err(self.predicate(Subject::Query(name))),
        }
    }
}
