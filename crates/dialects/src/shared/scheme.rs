//! Requests of one scheme.

use routing::model::{Match, Predicate, Subject, Test, TextTest};

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

/// The same matches, of requests over plain HTTP alone. Without matches that is every such request.
pub(crate) fn over_http(matches: &[Match]) -> Vec<Match> {
    let any = [Match::default()];
    let matches = if matches.is_empty() { &any } else { matches };
    let mut matches = matches.to_vec();
    for one in &mut matches {
        one.other.push(is("http"));
    }
    matches
}
