//! Whose calls the gateway answers: the node knows the pods, the gateway asks.

use std::net::IpAddr;
use std::sync::Arc;

/// The node's pods, for the gateway.
#[derive(Debug)]
pub struct Pods(pub node::Callers);

impl proxy::Callers for Pods {
    fn namespace(&self, address: IpAddr) -> Option<Arc<str>> {
        self.0.namespace(address)
    }
}
