//! Where the order of a dialect and the order of Gateway API decide differently.
//!
//! Gateway API has no written order between paths: exact ones come first, then expressions, then
//! the longest prefix. A pair of rules that can both take a request and whose order is turned
//! around is told.

use std::sync::Arc;

use routing::model::{Match, Origin, PathMatch, Route, RouteId};

use super::matching::is_everything;

/// Pairs that are looked at, at most; files have few rules per host.
const MOST_PAIRS: usize = 200_000;

/// The rules that come earlier here and later there, with what to know about it.
pub(super) fn inversions(members: &[(&RouteId, &Arc<Route>)]) -> Vec<(Origin, String)> {
    let mut found = Vec::new();
    let pairs = members.iter().enumerate().flat_map(|(at, (_, first))| {
        let later = members.get(at + 1..).unwrap_or_default();
        later.iter().map(move |(_, second)| (*first, *second))
    });
    for (first, second) in pairs.take(MOST_PAIRS) {
        if first.origin.field == second.origin.field {
            continue;
        }
        let alternatives = |route: &Arc<Route>| match route.matches.as_slice() {
            [] => vec![Match::default()],
            all => all.to_vec(),
        };
        let seconds = alternatives(second);
        let is_turned = alternatives(first).iter().any(|one| {
            let mut others = seconds.iter();
            others.any(|other| rank(other) < rank(one) && may_overlap(one, other))
        });
        if is_turned {
            let text = format!(
                "{} comes later here and wins there over it, where both match",
                second.origin.field
            );
            found.push((first.origin.clone(), text));
        }
    }
    found
}

/// As Gateway API compares matches: the smallest wins.
fn rank(one: &Match) -> (u8, std::cmp::Reverse<usize>, bool, std::cmp::Reverse<usize>) {
    let (kind, length) = match &one.path {
        Some(PathMatch::Exact(path)) => (0, path.len()),
        Some(PathMatch::Regex(expression)) => (1, expression.len()),
        Some(PathMatch::StringPrefix(prefix)) if !is_everything(prefix) => (1, prefix.len()),
        Some(PathMatch::ElementPrefix(prefix)) => (2, prefix.len()),
        Some(PathMatch::StringPrefix(_)) | None => (2, 1),
    };
    let conditions = one.headers.len() * 1000 + one.query.len();
    let reverse = std::cmp::Reverse;
    (
        kind,
        reverse(length),
        one.method.is_none(),
        reverse(conditions),
    )
}

/// Whether some request may match both; expressions are taken to match anything.
fn may_overlap(one: &Match, other: &Match) -> bool {
    let methods = one.method.as_ref().zip(other.method.as_ref());
    methods.is_none_or(|(a, b)| a == b) && paths_overlap(one, other)
}

fn paths_overlap(one: &Match, other: &Match) -> bool {
    let (Some(one), Some(other)) = (&one.path, &other.path) else {
        return true;
    };
    match (one, other) {
        (PathMatch::Regex(_), _) | (_, PathMatch::Regex(_)) => true,
        (PathMatch::Exact(a), PathMatch::Exact(b)) => a == b,
        (PathMatch::Exact(path), prefix) | (prefix, PathMatch::Exact(path)) => begins(path, prefix),
        (a, b) => begins(text(a), b) || begins(text(b), a),
    }
}

fn begins(path: &str, prefix: &PathMatch) -> bool {
    let text = text(prefix);
    match prefix {
        PathMatch::ElementPrefix(_) => {
            let elements = text.trim_end_matches('/');
            let rest = path.strip_prefix(elements);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        _ => path.starts_with(text),
    }
}

fn text(path: &PathMatch) -> &str {
    match path {
        PathMatch::Exact(text)
        | PathMatch::StringPrefix(text)
        | PathMatch::ElementPrefix(text)
        | PathMatch::Regex(text) => text,
    }
}
