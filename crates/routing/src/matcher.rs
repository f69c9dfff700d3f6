//! The routes of one host, arranged so that a request finds the first that matches.
//!
//! A few routes are tried in order. Many are found by their path (exact, or any prefix of the
//! request's path) and only those candidates are compared, the first in the order winning. Rules
//! of one path are a group; a table with one route more or less copies that route's groups and
//! shares all others with the table before.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::authority::Hash;
use crate::model::{RouteId, SortKey};
use crate::route::CompiledRoute;
use crate::rule::{PathRule, Rule};
use crate::table::Table;
use crate::view::RequestView;

/// Up to this many rules are tried one after another: less work than any index.
const LINEAR: usize = 6;

pub(crate) enum RouteTable {
    /// In sort order.
    Few(Box<[Arc<CompiledRoute>]>),
    Many(Box<PathIndex>),
}

impl RouteTable {
    /// `routes` are in sort order.
    pub(crate) fn new(routes: Vec<Arc<CompiledRoute>>) -> Self {
        // A route without alternatives counts: it applies to every request.
        let rules: usize = routes.iter().map(|route| route.rules().len().max(1)).sum();
        if rules <= LINEAR {
            return Self::Few(routes.into());
        }
        Self::Many(Box::new(PathIndex::default().with(&[], &routes)))
    }

    /// The same without some routes and with others, at the cost of their groups. `None` if the
    /// table is so small that it is made anew.
    pub(crate) fn with(
        &self,
        removed: &[Arc<CompiledRoute>],
        added: &[Arc<CompiledRoute>],
    ) -> Option<Self> {
        match self {
            Self::Few(_) => None,
            Self::Many(index) => Some(Self::Many(Box::new(index.with(removed, added)))),
        }
    }

    pub(crate) fn select(&self, request: &impl RequestView) -> Option<&Arc<CompiledRoute>> {
        match self {
            Self::Few(routes) => routes.iter().find(|route| route.applies(request)),
            Self::Many(index) => index.first(request),
        }
    }

    /// All routes in sort order. For listings: it sorts.
    pub(crate) fn routes(&self) -> Vec<Arc<CompiledRoute>> {
        match self {
            Self::Few(routes) => routes.to_vec(),
            Self::Many(index) => index.routes(),
        }
    }
}

/// Rules by path. Every rule is in exactly one group.
pub(crate) struct PathIndex {
    any: Group,
    exact: Groups,
    /// String and element prefixes alike.
    prefixes: Groups,
}

/// Rules with one path, in the order in which they are tried.
type Group = Arc<[Place]>;

/// One rule of a route.
#[derive(Clone)]
struct Place {
    route: Arc<CompiledRoute>,
    /// Which of its alternatives; a route without any has one that always holds.
    at: u32,
}

/// Groups by their path.
struct Groups {
    by_path: Table<Group>,
    /// Distinct lengths of paths, ascending, with how many paths have each: the only places to
    /// look at in a request's path.
    lengths: Arc<[(usize, usize)]>,
}

impl Default for PathIndex {
    fn default() -> Self {
        Self {
            any: Arc::new([]),
            exact: Groups::default(),
            prefixes: Groups::default(),
        }
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            by_path: Table::new(|path| Hash::EMPTY.push(path.as_bytes()).finish()),
            lengths: Arc::new([]),
        }
    }
}

impl PathIndex {
    fn with(&self, removed: &[Arc<CompiledRoute>], added: &[Arc<CompiledRoute>]) -> Self {
        let gone: HashSet<*const CompiledRoute> = removed.iter().map(Arc::as_ptr).collect();
        let mut changes = Changes::default();
        for route in removed {
            each_place(route, |place| {
                changes.of(&place);
            });
        }
        for route in added {
            each_place(route, |place| changes.of(&place).push(place));
        }
        let any = changes.any.map(|added| edited(&self.any, &gone, added));
        Self {
            any: any.unwrap_or_else(|| Arc::clone(&self.any)),
            exact: self.exact.with(changes.exact, &gone),
            prefixes: self.prefixes.with(changes.prefixes, &gone),
        }
    }

    /// The route of the first rule that holds.
    fn first<'a>(&'a self, request: &impl RequestView) -> Option<&'a Arc<CompiledRoute>> {
        let mut best: Option<&'a Place> = None;
        let mut consider = |group: &'a Group| {
            let mut before = group
                .iter()
                .take_while(|place| best.is_none_or(|best| place.rank() < best.rank()));
            if let Some(place) = before.find(|place| place.holds(request)) {
                best = Some(place);
            }
        };
        let path = request.path().as_bytes();
        let (mut hash, mut hashed) = (Hash::EMPTY, 0);
        let lengths = self.prefixes.lengths.iter().map(|(length, _)| *length);
        for length in lengths.take_while(|length| *length <= path.len()) {
            hash = hash.push(&path[hashed..length]);
            hashed = length;
            if let Some(group) = self.prefixes.find(hash, &path[..hashed]) {
                consider(group);
            }
        }
        if self.exact.has_length(path.len()) {
            let hash = hash.push(&path[hashed..]);
            if let Some(group) = self.exact.find(hash, path) {
                consider(group);
            }
        }
        consider(&self.any);
        best.map(|place| &place.route)
    }

    fn routes(&self) -> Vec<Arc<CompiledRoute>> {
        let groups = [&self.exact, &self.prefixes];
        let by_path = groups.into_iter().flat_map(|it| it.by_path.iter());
        let groups = by_path.map(|entry| &entry.value).chain([&self.any]);
        let mut places: Vec<&Place> = groups.flat_map(|group| group.iter()).collect();
        places.sort();
        let mut routes: Vec<_> = places.into_iter().map(|it| Arc::clone(&it.route)).collect();
        routes.dedup_by(|a, b| Arc::ptr_eq(a, b));
        routes
    }
}

