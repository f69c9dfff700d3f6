//! Answers the addresses of Services in this process: cluster IPs, node ports, load balancers.
//!
//! A range of cluster IPs is made local to this machine with one route ([`Claim`]), so each of
//! its addresses can be listened on without an interface and without packet rules. A Service's
//! port is listened on while it has endpoints; without any, a connection is refused, as
//! Kubernetes refuses it. Where the gateway has rules for a Service, it answers instead
//! ([`Handover`]). What cannot be answered is said in the Service's status and Events.

mod backends;
mod claim;
mod front;
mod handover;
mod plan;
mod proxy;
#[cfg(target_os = "linux")]
mod route;
mod tcp;
mod udp;

use std::net::IpAddr;

pub use claim::{Claim, ClaimError, Range, remove_abandoned};
pub use handover::Handover;
pub use proxy::start;

/// What the proxy must be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where node ports are listened on.
    pub node_address: IpAddr,
    /// Why cluster IPs cannot be answered, if they cannot.
    pub no_cluster_ips: Option<String>,
    /// By which the gateway takes over cluster IPs that it has rules for.
    pub handover: Handover,
}
