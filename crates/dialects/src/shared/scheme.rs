//! Requests of one scheme.

use routing::model::{Match, Predicate, Subject, Test, TextTest};

use crate::shared::matches;

/// Requests of this scheme.
pub(crate) fn is(scheme: &str) -> Predicate {
    Predicate {
        subject: Subject::Scheme,
        test: Test::Text {
            how: TextTest::Exact,
            value: scheme.into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    }
}

/// The same matches, of requests over plain HTTP alone.
pub(crate) fn over_http(all: &[Match]) -> Vec<Match> {
    matches::and(all, &is("http"))
}
