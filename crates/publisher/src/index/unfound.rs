//! Host names of backends that cannot be looked up: whoever sends there is told.
//!
//! What was found last stays in use, so that no route changes with this; only what is said of the
//! objects does. Objects that do nothing but name a host say so themselves, when they are translated.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dialects::backend::BackendRef;
use dialects::{Dependency, Diagnostic, Effect, LookedUp};

use super::{Consumer, Index};
use crate::few::Few;

impl Index {
    /// Takes in what was found for host names, as far as somebody still asks for them.
    pub(super) fn put_names(&mut self, found: HashMap<Arc<str>, LookedUp>) {
        let mut backends = BTreeSet::new();
        for (host, found) in found {
            let Some(readers) = self.readers.get(&Dependency::Dns(Arc::clone(&host))) else {
                continue;
            };
            let changed = self.objects.put_dns(&host, Some(found));
            if changed.contains(&Dependency::Unfound(host)) {
                backends.extend(readers.iter().filter_map(|reader| match reader {
                    Consumer::Backend(reference) => Some(reference.clone()),
                    _ => None,
                }));
            }
            self.mark(changed);
        }
        if backends.is_empty() {
            return;
        }
        let sends = |own: &Few<BackendRef>| own.iter().any(|one| backends.contains(one));
        self.foreign.tell_users(sends);
        self.kubernetes.tell_users(sends);
    }

    /// What is to be told to those who send to these.
    pub(super) fn unfound(&self, backends: &Few<BackendRef>) -> Vec<Diagnostic> {
        let specs = backends.iter().filter_map(|reference| {
            let used = self.backends.get(reference)?;
            used.spec.as_deref()
        });
        let hosts = specs.flat_map(|spec| &spec.hosts);
        let told: BTreeSet<_> = hosts
            .filter_map(|host| self.objects.unfound(&host.host))
            .collect();
        let told = told.into_iter().map(|message| Diagnostic {
            effect: Effect::Waiting,
            field: "spec".to_owned(),
            reason: "HostNotFound",
            message: message.to_string(),
        });
        told.collect()
    }
}
