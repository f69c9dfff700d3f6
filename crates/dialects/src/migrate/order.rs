//! Where the order of a dialect and the order of Gateway API decide differently.
//!
//! Gateway API has no written order between paths: exact ones come first, then expressions, then
//! the longest prefix. A pair of rules that can both take a request and whose order is turned
//! around is told.

use std::cmp::Reverse;
use std::sync::Arc;

use routing::model::{Match, Origin, PathMatch, Route, RouteId};

use super::Role;

/// Pairs that are looked at, at most; files have few rules per host.
const MOST_PAIRS: usize = 200_000;

/// A rule where it is written to.
pub(super) struct Placed<'i> {
    pub(super) id: &'i RouteId,
    pub(super) route: &'i Arc<Route>,
    /// As the API reads them.
    pub(super) matches: Vec<Match>,
    /// Namespace and name of its HTTPRoute, and the number of the rule: what ties otherwise is in
    /// this order.
    pub(super) at: (Arc<str>, String, usize),
    /// Requests of this scheme alone.
    pub(super) scheme: Option<&'static str>,
    pub(super) role: Role,
}

impl Placed<'_> {
    /// Each as the API reads it, and as it was.
    fn alternatives(&self) -> Vec<(Match, Match)> {
        if self.matches.is_empty() {
            return vec![Default::default()];
        }
        let all = self.matches.iter().cloned();
        all.zip(self.route.matches.iter().cloned()).collect()
    }
}

/// The rules that come earlier here and later there, with what to know about it. `all` are those of
/// one host.
pub(super) fn inversions(all: &mut [&Placed<'_>]) -> Vec<(Origin, String)> {
    all.sort_by(|a, b| (&a.route.sort_key, a.id).cmp(&(&b.route.sort_key, b.id)));
    let mut found = Vec::new();
    let pairs = all.iter().enumerate().flat_map(|(at, first)| {
        let later = all.get(at + 1..).unwrap_or_default();
        later.iter().map(move |second| (*first, *second))
    });
    let meet = |one: &Placed<'_>, other: &Placed<'_>| {
        let schemes = one.scheme.zip(other.scheme);
        schemes.is_none_or(|(one, other)| one == other)
    };
    for (first, second) in pairs.filter(|(a, b)| meet(a, b)).take(MOST_PAIRS) {
        let seconds = second.alternatives();
        let is_turned = first.alternatives().iter().any(|(one, own)| {
            let mut others = seconds.iter();
            others.any(|(other, theirs)| {
                (rank(other), &second.at) < (rank(one), &first.at) && may_overlap(own, theirs)
            })
        });
        if is_turned {
            let of = &second.route.origin;
            let text = format!(
                "{} of {} {}/{} comes later here and wins there over it, where both match",
                of.field, of.kind, of.namespace, of.name
            );
            found.push((first.route.origin.clone(), text));
        }
    }
    found
}

type Rank = (u8, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>);

/// As Gateway API compares matches: the smallest wins.
fn rank(one: &Match) -> Rank {
    let (kind, length) = match &one.path {
        Some(PathMatch::Exact(path)) => (0, path.len()),
        Some(PathMatch::Regex(text) | PathMatch::StringPrefix(text)) => (1, text.len()),
        Some(PathMatch::ElementPrefix(prefix)) => (2, prefix.len()),
        None | Some(PathMatch::Connect) => (2, 1),
    };
    (
        kind,
        Reverse(length),
        one.method.is_none(),
        Reverse(one.headers.len()),
        Reverse(one.query.len()),
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
        (PathMatch::Connect, other) | (other, PathMatch::Connect) => *other == PathMatch::Connect,
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
        PathMatch::Connect => "",
    }
}
