//! What routes and statuses see of a Gateway.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use routing::BindId;
use routing::model::tls::{Certificate, Termination};
use routing::model::{HostPattern, Transport};

use super::gates::GatePlan;
use crate::objects::Name;

/// Why something is not as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The reason of a condition, as the API spells it.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl Finding {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { reason, message }
    }
}

/// A Gateway of a class of ours, or a ListenerSet of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub name: Name,
    /// Of a ListenerSet: the Gateway whose addresses its listeners are at.
    pub parent: Option<Name>,
    /// Of its class.
    pub controller: Arc<str>,
    /// Why the Gateway as a whole is not accepted; nothing of it is served then.
    pub refused: Option<Finding>,
    pub addresses: Vec<IpAddr>,
    /// Why addresses that were asked for cannot be had.
    pub unusable: Option<Finding>,
    /// From where addresses are reached that have a guarantee about it.
    pub routability: BTreeMap<IpAddr, Arc<str>>,
    /// Entries of `spec.addresses` without an address, and why.
    pub missed: Vec<String>,
    /// Its Services that have a cluster IP for an entry of `spec.addresses`, by number, and the
    /// one that they ask for.
    pub cluster_ips: BTreeMap<usize, Option<Ipv4Addr>>,
    /// Routes are attached that ask for a default Gateway.
    pub is_default: bool,
    /// Some port takes clients whose certificates nobody verified.
    pub allows_anybody: bool,
    /// What backends are shown that ask who we are.
    pub client: Option<Arc<Certificate>>,
    /// What the Gateway as a whole refers to that is not there or not allowed.
    pub unresolved: Option<Finding>,
    pub listeners: Vec<ListenerPlan>,
    /// Hosts of the listeners that are served, by port: of the Gateway and of all its sets.
    pub served: Arc<BTreeMap<u16, Vec<HostPattern>>>,
    /// ListenerSets that are accepted.
    pub sets: usize,
}

impl Plan {
    /// The Gateway that it is, or is part of.
    pub fn gateway(&self) -> &Name {
        self.parent.as_ref().unwrap_or(&self.name)
    }

    /// What tells a listener apart from all others at its port.
    pub(super) fn listener_id(&self, listener: &ListenerPlan) -> Arc<str> {
        match self.parent {
            None => Arc::clone(&listener.name),
            Some(_) => format!("{} {}", self.name, listener.name).into(),
        }
    }

    /// As the API calls it.
    pub fn kind(&self) -> &'static str {
        match self.parent {
            Some(_) => "ListenerSet",
            None => "Gateway",
        }
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    pub name: Arc<str>,
    pub host: HostPattern,
    pub port: u16,
    /// `None` if it is none that we speak.
    pub protocol: Option<Protocol>,
    /// What happens to TLS here that is not HTTPS.
    pub tls: Option<TlsMode>,
    /// Routes that may attach.
    pub kinds: Vec<RouteKind>,
    pub namespaces: Namespaces,
    /// Why it is not accepted.
    pub refused: Option<Finding>,
    /// With which others it cannot be.
    pub conflict: Option<Finding>,
    /// What it refers to that is not there or not allowed.
    pub unresolved: Option<Finding>,
    /// Whether it could serve if the rest is well: nothing that it needs is missing.
    pub can_serve: bool,
    /// What its filters come to.
    pub gate: GatePlan,
    /// Where it is served, one per address; nowhere if it is not valid.
    pub binds: Vec<BindId>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Http,
    Https,
    Tls,
    Tcp,
    Udp,
}

impl Protocol {
    /// Which of the two spaces of port numbers it is in.
    pub(super) fn transport(self) -> Transport {
        match self {
            Self::Http | Self::Https | Self::Tls | Self::Tcp => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }

    /// Whether listeners of both can have one port, if their hosts differ.
    pub(super) fn shares_ports_with(self, other: Self) -> bool {
        match self {
            Self::Http => other == Self::Http,
            Self::Https | Self::Tls => matches!(other, Self::Https | Self::Tls),
            Self::Tcp | Self::Udp => false,
        }
    }
}

/// Who ends TLS.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsMode {
    /// The backend.
    Passthrough,
    Terminate(Termination),
}

/// A kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
}

impl RouteKind {
    /// For requests.
    pub(super) const OF_HTTP: [Self; 2] = [Self::Http, Self::Grpc];

    /// How bytes travel that are passed on as they are.
    pub(super) fn stream(self) -> Option<Transport> {
        match self {
            Self::Http | Self::Grpc => None,
            Self::Tls | Self::Tcp => Some(Transport::Tcp),
            Self::Udp => Some(Transport::Udp),
        }
    }

    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
        }
    }
}

/// Namespaces whose routes may attach.
#[derive(Clone, Debug, PartialEq)]
pub enum Namespaces {
    Same,
    All,
    None,
    Selected(LabelSelector),
}

impl ListenerPlan {
    /// Whether it is served.
    pub fn is_valid(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none() && self.can_serve
    }
}
