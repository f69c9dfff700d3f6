//! What the controllers are told: fixed at start ([`Settings`]) or live from ConfigMaps of the
//! system namespace ([`LiveConfig`]).
//!
//! A ConfigMap with a bad value changes nothing: the last good one stays in force, and an Event
//! on the ConfigMap says which key is wrong. A missing ConfigMap means Knative's defaults.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use api::config::{
    Autoscaler, ConfigError, Defaults, Deployment, Domain, Features, Gc, Network, Observability,
    name,
};
use api::names::SYSTEM_NAMESPACE;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Resource, ResourceExt};
use reconcile::{Change, Informer, Key, Queue};
use tokio::sync::watch;

use crate::certificate::Ports;
use crate::digest::DigestResolver;
use crate::event::{Note, Recorder};

/// Fixed at start.
#[derive(Clone)]
pub struct Settings {
    /// Port of external URLs when it is not the scheme's own.
    pub external_port: Option<u16>,
    /// The same of those with `https`.
    pub external_tls_port: Option<u16>,
    /// Domain of routes when `config-domain` names none.
    pub default_domain: String,
    /// Pins images to digests.
    pub digests: Arc<dyn DigestResolver>,
}

impl Settings {
    /// Ports of external URLs.
    pub(crate) fn ports(&self) -> Ports {
        Ports {
            http: self.external_port,
            https: self.external_tls_port,
        }
    }
}

/// Every ConfigMap, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) autoscaler: Autoscaler,
    pub(crate) defaults: Defaults,
    pub(crate) deployment: Deployment,
    pub(crate) domain: Domain,
    pub(crate) features: Features,
    pub(crate) gc: Gc,
    pub(crate) network: Network,
    pub(crate) observability: Observability,
}

impl Config {
    /// Knative's defaults.
    pub(crate) fn new(default_domain: &str) -> Self {
        Self {
            autoscaler: Autoscaler::default(),
            defaults: Defaults::default(),
            deployment: Deployment::default(),
            domain: Domain::parse(&BTreeMap::new(), default_domain)
                .expect("no entry can be wrong in empty data"),
            features: Features::default(),
            gc: Gc::default(),
            network: Network::default(),
            observability: Observability::default(),
        }
    }

    /// Takes over one ConfigMap; on errors nothing changes.
    fn read(
        &mut self,
        config_map: &str,
        data: &BTreeMap<String, String>,
        default_domain: &str,
    ) -> Result<(), Vec<ConfigError>> {
        match config_map {
            name::AUTOSCALER => self.autoscaler = Autoscaler::parse(data)?,
            name::DEFAULTS => self.defaults = Defaults::parse(data)?,
            name::DEPLOYMENT => self.deployment = Deployment::parse(data)?,
            name::DOMAIN => self.domain = Domain::parse(data, default_domain)?,
            name::FEATURES => self.features = Features::parse(data)?,
            name::GC => self.gc = Gc::parse(data)?,
            name::NETWORK => self.network = Network::parse(data)?,
            name::OBSERVABILITY => self.observability = Observability::parse(data)?,
            _ => {}
        }
        Ok(())
    }
}

type Handler = Box<dyn Fn() + Send + Sync>;

/// The configuration in force. Clone freely; clones are one.
#[derive(Clone)]
pub(crate) struct LiveConfig {
    current: Arc<watch::Sender<Arc<Config>>>,
    handlers: Arc<Mutex<Vec<Handler>>>,
    config_maps: Informer<ConfigMap>,
}

impl LiveConfig {
    /// Follows the ConfigMaps of the system namespace.
    pub(crate) fn follow(
        config_maps: Informer<ConfigMap>,
        default_domain: String,
        recorder: Recorder,
    ) -> Self {
        let live = Self {
            current: Arc::new(watch::channel(Arc::new(Config::new(&default_domain))).0),
            handlers: Arc::default(),
            config_maps: config_maps.clone(),
        };
        let follower = live.clone();
        config_maps.on_change(move |change| {
            let config_map = change.object();
            if config_map.metadata.namespace.as_deref() != Some(SYSTEM_NAMESPACE)
                || !name::ALL.contains(&config_map.name_any().as_str())
            {
                return;
            }
            if let Err(errors) = follower.take(change, &default_domain) {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let message = format!(
                    "Not applied, the previous values stay in force: {}",
                    errors.join("; ")
                );
                tracing::warn!(config_map = %config_map.name_any(), message);
                recorder.tell(
                    config_map.as_ref(),
                    &[Note::warning("InvalidConfiguration", message)],
                );
            }
        });
        live
    }

    /// The values in force now.
    pub(crate) fn current(&self) -> Arc<Config> {
        self.current.borrow().clone()
    }

    /// Enqueues every object of a kind whenever the configuration changes.
    pub(crate) fn on_change<K>(&self, queue: &Queue<Key>, objects: &Informer<K>)
    where
        K: Resource<DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + Sync
            + 'static,
        Key: Hash,
    {
        let (queue, objects) = (queue.clone(), objects.clone());
        let handler = move || {
            for object in objects.list() {
                queue.add(Key::of(object.as_ref()));
            }
        };
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        handlers.push(Box::new(handler));
    }

    /// Resolves once the ConfigMaps that exist at start are in force.
    pub(crate) fn synced(&self) -> futures::future::BoxFuture<'static, ()> {
        self.config_maps.synced()
    }

    fn take(
        &self,
        change: &Change<ConfigMap>,
        default_domain: &str,
    ) -> Result<(), Vec<ConfigError>> {
        let config_map = change.object();
        let data = match change {
            Change::Applied(config_map) => config_map.data.clone().unwrap_or_default(),
            Change::Deleted(_) => BTreeMap::new(),
        };
        let mut next = self.current().as_ref().clone();
        next.read(&config_map.name_any(), &data, default_domain)?;
        self.current.send_replace(Arc::new(next));
        let handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        for handler in handlers.iter() {
            handler();
        }
        Ok(())
    }
}
