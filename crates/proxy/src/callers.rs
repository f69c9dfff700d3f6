//! Who calls, where the gateway stands for Services: pods, by their addresses.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Knows the pods of this machine.
pub trait Callers: fmt::Debug + Send + Sync {
    /// The namespace of the pod that has this address; `None` if it is no pod's own.
    fn namespace(&self, address: IpAddr) -> Option<Arc<str>>;
}
