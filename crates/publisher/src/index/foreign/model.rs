//! Everything that the index serves as users said it, for who writes it down in another dialect.

use std::collections::BTreeSet;
use std::sync::Arc;

use dialects::migrate;
use routing::model::BindId;
use routing::{BindKey, Snapshot, Visibility};

use crate::index::Index;

impl Index {
    /// Routes and backends as they are in a snapshot of this index.
    pub(crate) fn model(&self, snapshot: &Snapshot) -> migrate::Input {
        let mut input = migrate::Input::default();
        let keys = snapshot.binds().map(|bind| BindKey::new(bind.id.clone()));
        let bound = keys.flat_map(|key| snapshot.routes_at(&key).into_iter());
        let shared = snapshot.routes(Visibility::ClusterLocal).into_iter();
        for listed in shared.chain(bound) {
            for route in listed.routes {
                let source = route.source();
                input.routes.insert(route.id().clone(), Arc::clone(source));
            }
        }
        let backends = self.backends.iter();
        input.backends = backends
            .map(|(reference, used)| {
                let said = || dialects::backend::said(reference, &self.objects).map(Arc::new);
                let spec = used.spec.clone().or_else(said);
                (reference.id(), (reference.clone(), spec))
            })
            .collect();
        let protocols = self.backends.keys().filter_map(|reference| {
            let protocol = dialects::backend::protocol_of(reference, &self.objects)?;
            Some((reference.id(), protocol))
        });
        input.protocols = protocols.collect();
        input.tls = self.compiler.tls_hosts();
        input.streams = self.compiler.streams();
        let tls = input.tls.values().filter_map(|host| host.bind.as_ref());
        let streams = input.streams.values().map(|stream| &stream.bind);
        let routes = input
            .routes
            .values()
            .filter_map(|route| route.bind.as_ref());
        let used: BTreeSet<BindId> = tls.chain(streams).chain(routes).cloned().collect();
        for (id, wanted) in &self.foreign.binds {
            let Some((key, bind)) = wanted.iter().next() else {
                continue;
            };
            if let Some(held) = self.foreign.held.get(key).filter(|_| !used.contains(id)) {
                input
                    .unrouted
                    .push((held.object.origin("spec"), id.clone()));
            }
            input.binds.insert(id.clone(), Arc::clone(bind));
        }
        input.unrouted.sort();
        input
    }
}
