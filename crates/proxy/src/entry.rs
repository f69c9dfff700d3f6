//! Which tables the requests of a connection are looked up in: the shared ones, or a bind's own.

use std::cell::Cell;
use std::sync::Arc;

use routing::model::{BindSocket, Gate, Preamble};
use routing::{
    BindKey, CompiledRoute, CompiledSplit, CompiledTls, RequestView, Snapshot, Visibility,
};

#[cfg(feature = "http3")]
use crate::http3::alternative;
use crate::metrics::{ListenerCounters, Listeners};
use crate::overload::Shed;

/// Where connections came in.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    scope: Scope,
    /// The port that clients connected to.
    pub(crate) port: u16,
    /// Whether clients speak TLS.
    pub(crate) is_tls: bool,
    /// Whether a PROXY protocol header comes first.
    pub(crate) preamble: Option<Preamble>,
    /// Whether connections are passed on as they are.
    pub(crate) is_stream: bool,
    /// Whether HTTP/3 is served beside it.
    #[cfg(feature = "http3")]
    pub(crate) serves_http3: Cell<bool>,
    /// What answers over TLS say of that then.
    #[cfg(feature = "http3")]
    pub(crate) alternative: Option<Arc<str>>,
    /// Why connections are told that there is no room for them; `None` if they are served.
    pub(crate) refuses: Option<Shed>,
    /// What this thread counts here.
    pub(crate) counts: Arc<ListenerCounters>,
    /// Nobody accepts here any more: connections end once they are idle.
    is_closed: Cell<bool>,
}

#[derive(Clone, Debug)]
pub(crate) enum Scope {
    Shared(Visibility),
    Bind(BindKey),
}

impl Scope {
    /// What happens to a TLS connection that asks for this name here, or for none.
    pub(crate) fn tls<'s>(
        &self,
        snapshot: &'s Snapshot,
        name: Option<&str>,
    ) -> Option<&'s Arc<CompiledTls>> {
        match self {
            Self::Shared(visibility) => snapshot.tls(*visibility, name),
            Self::Bind(key) => snapshot.tls_at(key, name),
        }
    }
}

impl Entry {
    /// One of the gateway's own listeners.
    pub(crate) fn shared(visibility: Visibility, port: u16, is_tls: bool) -> Self {
        Self {
            scope: Scope::Shared(visibility),
            port,
            is_tls,
            preamble: None,
            is_stream: false,
            #[cfg(feature = "http3")]
            serves_http3: Cell::new(false),
            #[cfg(feature = "http3")]
            alternative: is_tls.then(|| alternative::value(port)),
            refuses: None,
            counts: Arc::default(),
            is_closed: Cell::new(false),
        }
    }

    /// A bind of the snapshot.
    pub(crate) fn bind(key: BindKey, socket: BindSocket) -> Self {
        Self {
            scope: Scope::Bind(key),
            port: socket.address.port(),
            is_tls: socket.is_tls,
            preamble: socket.preamble,
            is_stream: socket.stream.is_some(),
            #[cfg(feature = "http3")]
            serves_http3: Cell::new(false),
            #[cfg(feature = "http3")]
            alternative: (socket.is_tls).then(|| alternative::value(socket.address.port())),
            refuses: None,
            counts: Arc::default(),
            is_closed: Cell::new(false),
        }
    }

    /// The same place on one thread, which counts by itself.
    pub(crate) fn counted(&self, listeners: &Listeners) -> Self {
        let name = match (&self.scope, self.is_tls) {
            (Scope::Shared(Visibility::External), false) => "external-http",
            (Scope::Shared(Visibility::External), true) => "external-https",
            (Scope::Shared(Visibility::ClusterLocal), false) => "cluster-local-http",
            (Scope::Shared(Visibility::ClusterLocal), true) => "cluster-local-https",
            (Scope::Bind(key), _) => &key.id().0,
        };
        Self {
            counts: listeners.of(name),
            ..self.clone()
        }
    }

    /// The same place for connections that are only told why there is no room.
    pub(crate) fn refusing(&self, shed: Shed) -> Self {
        Self {
            refuses: Some(shed),
            ..self.clone()
        }
    }

    /// Says so; those who wait must be woken.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// The route of a request that came in here.
    pub(crate) fn select<'s>(
        &self,
        snapshot: &'s Snapshot,
        request: &impl RequestView,
    ) -> Option<&'s Arc<CompiledRoute>> {
        match &self.scope {
            Scope::Shared(visibility) => snapshot.select(*visibility, request),
            Scope::Bind(key) => snapshot.select_at(key, request),
        }
    }

    /// What a request for this host has to pass here before its route is looked for.
    pub(crate) fn gate<'s, 'v>(
        &self,
        snapshot: &'s Snapshot,
        authority: impl FnOnce() -> &'v str,
    ) -> Option<&'s Arc<Gate>> {
        match &self.scope {
            Scope::Shared(_) => None,
            Scope::Bind(key) => snapshot.gate_at(key, authority()),
        }
    }

    /// What happens to a TLS connection that asks for this name here, or for none.
    pub(crate) fn tls<'s>(
        &self,
        snapshot: &'s Snapshot,
        name: Option<&str>,
    ) -> Option<&'s Arc<CompiledTls>> {
        self.scope.tls(snapshot, name)
    }

    #[cfg(feature = "http3")]
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether a connection serves the names of one listener only.
    pub(crate) fn is_strict(&self) -> bool {
        matches!(self.scope, Scope::Bind(_))
    }

    /// Where connections go as they are. `None` if they go nowhere.
    pub(crate) fn stream<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<CompiledSplit>> {
        match &self.scope {
            Scope::Shared(_) => None,
            Scope::Bind(key) => snapshot.stream_at(key),
        }
    }

    /// Where connections that are not HTTP here go: those of pods, by their namespace, that this
    /// place has no routes for.
    pub(crate) fn passed_on<'s>(
        &self,
        snapshot: &'s Snapshot,
        namespace: Option<&str>,
    ) -> Option<&'s Arc<CompiledSplit>> {
        match &self.scope {
            Scope::Shared(_) => None,
            Scope::Bind(key) => snapshot.passed_on_at(key, namespace),
        }
    }

    /// Whether connections are HTTP from their first byte.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.scope, Scope::Shared(_)) && !self.is_tls && self.preamble.is_none()
    }

    /// Whether only what runs beside us can connect here.
    pub(crate) fn is_cluster_local(&self) -> bool {
        matches!(self.scope, Scope::Shared(Visibility::ClusterLocal))
    }
}
