//! Binds at Services, each of which several routes may have.
//!
//! Beside the routes there are records of the bind itself. Calls of a namespace that has routes of
//! its own go by those alone; where no route is for everybody, the others go to the Service. When
//! the last route goes, the data plane still has the socket, and connections: until it has given it
//! back, everything goes to the Service, as it does afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::gateway::reason;
use dialects::backend::BackendRef;
use dialects::gateway_api::{self, Finding, ParentOutcome, ServiceBind};
use routing::BindId;
use routing::model::{Route, RouteId, Stream, StreamId};
use tokio::time::Instant;

use super::{HeldRoute, RouteKey, State};
use crate::index::Index;

/// Which routes want which bind. Those that no route wants stay until their sockets are closed.
#[derive(Default)]
pub(super) struct Services {
    at: HashMap<BindId, AtService>,
    /// Those that lost their last route: they end when their sockets are closed.
    over: BTreeSet<BindId>,
}

struct AtService {
    /// The Service's own endpoints.
    backend: BackendRef,
    /// With the namespace whose calls alone go by the route.
    routes: BTreeMap<RouteKey, Option<Arc<str>>>,
    /// What there is beside the routes.
    records: Records,
}

/// Records of a bind itself.
#[derive(Default)]
struct Records {
    routes: Vec<(RouteId, Arc<Route>)>,
    stream: Option<(StreamId, Arc<Stream>)>,
    backends: BTreeSet<BackendRef>,
}

impl Services {
    /// The routes of a bind; none if it is no Service's.
    pub(super) fn routes_at(&self, id: &BindId) -> Vec<RouteKey> {
        let at = self.at.get(id);
        at.map_or_else(Vec::new, |at| at.routes.keys().cloned().collect())
    }
}

impl AtService {
    fn new(backend: BackendRef) -> Self {
        Self {
            backend,
            routes: BTreeMap::new(),
            records: Records::default(),
        }
    }

    /// What there is to be beside the routes.
    fn wanted(&self, id: &BindId) -> Records {
        let callers: BTreeSet<_> = self.routes.values().flatten().cloned().collect();
        let ends = callers.iter();
        let ends = ends.map(|callers| gateway_api::no_other(id, &self.backend, callers));
        let mut records = Records {
            routes: ends.collect(),
            ..Records::default()
        };
        let is_for_all = self.routes.values().any(Option::is_none);
        if !is_for_all {
            let itself = gateway_api::service_itself(id, &self.backend, callers);
            records.routes.extend(itself.routes);
            records.stream = Some(itself.stream);
            records.backends.extend(itself.backends);
        }
        records
    }
}

impl Index {
    pub(super) fn replace_service_binds(
        &mut self,
        key: &RouteKey,
        places: Vec<ServiceBind>,
        now: Instant,
    ) {
        let Some(held) = self.gateway_api.routes.get_mut(key) else {
            return;
        };
        let ids = places.iter().map(|place| place.bind.id.clone()).collect();
        let before = std::mem::replace(&mut held.binds, ids);
        let wanted = held.binds.clone();
        self.unwant_service_binds(before.minus(&wanted), key, now);
        for place in places {
            let state = &mut self.gateway_api;
            let id = place.bind.id.clone();
            let at = state.services.at.entry(id.clone());
            let at = at.or_insert_with(|| AtService::new(place.backend));
            at.routes.insert(key.clone(), place.callers);
            state.binds.want(&place.bind);
            self.compiler.put_bind(place.bind);
            self.settle_service_records(&id, now);
        }
    }

    pub(super) fn unwant_service_binds<'i>(
        &mut self,
        ids: impl Iterator<Item = &'i BindId>,
        key: &RouteKey,
        now: Instant,
    ) {
        for id in ids {
            let state = &mut self.gateway_api;
            let Some(at) = state.services.at.get_mut(id) else {
                continue;
            };
            at.routes.remove(key);
            if at.routes.is_empty() {
                state.binds.unwant(id);
                state.services.over.insert(id.clone());
            }
            self.settle_service_records(id, now);
        }
    }

    /// Puts and removes the records of a bind itself.
    fn settle_service_records(&mut self, id: &BindId, now: Instant) {
        let Some(at) = self.gateway_api.services.at.get_mut(id) else {
            return;
        };
        let wanted = at.wanted(id);
        self.replace_records(id, wanted, now);
    }

    fn replace_records(&mut self, id: &BindId, wanted: Records, now: Instant) {
        let Some(at) = self.gateway_api.services.at.get_mut(id) else {
            return;
        };
        let backends = wanted.backends.clone();
        let before = std::mem::replace(&mut at.records, wanted);
        let is_wanted = |id: &RouteId| at.records.routes.iter().any(|(wanted, _)| wanted == id);
        for (record, _) in before.routes.iter().filter(|(id, _)| !is_wanted(id)) {
            self.compiler.remove_route(record);
        }
        for (record, route) in &at.records.routes {
            self.compiler.put_route(record.clone(), Arc::clone(route));
        }
        match (&at.records.stream, &before.stream) {
            (Some((record, stream)), _) => {
                self.compiler.put_stream(record.clone(), Arc::clone(stream));
            }
            (None, Some((record, _))) => self.compiler.remove_stream(record),
            (None, None) => {}
        }
        for backend in backends.difference(&before.backends) {
            self.use_backend(backend);
        }
        for backend in before.backends.difference(&backends) {
            self.release_backend(backend, now);
        }
    }

    /// Forgets the binds that no route wants and that are closed by now.
    pub(super) fn end_service_binds(&mut self, now: Instant) {
        let state = &mut self.gateway_api;
        let (services, binds) = (&mut state.services, &state.binds);
        let is_back = |id: &BindId| {
            let at = services.at.get(id);
            at.is_none_or(|at| !at.routes.is_empty())
        };
        services.over.retain(|id| !is_back(id));
        let closed = services.over.iter().filter(|id| !binds.is_open(id));
        let over: Vec<_> = closed.cloned().collect();
        for id in over {
            self.replace_records(&id, Records::default(), now);
            self.gateway_api.services.at.remove(&id);
            self.gateway_api.services.over.remove(&id);
            self.compiler.remove_bind(&id);
        }
    }
}

impl State {
    /// What is said to the parents of a route: where a Service's address cannot be listened at, no
    /// call goes by the route.
    pub(super) fn parents(&self, held: &HeldRoute) -> Vec<ParentOutcome> {
        let mut failed = held
            .binds
            .iter()
            .filter_map(|id| self.binds.failed().get(id));
        let Some(failure) = failed.next() else {
            return held.parents.clone();
        };
        let mut parents = held.parents.clone();
        let of_services = parents.iter_mut().filter(|it| it.parent.kind == "Service");
        for parent in of_services.filter(|it| it.refused.is_none()) {
            let text = format!("calls do not go by this route yet: {}", failure.message);
            parent.refused = Some(Finding::new(reason::PENDING, text));
            parent.partial = None;
        }
        parents
    }
}
