//! The routes of one host, arranged so that a request finds the first that matches.
//!
//! A route's alternatives are flattened into rules; a rule's position is its rank. Few rules are
//! tried in order. Many are found by their path (exact, or any prefix of the request's path) and
//! only those candidates are compared, lowest rank first.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authority::Hash;
use crate::model::{Match, PathMatch, TextMatch};
use crate::predicate::Predicates;
use crate::query;
use crate::regex;
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
    headers: Box<[(Arc<str>, TextRule)]>,
    rare: Option<Box<RareRule>>,
}

/// Predicates that few routes have.
struct RareRule {
    method: Option<Arc<str>>,
    query: Box<[(Arc<str>, TextRule)]>,
    other: Predicates,
}

/// A [`TextMatch`], ready to be compared.
enum TextRule {
    Exact(Arc<str>),
    /// `None` if it does not compile, which dialects refuse: then nothing matches.
    Regex(Option<Box<::regex::bytes::Regex>>),
}

enum PathRule {
    Any,
    Exact(Arc<str>),
    Prefix(Arc<str>),
    /// Without trailing slashes; what follows the prefix is nothing or a slash.
    Element(Arc<str>),
    Text(TextRule),
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
                    rare: None,
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
            Some(PathMatch::Regex(expression)) => PathRule::Text(TextRule::regex(expression)),
        };
        let headers = one.headers.iter();
        let query = one.query.iter();
        let is_rare = one.method.is_some() || !one.query.is_empty() || !one.other.is_empty();
        Self {
            route,
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

    fn holds(&self, request: &impl RequestView) -> bool {
        let path_holds = match &self.path {
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
                // An expression may match anything; how often there is one does not matter yet.
                PathRule::Any | PathRule::Text(_) => any.push(rank),
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
        hash: Hash::EMPTY.push(path.as_bytes()).finish(),
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
