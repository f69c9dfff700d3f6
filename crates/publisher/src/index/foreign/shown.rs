//! What costs memory or work to have at hand: the contents of Secrets and ConfigMaps, the addresses
//! of host names, what issuers say.
//!
//! Each is there from the moment on that a translation asks for it: the one that asked first runs
//! twice.

use std::collections::HashMap;
use std::sync::Arc;

use dialects::{Dependency, Discovered, Name};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::index::Index;

/// What there is to show, and what is to be found.
#[derive(Default)]
pub(super) struct Shown {
    /// All of them; only those that were asked for are in the objects.
    secrets: HashMap<Name, Arc<Secret>>,
    config_maps: HashMap<Name, Arc<ConfigMap>>,
    /// Host names that translations asked for and that nobody has been told of yet.
    names: Vec<NameChange>,
    /// The same for issuers of tokens.
    issuers: Vec<NameChange>,
}

/// A host name is to be looked up, or an issuer to be asked, from now on, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameChange {
    Wanted(Arc<str>),
    Unwanted(Arc<str>),
}

impl Index {
    /// Keeps a Secret for those who ask for it, or forgets it.
    pub(in crate::index) fn put_foreign_secret(
        &mut self,
        name: &Name,
        secret: Option<&Arc<Secret>>,
    ) {
        match secret {
            Some(secret) => {
                let secret = Arc::clone(secret);
                self.foreign.shown.secrets.insert(name.clone(), secret);
            }
            None => drop(self.foreign.shown.secrets.remove(name)),
        }
        if self.readers.contains_key(&Dependency::Secret(name.clone())) {
            self.show_secret(name);
        }
    }

    fn show_secret(&mut self, name: &Name) {
        let secret = self.foreign.shown.secrets.get(name);
        let data = secret.map(|secret| {
            let data = secret.data.iter().flatten();
            let data = data.map(|(key, value)| (key.clone(), value.0.clone()));
            Arc::new(data.collect())
        });
        let changed = self.objects.put_secret(name, data);
        self.mark(changed);
    }

    /// Takes in a ConfigMap. Only those that somebody asks for are shown to translations.
    pub(in crate::index) fn put_foreign_config(
        &mut self,
        name: &Name,
        map: Option<&Arc<ConfigMap>>,
    ) {
        match map {
            Some(map) => {
                let map = Arc::clone(map);
                self.foreign.shown.config_maps.insert(name.clone(), map);
            }
            None => drop(self.foreign.shown.config_maps.remove(name)),
        }
        let dependency = Dependency::ConfigMap(name.clone());
        if self.readers.contains_key(&dependency) {
            self.show_config(name);
        }
    }

    fn show_config(&mut self, name: &Name) {
        let map = self.foreign.shown.config_maps.get(name);
        let data = map.map(|map| Arc::new(map.data.clone().unwrap_or_default()));
        let changed = self.objects.put_config_map(name, data);
        self.mark(changed);
    }

    /// Somebody reads this, and nobody did before.
    pub(in crate::index) fn start_showing(&mut self, dependency: &Dependency) {
        match dependency {
            Dependency::Secret(name) => self.show_secret(name),
            Dependency::ConfigMap(name) => self.show_config(name),
            Dependency::Dns(host) => {
                let wanted = NameChange::Wanted(Arc::clone(host));
                self.foreign.shown.names.push(wanted);
            }
            Dependency::Issuer(issuer) => {
                let wanted = NameChange::Wanted(Arc::clone(issuer));
                self.foreign.shown.issuers.push(wanted);
            }
            _ => {}
        }
    }

    /// Nobody reads this any more.
    pub(in crate::index) fn stop_showing(&mut self, dependency: &Dependency) {
        match dependency {
            Dependency::Secret(name) => drop(self.objects.put_secret(name, None)),
            Dependency::ConfigMap(name) => drop(self.objects.put_config_map(name, None)),
            Dependency::Dns(host) => {
                let changed = self.objects.put_dns(host, None);
                self.mark(changed);
                let unwanted = NameChange::Unwanted(Arc::clone(host));
                self.foreign.shown.names.push(unwanted);
            }
            Dependency::Issuer(issuer) => {
                drop(self.objects.put_issuer(issuer, None));
                let unwanted = NameChange::Unwanted(Arc::clone(issuer));
                self.foreign.shown.issuers.push(unwanted);
            }
            _ => {}
        }
    }

    /// Takes in what an issuer says of its keys, if somebody still asks for it.
    pub(in crate::index) fn put_issuer(&mut self, issuer: &Arc<str>, found: Discovered) {
        let dependency = Dependency::Issuer(Arc::clone(issuer));
        if self.readers.contains_key(&dependency) {
            let changed = self.objects.put_issuer(issuer, Some(found));
            self.mark(changed);
        }
    }

    /// Takes in the configuration of the mesh, if this ConfigMap is that.
    pub(in crate::index) fn put_mesh_config(&mut self, name: &Name, map: Option<&ConfigMap>) {
        let data = map.and_then(|map| map.data.as_ref());
        match dialects::istio::mesh::put(&mut self.objects, name, data) {
            Ok(changed) => self.mark(changed),
            Err(why) => {
                let config = name.to_string();
                tracing::error!(
                    config,
                    why,
                    "key mesh cannot be read; what it said before holds"
                );
            }
        }
    }

    /// Takes in Kourier's configuration, if this ConfigMap is that. A wrong one is refused by the
    /// API, so that the one before holds.
    pub(in crate::index) fn put_kourier_config(&mut self, name: &Name, map: Option<&ConfigMap>) {
        let data = map.and_then(|map| map.data.as_ref());
        let changed = dialects::knative::kourier::put(&mut self.objects, name, data);
        self.mark(changed);
    }

    /// Host names to look up, or not any more, since this was asked last; in this order.
    pub(crate) fn take_name_changes(&mut self) -> Vec<NameChange> {
        std::mem::take(&mut self.foreign.shown.names)
    }

    /// The same for issuers of tokens.
    pub(crate) fn take_issuer_changes(&mut self) -> Vec<NameChange> {
        std::mem::take(&mut self.foreign.shown.issuers)
    }
}
