//! TLS hosts by the name that a client asks for (SNI), compiled at the cost of what changed.
//!
//! The most specific name decides, as for routes: exact, then a wildcard for one label, then the
//! longest wildcard, then any.
//! Several records for one name are one [`CompiledTls`]: the first by sort key says how, and
//! later ones that say the same but for their certificates add those.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::authority;
use crate::model::tls::{Certificate, Termination, TlsAction, TlsHost, TlsId};
use crate::model::{BindId, HostPattern, SortKey, Visibility};
use crate::route::CompiledSplit;
use crate::snapshot::{BindKey, Snapshot};
use crate::table::Table;

/// What happens to the connections of one name.
pub struct CompiledTls {
    pub pattern: HostPattern,
    pub action: CompiledTlsAction,
    prepared: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// Whether the gateway ends a TLS connection, passes it on or refuses it.
#[derive(Debug)]
pub enum CompiledTlsAction {
    /// With the certificates of all records for the name.
    Terminate(Termination),
    /// The same, and what was inside is passed on as it is.
    Relay(Termination, CompiledSplit),
    Passthrough(CompiledSplit),
    /// Closed without a word.
    Refuse,
}

impl CompiledTls {
    fn new(pattern: &HostPattern, records: &[Arc<TlsHost>]) -> Option<Self> {
        let actions: Vec<_> = records.iter().map(|record| &record.action).collect();
        let action = match actions.first()? {
            TlsAction::Passthrough(split) => {
                CompiledTlsAction::Passthrough(CompiledSplit::new(split))
            }
            TlsAction::Refuse => CompiledTlsAction::Refuse,
            TlsAction::Terminate(_) => CompiledTlsAction::Terminate(merged_termination(&actions)?),
            TlsAction::Relay(_, split) => {
                CompiledTlsAction::Relay(merged_termination(&actions)?, CompiledSplit::new(split))
            }
        };
        Some(Self {
            pattern: pattern.clone(),
            action,
            prepared: OnceLock::new(),
        })
    }

    /// What the data plane made of it, made at most once. It lives as long as this record does, so
    /// changes elsewhere in the snapshot leave it alone.
    pub fn prepared(
        &self,
        make: impl FnOnce(&Self) -> Arc<dyn Any + Send + Sync>,
    ) -> &Arc<dyn Any + Send + Sync> {
        self.prepared.get_or_init(|| make(self))
    }
}

impl fmt::Debug for CompiledTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledTls")
            .field("pattern", &self.pattern)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// How TLS is ended for a name, of which these are the records, the first one first: as the first
/// says, with the certificates of the others that do the same. `None` if the first does not end it.
pub fn merged_termination(actions: &[&TlsAction]) -> Option<Termination> {
    let (first, others) = actions.split_first()?;
    let others = others.iter().filter_map(|other| match (*first, *other) {
        (TlsAction::Terminate(_), TlsAction::Terminate(other)) => Some(other),
        (TlsAction::Relay(_, split), TlsAction::Relay(other, to)) => (to == split).then_some(other),
        _ => None,
    });
    match first {
        TlsAction::Terminate(first) | TlsAction::Relay(first, _) => Some(merged(first, others)),
        TlsAction::Passthrough(_) | TlsAction::Refuse => None,
    }
}

/// The first, with the certificates of those that are the same otherwise.
fn merged<'a>(first: &Termination, others: impl Iterator<Item = &'a Termination>) -> Termination {
    let mut all = first.clone();
    for other in others {
        let same = first.versions == other.versions
            && first.crypto == other.crypto
            && first.protocols == other.protocols
            && first.client == other.client;
        if same {
            let is_new = |one: &&Arc<Certificate>| !all.certificates.contains(one);
            let new: Vec<_> = other.certificates.iter().filter(is_new).cloned().collect();
            all.certificates.extend(new);
        }
    }
    all
}

/// One name, per kind of listener.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Made from records with external visibility only.
    external: Option<Arc<CompiledTls>>,
    /// Made from all records.
    local: Option<Arc<CompiledTls>>,
}

impl Entry {
    fn of(&self, listener: Visibility) -> Option<&Arc<CompiledTls>> {
        match listener {
            Visibility::External => self.external.as_ref(),
            Visibility::ClusterLocal => self.local.as_ref(),
        }
    }
}

/// The names of a snapshot.
#[derive(Clone, Default)]
pub(crate) struct TlsTables {
    shared: Names,
    /// Of binds that have any.
    binds: Arc<HashMap<BindId, Names>>,
}

/// Names that are looked up together.
#[derive(Clone)]
struct Names {
    exact: Table<Entry>,
    suffix: Table<Entry>,
    label: Table<Entry>,
    any: Option<Entry>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            exact: Table::new(authority::hash_ignoring_case),
            suffix: Table::new(authority::hash_ignoring_case),
            label: Table::new(authority::hash_ignoring_case),
            any: None,
        }
    }
}

impl Names {
    fn find(&self, listener: Visibility, name: Option<&str>) -> Option<&Arc<CompiledTls>> {
        if let Some(name) = name.map(authority::host) {
            if let Some(found) = lookup(&self.exact, listener, name) {
                return Some(found);
            }
            if !self.label.is_empty()
                && let Some((first, rest)) = name.split_once('.')
                && !first.is_empty()
                && let Some(found) = lookup(&self.label, listener, rest)
            {
                return Some(found);
            }
            let suffixes = !self.suffix.is_empty();
            let dots = suffixes
                .then(|| name.match_indices('.'))
                .into_iter()
                .flatten();
            for (dot, _) in dots.filter(|(dot, _)| *dot > 0) {
                if let Some(found) = lookup(&self.suffix, listener, &name[dot + 1..]) {
                    return Some(found);
                }
            }
        }
        self.any.as_ref()?.of(listener)
    }

