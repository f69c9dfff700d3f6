//! Hosts that root objects claim: the first in order has one.

use std::collections::HashMap;

use routing::model::HostPattern;

use super::{Claimant, Dependency, Objects, Reader};
use crate::foreign::Object;

/// Sorted; mostly one.
pub(super) type Claims = HashMap<HostPattern, Vec<Claimant>>;

impl Objects {
    /// Registers the hosts that an object claims. Returns the hosts that have another first
    /// claimant than before.
    pub fn claim<'h>(
        &mut self,
        claimant: &Claimant,
        hosts: impl IntoIterator<Item = &'h HostPattern>,
    ) -> Vec<Dependency> {
        let mut changed = Vec::new();
        for host in hosts {
            let claims = self.claims.entry(host.clone()).or_default();
            if let Err(at) = claims.binary_search(claimant) {
                if claims.is_empty() {
                    claims.reserve_exact(1);
                }
                claims.insert(at, claimant.clone());
                if at == 0 {
                    changed.push(Dependency::Host(host.clone()));
                }
            }
        }
        changed
    }

    /// Takes claims back. Returns the hosts that have another first claimant now.
    pub fn release<'h>(
        &mut self,
        claimant: &Claimant,
        hosts: impl IntoIterator<Item = &'h HostPattern>,
    ) -> Vec<Dependency> {
        let mut changed = Vec::new();
        for host in hosts {
            let Some(claims) = self.claims.get_mut(host) else {
                continue;
            };
            let found = claims.binary_search(claimant);
            if let Ok(at) = found {
                claims.remove(at);
            }
            if claims.is_empty() {
                self.claims.remove(host);
            }
            if found == Ok(0) {
                changed.push(Dependency::Host(host.clone()));
            }
        }
        changed
    }
}

impl<'a> Reader<'a> {
    /// The object that claimed this host first.
    pub(crate) fn host_owner(&self, host: &HostPattern) -> Option<&'a Claimant> {
        self.note(Dependency::Host(host.clone()));
        self.objects.claims.get(host)?.first()
    }

    /// The Knative Ingress that has this host, unless the object was made for it.
    pub(crate) fn other_owner(&self, host: &HostPattern, object: &Object) -> Option<&'a Claimant> {
        let owner = self.host_owner(host)?;
        (object.maker.as_ref() != Some(&owner.owner)).then_some(owner)
    }
}
