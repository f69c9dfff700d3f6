//! Matches of routes.

use routing::model::{Match, Predicate, Subject, Test, TextTest};

/// Where this is a text that compares so; case counts.
pub(crate) fn text(subject: Subject, how: TextTest, value: &str) -> Predicate {
    Predicate {
        subject,
        test: Test::Text {
            how,
            value: value.into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    }
}

/// The same matches, where this holds as well. Without matches that is every such request.
pub(crate) fn and(matches: &[Match], also: &Predicate) -> Vec<Match> {
    let any = [Match::default()];
    let matches = if matches.is_empty() { &any } else { matches };
    let mut matches = matches.to_vec();
    for one in &mut matches {
        one.other.push(also.clone());
    }
    matches
}
