//! Sockets that serve tables of their own, apart from the gateway's shared listeners.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::{HostPattern, Split};

/// Identity of a bind: one address and port of one user object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BindId(pub Arc<str>);

impl fmt::Display for BindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A socket and the hosts that its listeners claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bind {
    pub id: BindId,
    pub address: SocketAddr,
    /// Whether clients speak TLS there.
    pub is_tls: bool,
    /// Hosts at which a search for a route ends: a request that belongs to one of these patterns
    /// never gets a route of a wider one. Between them, routes of wider hosts are tried too.
    pub sealed: Vec<HostPattern>,
    /// Connections are passed on as they are, and there is no HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Split>,
}