impl Groups {
    fn find(&self, hash: Hash, path: &[u8]) -> Option<&Group> {
        self.by_path
            .find(hash.finish(), |key| key.as_bytes() == path)
    }

    fn has_length(&self, length: usize) -> bool {
        let found = self.lengths.binary_search_by_key(&length, |(it, _)| *it);
        found.is_ok()
    }

    fn with(
        &self,
        changes: HashMap<Arc<str>, Vec<Place>>,
        gone: &HashSet<*const CompiledRoute>,
    ) -> Self {
        let mut lengths: HashMap<usize, isize> = HashMap::new();
        let mut groups = Vec::with_capacity(changes.len());
        for (path, added) in changes {
            let hash = Hash::EMPTY.push(path.as_bytes());
            let before = self.find(hash, path.as_bytes());
            let now = edited(before.map_or(&[], |group| group), gone, added);
            let change = isize::from(!now.is_empty()) - isize::from(before.is_some());
            *lengths.entry(path.len()).or_default() += change;
            groups.push((path, (!now.is_empty()).then_some(now)));
        }
        lengths.retain(|_, change| *change != 0);
        Self {
            by_path: self.by_path.with(groups),
            lengths: counted(&self.lengths, lengths),
        }
    }
}

/// Lengths with these changes of how many paths have them.
fn counted(
    before: &Arc<[(usize, usize)]>,
    changes: HashMap<usize, isize>,
) -> Arc<[(usize, usize)]> {
    if changes.is_empty() {
        return Arc::clone(before);
    }
    let mut counts: HashMap<usize, usize> = before.iter().copied().collect();
    for (length, change) in changes {
        let count = counts.entry(length).or_default();
        *count = count.saturating_add_signed(change);
    }
    let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    counts.sort_unstable();
    counts.into()
}

/// Rules to add, by the group that they belong to; a group that only loses some is there as well.
#[derive(Default)]
struct Changes {
    any: Option<Vec<Place>>,
    exact: HashMap<Arc<str>, Vec<Place>>,
    prefixes: HashMap<Arc<str>, Vec<Place>>,
}

impl Changes {
    fn of(&mut self, place: &Place) -> &mut Vec<Place> {
        match place.rule().map(|rule| &rule.path) {
            // An expression may match anything; how often there is one does not matter yet.
            None | Some(PathRule::Any | PathRule::Text(_) | PathRule::Connect) => {
                self.any.get_or_insert_default()
            }
            Some(PathRule::Exact(path)) => self.exact.entry(Arc::clone(path)).or_default(),
            Some(PathRule::Prefix(path) | PathRule::Element(path)) => {
                self.prefixes.entry(Arc::clone(path)).or_default()
            }
        }
    }
}

fn edited(before: &[Place], gone: &HashSet<*const CompiledRoute>, added: Vec<Place>) -> Group {
    let stays = |place: &&Place| !gone.contains(&Arc::as_ptr(&place.route));
    let mut places: Vec<Place> = before.iter().filter(stays).cloned().collect();
    places.extend(added);
    places.sort_unstable();
    places.into()
}

fn each_place(route: &Arc<CompiledRoute>, mut each: impl FnMut(Place)) {
    for (at, _) in (0u32..).zip(0..route.rules().len().max(1)) {
        let route = Arc::clone(route);
        each(Place { route, at });
    }
}

impl Place {
    fn rule(&self) -> Option<&Rule> {
        self.route.rules().get(self.at as usize)
    }

    fn holds(&self, request: &impl RequestView) -> bool {
        match self.rule() {
            Some(rule) => rule.holds(request),
            None => !request.is_connect(),
        }
    }

    fn rank(&self) -> (&SortKey, &RouteId, u32) {
        (&self.route.source().sort_key, self.route.id(), self.at)
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Match, PathMatch, Route};
    use crate::{Compiler, Snapshot, Visibility};

    const ROUTES: usize = 5000;

    fn route(number: usize, path: &str) -> (RouteId, Arc<Route>) {
        let matches = vec![Match {
            path: Some(PathMatch::ElementPrefix(path.into())),
            ..Match::default()
        }];
        let route = crate::tests::route(&["*"], 0, matches);
        (RouteId(format!("r{number}").into()), Arc::new(route))
    }

    fn groups(snapshot: &Snapshot) -> HashSet<*const Place> {
        let host = snapshot.hosts.any.as_ref().expect("the host");
        let table = host.table(Visibility::External).expect("a table");
        let RouteTable::Many(index) = table else {
            panic!("few routes")
        };
        let entries = index.prefixes.by_path.iter();
        entries.map(|entry| entry.value.as_ptr()).collect()
    }

    #[test]
    fn one_route_of_thousands_on_a_host_changes_alone() {
        let mut compiler = Compiler::default();
        for number in 0..ROUTES {
            let (id, route) = route(number, &format!("/{number}"));
            compiler.put_route(id, route);
        }
        let (first, _) = compiler.compile();
        let before = groups(&first);
        assert_eq!(before.len(), ROUTES);
        let (id, changed) = route(7, "/seven");
        compiler.put_route(id, changed);
        let (second, _) = compiler.compile();
        let now = groups(&second);
        assert_eq!(now.len(), ROUTES);
        assert_eq!(now.difference(&before).count(), 1);
        compiler.remove_route(&RouteId("r8".into()));
        let (third, _) = compiler.compile();
        let gone = groups(&third);
        assert_eq!(gone.len(), ROUTES - 1);
        assert!(gone.is_subset(&now));
    }
}