    fn is_empty(&self) -> bool {
        let wildcards = [&self.suffix, &self.label];
        self.exact.is_empty() && wildcards.iter().all(|it| it.is_empty()) && self.any.is_none()
    }

    /// The same but for these.
    fn with(&self, changes: Vec<(HostPattern, Option<Entry>)>) -> Self {
        let (mut exact, mut suffix, mut label) = (Vec::new(), Vec::new(), Vec::new());
        let mut any = self.any.clone();
        for (pattern, entry) in changes {
            match pattern {
                HostPattern::Exact(name) => exact.push((name, entry)),
                HostPattern::Suffix(name) => suffix.push((name, entry)),
                HostPattern::Label(name) => label.push((name, entry)),
                HostPattern::Any => any = entry,
            }
        }
        Self {
            exact: self.exact.with(exact),
            suffix: self.suffix.with(suffix),
            label: self.label.with(label),
            any,
        }
    }
}

impl Snapshot {
    /// What happens to a TLS connection to a shared listener that asks for this name, or for none.
    pub fn tls(&self, listener: Visibility, name: Option<&str>) -> Option<&Arc<CompiledTls>> {
        self.tls.shared.find(listener, name)
    }

    /// What happens to a TLS connection to a bind that asks for this name, or for none.
    pub fn tls_at(&self, bind: &BindKey, name: Option<&str>) -> Option<&Arc<CompiledTls>> {
        let names = self.tls.binds.get(bind.id())?;
        names.find(Visibility::ClusterLocal, name)
    }
}

fn lookup<'a>(
    table: &'a Table<Entry>,
    listener: Visibility,
    name: &str,
) -> Option<&'a Arc<CompiledTls>> {
    if table.is_empty() {
        return None;
    }
    let hash = authority::hash_ignoring_case(name);
    table
        .find(hash, |key| key.eq_ignore_ascii_case(name))?
        .of(listener)
}

/// A name at the shared listeners (`None`) or at a bind.
type Spot = (Option<BindId>, HostPattern);

/// The TLS half of [`crate::Compiler`].
#[derive(Default)]
pub(crate) struct TlsCompiler {
    records: HashMap<TlsId, Arc<TlsHost>>,
    names: HashMap<Spot, BTreeMap<(SortKey, TlsId), Arc<TlsHost>>>,
    dirty: HashSet<Spot>,
}

impl TlsCompiler {
    pub(crate) fn put(&mut self, id: TlsId, record: Arc<TlsHost>) {
        if self.records.get(&id).is_some_and(|held| **held == *record) {
            return;
        }
        self.remove(&id);
        for name in names(&record) {
            let key = (record.sort_key.clone(), id.clone());
            let of_name = self.names.entry(name.clone()).or_default();
            of_name.insert(key, Arc::clone(&record));
            self.dirty.insert(name);
        }
        self.records.insert(id, record);
    }

    pub(crate) fn remove(&mut self, id: &TlsId) {
        let Some(record) = self.records.remove(id) else {
            return;
        };
        for name in names(&record) {
            if let Some(of_name) = self.names.get_mut(&name) {
                of_name.remove(&(record.sort_key.clone(), id.clone()));
            }
            self.dirty.insert(name);
        }
    }

    pub(crate) fn records(&self) -> BTreeMap<TlsId, Arc<TlsHost>> {
        let records = self.records.iter();
        let records = records.map(|(id, record)| (id.clone(), Arc::clone(record)));
        records.collect()
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The tables after `before`. Names that nothing changed keep their very record.
    pub(crate) fn compile(&mut self, before: &TlsTables) -> TlsTables {
        let mut changes: HashMap<Option<BindId>, Vec<_>> = HashMap::new();
        for spot in std::mem::take(&mut self.dirty) {
            let entry = self.entry(&spot);
            changes.entry(spot.0).or_default().push((spot.1, entry));
        }
        let mut next = before.clone();
        if let Some(shared) = changes.remove(&None) {
            next.shared = next.shared.with(shared);
        }
        if !changes.is_empty() {
            let mut binds = HashMap::clone(&next.binds);
            for (bind, changes) in changes {
                let Some(bind) = bind else { continue };
                let names = binds.remove(&bind).unwrap_or_default().with(changes);
                if !names.is_empty() {
                    binds.insert(bind, names);
                }
            }
            next.binds = Arc::new(binds);
        }
        next
    }

    /// `None` if the name has no record any more.
    fn entry(&mut self, spot: &Spot) -> Option<Entry> {
        let pattern = &spot.1;
        let records: Vec<_> = self.names.get(spot)?.values().cloned().collect();
        if records.is_empty() {
            self.names.remove(spot);
            return None;
        }
        let is_external = |record: &&Arc<TlsHost>| record.visibility == Visibility::External;
        let external: Vec<_> = records.iter().filter(is_external).cloned().collect();
        let is_same = external.len() == records.len();
        let external = CompiledTls::new(pattern, &external).map(Arc::new);
        let local = if is_same {
            external.clone()
        } else {
            CompiledTls::new(pattern, &records).map(Arc::new)
        };
        Some(Entry { external, local })
    }
}

/// The distinct names of a record as tables spell them.
fn names(record: &TlsHost) -> BTreeSet<Spot> {
    let names = record.names.iter().map(authority::normal);
    names.map(|name| (record.bind.clone(), name)).collect()
}

#[cfg(test)]
mod tests;
