//! The routes of one host, arranged so that a request finds the first that matches.
//!
//! A route's alternatives are flattened into rules; a rule's position is its rank. Few rules are
//! tried in order. Many are found by their path (exact, or any prefix of the request's path) and
//! only those candidates are compared, lowest rank first.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authority::{self, Hash};
use crate::model::{HeaderMatch, Match, PathMatch};
use crate::snapshot::{CompiledRoute, RequestView};

/// Up to this many rules are tried one after another: less work than any index.
const LINEAR: usize = 6;

pub(crate) struct RouteTable {
    /// In sort order.
    pub(crate) routes: Box<[Arc<CompiledRoute>]>,
    rules: Box<[Rule]>,
    index: Option<PathIndex>,
}

/// One alternative of a route.
struct Rule {
    route: u32,
    path: PathRule,
    headers: Box<[HeaderMatch]>,
}

enum PathRule {
    Any,
    Exact(Arc<str>),
    Prefix(Arc<str>),
    /// Without trailing slashes; what follows the prefix is nothing or a slash.
    Element(Arc<str>),
}

impl RouteTable {
    /// `routes` are in sort order.
    pub(crate) fn new(routes: Vec<Arc<CompiledRoute>>) -> Self {
        let mut rules = Vec::with_capacity(routes.len());
        for (at, route) in (0u32..).zip(&routes) {
            let matches = &route.source().matches;
            if matches.is_empty() {
                rules.push(Rule {
                    route: at,
                    path: PathRule::Any,
                    headers: Box::new([]),
                });
            }
            rules.extend(matches.iter().map(|one| Rule::new(at, one)));
        }
        let index = (rules.len() > LINEAR).then(|| PathIndex::new(&rules));
        Self {
            routes: routes.into(),
            rules: rules.into(),
            index,
        }
    }

    pub(crate) fn select(&self, request: &impl RequestView) -> Option<&Arc<CompiledRoute>> {
        let rule = match &self.index {
            None => self.rules.iter().find(|rule| rule.holds(request)),
            Some(index) => index.first(&self.rules, request),
        };
        rule.map(|rule| &self.routes[rule.route as usize])
    }
}

impl Rule {
    fn new(route: u32, one: &Match) -> Self {
        let path = match &one.path {
            None => PathRule::Any,
            Some(PathMatch::Exact(path)) => PathRule::Exact(Arc::clone(path)),
            Some(PathMatch::StringPrefix(prefix)) if prefix.is_empty() => PathRule::Any,
            Some(PathMatch::StringPrefix(prefix)) => PathRule::Prefix(Arc::clone(prefix)),
            Some(PathMatch::ElementPrefix(prefix)) => {
                PathRule::Element(prefix.trim_end_matches('/').into())
            }
        };
        Self {
            route,
            path,
            headers: one.headers.as_slice().into(),
        }
    }

    fn holds(&self, request: &impl RequestView) -> bool {
        let path = request.path();
        let path_holds = match &self.path {
            PathRule::Any => true,
            PathRule::Exact(exact) => **exact == *path,
            PathRule::Prefix(prefix) => path.starts_with(&**prefix),
            PathRule::Element(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        };
        path_holds
            && self
                .headers
                .iter()
                .all(|header| header_holds(header, request))
    }
}

pub(crate) fn header_holds(header: &HeaderMatch, request: &impl RequestView) -> bool {
    request.header(&header.name) == Some(header.value.as_bytes())
}

/// Ranks by path. Every rule is in exactly one list.
struct PathIndex {
    any: Vec<u32>,
    exact: Vec<Group>,
    longest_exact: usize,
    /// String and element prefixes alike.
    prefixes: Vec<Group>,
    /// Distinct lengths of `prefixes`, ascending: the only places to look at in a request's path.
    lengths: Vec<usize>,
}

/// Rules with one path, ranks ascending. Groups are sorted by hash.
struct Group {
    hash: u64,
    path: Arc<str>,
    ranks: Vec<u32>,
}

impl PathIndex {
    fn new(rules: &[Rule]) -> Self {
        let mut any = Vec::new();
        let mut exact: BTreeMap<&Arc<str>, Vec<u32>> = BTreeMap::new();
        let mut prefixes: BTreeMap<&Arc<str>, Vec<u32>> = BTreeMap::new();
        for (rank, rule) in (0u32..).zip(rules) {
            match &rule.path {
                PathRule::Any => any.push(rank),
                PathRule::Exact(path) => exact.entry(path).or_default().push(rank),
                PathRule::Prefix(path) | PathRule::Element(path) => {
                    prefixes.entry(path).or_default().push(rank)
                }
            }
        }
        let mut lengths: Vec<usize> = prefixes.keys().map(|path| path.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let longest_exact = exact.keys().map(|path| path.len()).max().unwrap_or(0);
        Self {
            any,
            exact: groups(exact),
            longest_exact,
            prefixes: groups(prefixes),
            lengths,
        }
    }

    /// The rule of lowest rank that holds.
    fn first<'a>(&self, rules: &'a [Rule], request: &impl RequestView) -> Option<&'a Rule> {
        let mut best: Option<u32> = None;
        let mut consider = |ranks: &[u32]| {
            let before = ranks
                .iter()
                .take_while(|rank| best.is_none_or(|best| **rank < best));
            let mut holding = before.filter(|rank| rules[**rank as usize].holds(request));
            if let Some(rank) = holding.next() {
                best = Some(*rank);
            }
        };
        let path = request.path().as_bytes();
        let (mut hash, mut hashed) = (Hash::EMPTY, 0);
        for length in self
            .lengths
            .iter()
            .take_while(|length| **length <= path.len())
        {
            hash = hash.push(&path[hashed..*length]);
            hashed = *length;
            if let Some(ranks) = find(&self.prefixes, hash.finish(), &path[..hashed]) {
                consider(ranks);
            }
        }
        if !self.exact.is_empty() && path.len() <= self.longest_exact {
            let hash = hash.push(&path[hashed..]);
            if let Some(ranks) = find(&self.exact, hash.finish(), path) {
                consider(ranks);
            }
        }
        consider(&self.any);
        best.map(|rank| &rules[rank as usize])
    }
}

fn groups(by_path: BTreeMap<&Arc<str>, Vec<u32>>) -> Vec<Group> {
    let group = |(path, ranks): (&Arc<str>, _)| Group {
        hash: authority::hash(path),
        path: Arc::clone(path),
        ranks,
    };
    let mut groups: Vec<Group> = by_path.into_iter().map(group).collect();
    groups.sort_by_key(|group| group.hash);
    groups
}

fn find<'a>(groups: &'a [Group], hash: u64, path: &[u8]) -> Option<&'a [u32]> {
    let first = groups.partition_point(|group| group.hash < hash);
    let mut equal = groups[first..]
        .iter()
        .take_while(|group| group.hash == hash);
    equal
        .find(|group| group.path.as_bytes() == path)
        .map(|group| group.ranks.as_slice())
}
