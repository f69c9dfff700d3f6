//! Sockets that serve tables of their own, apart from the gateway's shared listeners.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::{ExternalAuthorization, HostPattern, Origin, SortKey, Split};

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
    /// Whether connections begin with what a balancer says about their client; not datagrams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preamble: Option<Preamble>,
    /// Hosts at which a search for a route ends: a request that belongs to one of these patterns
    /// never gets a route of a wider one. Between them, routes of wider hosts are tried too.
    pub sealed: Vec<HostPattern>,
    /// What comes is passed on as it is, where the bind's first [`Stream`] says; there is no HTTP.
    /// A stream of a bind without this is for whom the bind has no routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<Transport>,
    /// Who is asked about requests before a route is looked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Arc<Gate>>,
}

/// What every request has to pass that belongs to one of a bind's [`Bind::sealed`] hosts. What the
/// services change of a request's headers, routes see; they cannot change its host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    pub host: HostPattern,
    /// Asked in this order; the first that refuses ends it.
    pub asks: Vec<ExternalAuthorization>,
}

impl Bind {
    /// What must be open for it.
    pub fn socket(&self) -> BindSocket {
        BindSocket {
            address: self.address,
            is_tls: self.is_tls,
            preamble: self.preamble,
            stream: self.stream,
        }
    }
}

/// What a bind needs of the system. A bind for which this changes is closed and opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindSocket {
    pub address: SocketAddr,
    pub is_tls: bool,
    pub preamble: Option<Preamble>,
    pub stream: Option<Transport>,
}

impl BindSocket {
    /// Which of the two spaces of port numbers it is in.
    pub fn transport(&self) -> Transport {
        self.stream.unwrap_or(Transport::Tcp)
    }
}

/// Whether a header of the PROXY protocol (version 1 or 2) comes before everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Preamble {
    /// A connection without one ends.
    Required,
    /// A connection without one is its other end's. Whoever reaches the socket can claim to be
    /// anybody.
    Optional,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Transport {
    Tcp,
    Udp,
}

/// Identity of a [`Stream`]: stable while its object and field keep their place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct StreamId(pub Arc<str>);

/// Where the connections (or the datagrams of a client) of a bind go as they are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stream {
    pub origin: Origin,
    pub bind: BindId,
    /// Position among the streams of the bind: the first has everything, the others wait for it
    /// to go away. Ties are broken by the id.
    pub sort_key: SortKey,
    /// `None` closes every connection. An arm with something `instead` closes its share.
    pub split: Option<Split>,
    /// At a bind for HTTP: the namespaces whose pods' connections are HTTP; all others' are passed
    /// on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub but_for: BTreeSet<Arc<str>>,
}
