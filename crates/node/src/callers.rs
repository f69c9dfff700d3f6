//! Which pod has which address, for whoever is called by one.
//!
//! A pod is known before its first process runs, and until its network ends: an address that is
//! given to another pod is never taken for the one before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

type Namespaces = Arc<RwLock<HashMap<IpAddr, Arc<str>>>>;

/// The pods that have an address of their own: those with a network of their own. Clone freely;
/// clones are one.
#[derive(Clone, Debug, Default)]
pub struct Callers(Namespaces);

/// One of them; dropping it forgets the pod.
#[derive(Debug)]
pub(crate) struct Known {
    namespaces: Namespaces,
    address: IpAddr,
}

impl Callers {
    /// The namespace of the pod that has this address.
    pub fn namespace(&self, address: IpAddr) -> Option<Arc<str>> {
        let namespaces = self.0.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(&address.to_canonical()).cloned()
    }

    /// Tells of a pod.
    pub(crate) fn add(&self, address: IpAddr, namespace: &str) -> Known {
        let mut namespaces = self.0.write().unwrap_or_else(PoisonError::into_inner);
        namespaces.insert(address, namespace.into());
        Known {
            namespaces: Arc::clone(&self.0),
            address,
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut namespaces = self.namespaces.write();
        let namespaces = namespaces.as_mut().unwrap_or_else(|error| error.get_mut());
        namespaces.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known_as_long_as_it_has_its_address() {
        let callers = Callers::default();
        let address = IpAddr::from([10, 88, 0, 7]);
        assert_eq!(callers.namespace(address), None);
        let known = callers.add(address, "shop");
        assert_eq!(callers.clone().namespace(address).as_deref(), Some("shop"));
        let mapped: IpAddr = "::ffff:10.88.0.7".parse().expect("an address");
        assert_eq!(callers.namespace(mapped).as_deref(), Some("shop"));
        drop(known);
        assert_eq!(callers.namespace(address), None);
        let _other = callers.add(address, "other");
        assert_eq!(callers.namespace(address).as_deref(), Some("other"));
    }
}
