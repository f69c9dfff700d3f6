//! TLS hosts by the name that a client asks for (SNI), compiled at the cost of what changed.
//!
//! The most specific name decides, as for routes: exact, then the longest wildcard, then any.
//! Several records for one name are one [`CompiledTls`]: the first by sort key says how, and
//! later ones that say the same but for their certificates add those.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::authority;
use crate::model::tls::{Certificate, Termination, TlsAction, TlsHost, TlsId};
use crate::model::{HostPattern, SortKey, Visibility};
use crate::snapshot::{CompiledSplit, Snapshot};
use crate::table::Table;

/// What happens to the connections of one name.
pub struct CompiledTls {
    pub pattern: HostPattern,
    pub action: CompiledTlsAction,
    prepared: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// Whether the gateway ends a TLS connection or passes it on.
#[derive(Debug)]
pub enum CompiledTlsAction {
    /// With the certificates of all records for the name.
    Terminate(Termination),
    Passthrough(CompiledSplit),
}

impl CompiledTls {
    fn new(pattern: &HostPattern, records: &[Arc<TlsHost>]) -> Option<Self> {
        let action = match &records.first()?.action {
            TlsAction::Passthrough(split) => {
                CompiledTlsAction::Passthrough(CompiledSplit::new(split))
            }
            TlsAction::Terminate(first) => {
                let mut all = first.clone();
                for record in &records[1..] {
                    add_certificates(&mut all, first, &record.action);
                }
                CompiledTlsAction::Terminate(all)
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

fn add_certificates(all: &mut Termination, first: &Termination, other: &TlsAction) {
    let TlsAction::Terminate(other) = other else {
        return;
    };
    let same = first.versions == other.versions
        && first.protocols == other.protocols
        && first.client == other.client;
    if !same {
        return;
    }
    let is_new = |one: &&Arc<Certificate>| !all.certificates.contains(one);
    let new: Vec<_> = other.certificates.iter().filter(is_new).cloned().collect();
    all.certificates.extend(new);
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
#[derive(Clone)]
pub(crate) struct TlsTables {
    exact: Table<Entry>,
    suffix: Table<Entry>,
    any: Option<Entry>,
}

impl Default for TlsTables {
    fn default() -> Self {
        Self {
            exact: Table::new(authority::hash_ignoring_case),
            suffix: Table::new(authority::hash_ignoring_case),
            any: None,
        }
    }
}

impl Snapshot {
    /// What happens to a TLS connection that asks for this name, or for none.
    pub fn tls(&self, listener: Visibility, name: Option<&str>) -> Option<&Arc<CompiledTls>> {
        let tables = &self.tls;
        if let Some(name) = name.map(authority::host) {
            if let Some(found) = lookup(&tables.exact, listener, name) {
                return Some(found);
            }
            for (dot, _) in name.match_indices('.').filter(|(dot, _)| *dot > 0) {
                if let Some(found) = lookup(&tables.suffix, listener, &name[dot + 1..]) {
                    return Some(found);
                }
            }
        }
        tables.any.as_ref()?.of(listener)
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

/// The TLS half of [`crate::Compiler`].
#[derive(Default)]
pub(crate) struct TlsCompiler {
    records: HashMap<TlsId, Arc<TlsHost>>,
    names: HashMap<HostPattern, BTreeMap<(SortKey, TlsId), Arc<TlsHost>>>,
    dirty: HashSet<HostPattern>,
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

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The tables after `before`. Names that nothing changed keep their very record.
    pub(crate) fn compile(&mut self, before: &TlsTables) -> TlsTables {
        let mut next = before.clone();
        let (mut exact, mut suffix) = (Vec::new(), Vec::new());
        for pattern in std::mem::take(&mut self.dirty) {
            let entry = self.entry(&pattern);
            match pattern {
                HostPattern::Exact(name) => exact.push((name, entry)),
                HostPattern::Suffix(name) => suffix.push((name, entry)),
                HostPattern::Any => next.any = entry,
            }
        }
        next.exact = next.exact.with(exact);
        next.suffix = next.suffix.with(suffix);
        next
    }

    /// `None` if the name has no record any more.
    fn entry(&mut self, pattern: &HostPattern) -> Option<Entry> {
        let records: Vec<_> = self.names.get(pattern)?.values().cloned().collect();
        if records.is_empty() {
            self.names.remove(pattern);
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
fn names(record: &TlsHost) -> BTreeSet<HostPattern> {
    let normal = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => HostPattern::Exact(authority::normalize(name).into()),
        HostPattern::Suffix(name) => HostPattern::Suffix(authority::normalize(name).into()),
        HostPattern::Any => HostPattern::Any,
    };
    record.names.iter().map(normal).collect()
}

#[cfg(test)]
mod tests;
