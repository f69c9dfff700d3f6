//! Requests of one scheme.

use routing::model::{Match, Predicate, Subject, TextTest};

use crate::shared::matches;

/// Requests of this scheme.
pub(crate) fn is(scheme: &str) -> Predicate {
    matches::text(Subject::Scheme, TextTest::Exact, scheme)
}

/// The same matches, of requests over plain HTTP alone.
pub(crate) fn over_http(all: &[Match]) -> Vec<Match> {
    matches::and(all, &is("http"))
}
