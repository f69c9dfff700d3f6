//! Routes of every kind as the index holds them, with what each of them put into the snapshot.
//!
//! A route is replaced in one step: what its translation does not name any more goes with the same
//! snapshot that has the new.

use std::sync::Arc;

use api::gateway::v1::{GrpcRoute, HttpRoute, TcpRoute, TlsRoute, UdpRoute};
use dialects::backend::BackendRef;
use dialects::gateway_api::{self, ParentOutcome, RouteKind, RouteTranslation};
use dialects::{Dependency, Name, lean};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::BindId;
use routing::model::tls::TlsId;
use routing::model::{RouteId, StreamId};
use tokio::time::Instant;

use super::RouteKey;
use crate::few::Few;
use crate::index::{Consumer, Index, MadeKey, records};

/// A route as it was written.
#[derive(Clone)]
pub(crate) enum Written {
    Http(Arc<HttpRoute>),
    Grpc(Arc<GrpcRoute>),
    Tls(Arc<TlsRoute>),
    Tcp(Arc<TcpRoute>),
    Udp(Arc<UdpRoute>),
}

pub(super) struct HeldRoute {
    pub(super) written: Written,
    pub(super) routes: Few<RouteId>,
    pub(super) tls: Few<TlsId>,
    pub(super) streams: Few<StreamId>,
    /// At Services.
    pub(super) binds: Few<BindId>,
    pub(super) backends: Few<BackendRef>,
    pub(super) attached: Few<(Name, Arc<str>)>,
    pub(super) attached_sets: Few<(Name, Arc<str>)>,
    /// Services that policies name, by the Gateways whose requests are sent there.
    pub(super) governed: Few<(Name, Name)>,
    pub(super) parents: Vec<ParentOutcome>,
    pub(super) reads: Few<Dependency>,
}

/// What is to be told about a route.
#[derive(Clone, Debug)]
pub(crate) struct RouteOutcome {
    pub(crate) generation: i64,
    pub(crate) parents: Vec<ParentOutcome>,
}

impl Written {
    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Http(route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
            Self::Tls(route) => &route.metadata,
            Self::Tcp(route) => &route.metadata,
            Self::Udp(route) => &route.metadata,
        }
    }

    pub(super) fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or_default()
    }

    /// What translations read of it, and nothing else.
    fn lean(&self) -> Self {
        match self {
            Self::Http(route) => Self::Http(Arc::new(lean::http_route(route))),
            Self::Grpc(route) => Self::Grpc(Arc::new(lean::grpc_route(route))),
            Self::Tls(route) => Self::Tls(Arc::new(lean::tls_route(route))),
            Self::Tcp(route) => Self::Tcp(Arc::new(lean::tcp_route(route))),
            Self::Udp(route) => Self::Udp(Arc::new(lean::udp_route(route))),
        }
    }

    /// Whether a translation gives the same.
    fn is_same(&self, other: &Self) -> bool {
        let same_spec = match (self, other) {
            (Self::Http(a), Self::Http(b)) => a.spec == b.spec,
            (Self::Grpc(a), Self::Grpc(b)) => a.spec == b.spec,
            (Self::Tls(a), Self::Tls(b)) => a.spec == b.spec,
            (Self::Tcp(a), Self::Tcp(b)) => a.spec == b.spec,
            (Self::Udp(a), Self::Udp(b)) => a.spec == b.spec,
            // A key is of one kind.
            _ => false,
        };
        same_spec
            && self.generation() == other.generation()
            && self.metadata().uid == other.metadata().uid
    }
}

impl Index {
    pub(in super::super) fn put_route(
        &mut self,
        key: RouteKey,
        written: Option<Written>,
        now: Instant,
    ) {
        let Some(written) = written else {
            return self.remove_route(&key, now);
        };
        let state = &mut self.gateway_api;
        state.due.routes.insert(key.clone());
        let held = state.routes.get_mut(&key);
        let is_same = held
            .as_ref()
            .is_some_and(|held| held.written.is_same(&written));
        match held {
            // Nothing that is read differs: what is held is as good, and smaller.
            Some(_) if is_same => {}
            Some(held) => held.written = written.lean(),
            None => {
                let held = HeldRoute {
                    written: written.lean(),
                    routes: Few::default(),
                    tls: Few::default(),
                    streams: Few::default(),
                    binds: Few::default(),
                    backends: Few::default(),
                    attached: Few::default(),
                    attached_sets: Few::default(),
                    governed: Few::default(),
                    parents: Vec::new(),
                    reads: Few::default(),
                };
                state.routes.insert(key.clone(), held);
                let changed = self.objects.put_route(key.kind, &key.name, true);
                self.mark(changed);
            }
        }
        if !is_same {
            self.dirty.insert(Consumer::Route(key));
        }
    }

