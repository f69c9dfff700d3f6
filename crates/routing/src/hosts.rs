//! What the compiler keeps of one host, and how a table of thousands of routes follows a change
//! of one of them.
//!
//! Edits are gathered between two compilations and applied to the table of the one before. When
//! they are a good part of the table, or too many to look through, the table is made anew.

use std::collections::HashMap;
use std::sync::Arc;

use crate::matcher::RouteTable;
use crate::model::Visibility;
use crate::route::CompiledRoute;

/// The routes of one host in sort order. A vector of pointers: to move some thousands of them by
/// one place costs a few microseconds, and nothing else is as small.
#[derive(Default)]
pub(crate) struct Ordered {
    routes: Vec<Arc<CompiledRoute>>,
    external: usize,
}

impl Ordered {
    pub(crate) fn insert(&mut self, route: Arc<CompiledRoute>) {
        if let Err(at) = self.position(&route) {
            self.external += usize::from(is_external(&route));
            if self.routes.is_empty() {
                // Most hosts have one, and a vector would begin with four.
                self.routes.reserve_exact(1);
            }
            self.routes.insert(at, route);
        }
    }

    pub(crate) fn remove(&mut self, route: &CompiledRoute) {
        if let Ok(at) = self.position(route) {
            let route = self.routes.remove(at);
            self.external -= usize::from(is_external(&route));
        }
    }

    fn position(&self, route: &CompiledRoute) -> Result<usize, usize> {
        let key = (&route.source().sort_key, route.id());
        self.routes
            .binary_search_by(|held| (&held.source().sort_key, held.id()).cmp(&key))
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// How many routes external listeners serve.
    pub(crate) fn external(&self) -> usize {
        self.external
    }

    /// Whether these are equal routes in the same order.
    pub(crate) fn is_same(&self, routes: &[Arc<CompiledRoute>]) -> bool {
        let same = |(a, b): (&Arc<CompiledRoute>, &Arc<CompiledRoute>)| {
            a.id() == b.id() && (Arc::ptr_eq(a.source(), b.source()) || a.source() == b.source())
        };
        self.routes.len() == routes.len() && self.routes.iter().zip(routes).all(same)
    }
}

/// Whether external listeners serve a route.
pub(crate) fn is_external(route: &CompiledRoute) -> bool {
    route.source().visibility == Visibility::External
}

/// Part of a table, as `1 / PART`, that may change before it is made anew.
const PART: usize = 8;
/// So many edits are always gathered.
const FEW: usize = 8;

/// How the routes of a host differ from its table.
pub(crate) enum Edits {
    /// By these: routes of the table that are gone, and routes that it has not.
    Few {
        removed: Vec<Arc<CompiledRoute>>,
        added: Vec<Arc<CompiledRoute>>,
    },
    /// In more than is worth telling, or nobody knows.
    Many,
}

impl Default for Edits {
    fn default() -> Self {
        Self::Few {
            removed: Vec::new(),
            added: Vec::new(),
        }
    }
}

impl Edits {
    /// `routes`: how many the host has now.
    pub(crate) fn add(&mut self, route: &Arc<CompiledRoute>, routes: usize) {
        if let Self::Few { added, .. } = self {
            added.push(Arc::clone(route));
        }
        self.limit(routes);
    }

    pub(crate) fn remove(&mut self, route: &Arc<CompiledRoute>, routes: usize) {
        if let Self::Few { removed, added } = self {
            match added.iter().position(|it| Arc::ptr_eq(it, route)) {
                Some(at) => drop(added.swap_remove(at)),
                None => removed.push(Arc::clone(route)),
            }
        }
        self.limit(routes);
    }

    fn limit(&mut self, routes: usize) {
        if let Self::Few { removed, added } = self
            && removed.len() + added.len() > FEW + routes / PART
        {
            *self = Self::Many;
        }
    }
}

/// Route tables made in one compilation, so that hosts with the same routes share one.
#[derive(Default)]
pub(crate) struct Built(HashMap<Recipe, Arc<RouteTable>>);

/// What a table is made of. Whoever holds the pointers keeps what they point to.
#[derive(PartialEq, Eq, Hash)]
enum Recipe {
    Whole(Vec<*const CompiledRoute>),
    Edited {
        before: *const RouteTable,
        removed: Vec<*const CompiledRoute>,
        added: Vec<*const CompiledRoute>,
    },
}

impl Built {
    /// The table of the routes that are wanted. `before` is the one that `edits` are about.
    pub(crate) fn table(
        &mut self,
        before: Option<&Arc<RouteTable>>,
        edits: &Edits,
        ordered: &Ordered,
        is_wanted: fn(&CompiledRoute) -> bool,
    ) -> Arc<RouteTable> {
        let wanted = |routes: &[Arc<CompiledRoute>]| -> Vec<_> {
            let wanted = routes.iter().filter(|route| is_wanted(route));
            wanted.cloned().collect()
        };
        if let (Some(before), Edits::Few { removed, added }) = (before, edits) {
            let (removed, added) = (wanted(removed), wanted(added));
            if removed.is_empty() && added.is_empty() {
                return Arc::clone(before);
            }
            let recipe = Recipe::Edited {
                before: Arc::as_ptr(before),
                removed: pointers(&removed),
                added: pointers(&added),
            };
            if let Some(table) = self.0.get(&recipe) {
                return Arc::clone(table);
            }
            if let Some(table) = before.with(&removed, &added) {
                return self.keep(recipe, table);
            }
        }
        let routes = wanted(&ordered.routes);
        let recipe = Recipe::Whole(pointers(&routes));
        match self.0.get(&recipe) {
            Some(table) => Arc::clone(table),
            None => self.keep(recipe, RouteTable::new(routes)),
        }
    }

    fn keep(&mut self, recipe: Recipe, table: RouteTable) -> Arc<RouteTable> {
        let table = Arc::new(table);
        self.0.insert(recipe, Arc::clone(&table));
        table
    }
}

fn pointers(routes: &[Arc<CompiledRoute>]) -> Vec<*const CompiledRoute> {
    routes.iter().map(Arc::as_ptr).collect()
}
