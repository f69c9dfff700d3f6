//! A client and the informers of this process.
//!
//! Controllers of one process share one watch and one cache per kind. They still meet only in
//! the API: an informer holds nothing that a LIST and WATCH would not give.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use kube::{Api, Client, Resource};
use lifecycle::Tasks;
use serde::de::DeserializeOwned;

use crate::{Informer, Keeper};

/// Access to one API server. Clone freely.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    keeper: Option<Arc<dyn Keeper>>,
    informers: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send>>>>,
}

impl Cluster {
    /// Wraps a client; informers start when they are first asked for.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            keeper: None,
            informers: Arc::default(),
        }
    }

    /// As [`Self::new`], for the server in this process: `keeper` holds the objects that nobody
    /// uses.
    pub fn beside(client: Client, keeper: Arc<dyn Keeper>) -> Self {
        Self {
            keeper: Some(keeper),
            ..Self::new(client)
        }
    }

    /// The client for writes, and for the rare read that must not come from a cache.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The cache of all objects of a kind, in all namespaces.
    pub fn informer<K>(&self, tasks: &Tasks) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut informers = self
            .informers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = informers.entry(TypeId::of::<K>()).or_insert_with(|| {
            let api = Api::all(self.client.clone());
            Box::new(Informer::<K>::start(api, self.keeper.clone(), tasks))
        });
        entry
            .downcast_ref::<Informer<K>>()
            .expect("entries are keyed by their type")
            .clone()
    }
}
