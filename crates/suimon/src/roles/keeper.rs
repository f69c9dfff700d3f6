//! The API server's store as the keeper of what informers do not use: the same objects, in the
//! same compressed form, once.

use std::sync::Arc;

use apiserver::Server;
use bytes::Bytes;
use reconcile::{Held, Keeper, Key, Kind};

/// The server's store.
pub fn of(server: &Server) -> Arc<dyn Keeper> {
    Arc::new(Store(server.clone()))
}

struct Store(Server);

impl Keeper for Store {
    fn hold(&self, kind: &Kind, key: &Key) -> Option<Held> {
        let (group, version) = (&kind.group, &kind.version);
        let (revision, handle) = self.0.hold(group, version, &kind.plural, &key.path())?;
        Some(Held { revision, handle })
    }

    fn json(&self, held: &Held) -> Option<Bytes> {
        Server::json(held.handle.as_ref())
    }
}