    fn remove_route(&mut self, key: &RouteKey, now: Instant) {
        let Some(held) = self.gateway_api.routes.remove(key) else {
            return;
        };
        self.gateway_api.due.routes.insert(key.clone());
        let changed = self.objects.put_route(key.kind, &key.name, false);
        self.mark(changed);
        let consumer = Consumer::Route(key.clone());
        self.dirty.remove(&consumer);
        self.set_reads(&consumer, &held.reads, &Few::default());
        for id in held.routes.iter() {
            self.compiler.remove_route(id);
        }
        for id in held.tls.iter() {
            self.compiler.remove_tls(id);
        }
        for id in held.streams.iter() {
            self.compiler.remove_stream(id);
        }
        self.unwant_service_binds(held.binds.iter(), key, now);
        let none = Few::default();
        self.count(&held.attached, &none);
        self.count_in_sets(&held.attached_sets, &none);
        self.count_governed(&held.governed, &Few::default());
        for reference in held.backends.iter() {
            self.release_backend(reference, now);
        }
    }

    pub(in super::super) fn translate_route(&mut self, key: &RouteKey, now: Instant) {
        let Some(held) = self.gateway_api.routes.get(key) else {
            return;
        };
        let translation = match &held.written {
            Written::Http(route) => gateway_api::translate_http(route, &self.objects),
            Written::Grpc(route) => gateway_api::translate_grpc(route, &self.objects),
            Written::Tls(route) => gateway_api::translate_tls(route, &self.objects),
            Written::Tcp(route) => gateway_api::translate_tcp(route, &self.objects),
            Written::Udp(route) => gateway_api::translate_udp(route, &self.objects),
        };
        self.replace_route(key, translation, now);
        if key.kind == RouteKind::Http {
            self.tell_maker(&MadeKey::Route(key.name.clone()));
        }
    }

    /// What a route says of TLS connections and of whatever comes to a bind.
    fn replace_streams(&mut self, key: &RouteKey, translation: &mut RouteTranslation) {
        let Some(held) = self.gateway_api.routes.get_mut(key) else {
            return;
        };
        let tls = std::mem::take(&mut translation.tls);
        records::replace(&mut self.compiler, &mut held.tls, tls);
        let streams = std::mem::take(&mut translation.streams);
        records::replace(&mut self.compiler, &mut held.streams, streams);
    }

    fn replace_route(&mut self, key: &RouteKey, mut translation: RouteTranslation, now: Instant) {
        self.replace_streams(key, &mut translation);
        let binds = std::mem::take(&mut translation.binds);
        self.replace_service_binds(key, binds, now);
        let Some(held) = self.gateway_api.routes.get_mut(key) else {
            return;
        };
        let backends = Few::from(translation.backends);
        let backends_before = std::mem::replace(&mut held.backends, backends.clone());
        let attached = Few::from(translation.attached);
        let attached_before = std::mem::replace(&mut held.attached, attached.clone());
        let sets = Few::from(translation.attached_sets);
        let sets_before = std::mem::replace(&mut held.attached_sets, sets.clone());
        let governed = Few::from(translation.governed);
        let governed_before = std::mem::replace(&mut held.governed, governed.clone());
        let reads = Few::from(translation.reads);
        let reads_before = std::mem::replace(&mut held.reads, reads.clone());
        held.parents = translation.parents;
        records::replace(&mut self.compiler, &mut held.routes, translation.routes);
        self.gateway_api.due.routes.insert(key.clone());
        self.set_reads(&Consumer::Route(key.clone()), &reads_before, &reads);
        self.count(&attached_before, &attached);
        self.count_in_sets(&sets_before, &sets);
        self.count_governed(&governed_before, &governed);
        self.change_backends(&backends_before, &backends, now);
        for (reference, spec) in translation.specs {
            self.specify_backend(&reference, spec);
        }
    }
}
