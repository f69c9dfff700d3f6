//! Matches of routes.

use routing::model::{Match, Predicate};

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
