//! Which tables the requests of a connection are looked up in: the shared ones, or a bind's own.

use std::sync::Arc;

use routing::{BindKey, CompiledRoute, RequestView, Snapshot, Visibility};

/// Where connections came in.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    scope: Scope,
    /// The port that clients connected to.
    pub(crate) port: u16,
}

#[derive(Clone, Debug)]
enum Scope {
    Shared(Visibility),
    Bind(BindKey),
}

impl Entry {
    /// One of the gateway's own listeners.
    pub(crate) fn shared(visibility: Visibility, port: u16) -> Self {
        Self {
            scope: Scope::Shared(visibility),
            port,
        }
    }

    /// A bind of the snapshot.
    pub(crate) fn bind(key: BindKey, port: u16) -> Self {
        Self {
            scope: Scope::Bind(key),
            port,
        }
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
}
