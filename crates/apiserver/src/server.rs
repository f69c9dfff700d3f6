//! Starting and stopping the API server.
//!
//! The order matters: store, types, initial objects, then the door. So the first request already
//! finds everything. Stopping is the reverse, stage by stage.

mod gather;
mod listener;

use std::any::Any;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use lifecycle::{Stage, Tasks};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use crate::admission::Admission;
use crate::auth::token::Tokens;
use crate::connect::{Connector, Measure, Page};
use crate::crud::{self, Api, Call};
use crate::status::Status;
use crate::store::{self, Limits, Store};
use crate::stream::{self, Containers, Streams};
use crate::types::TypeTable;
use crate::{
    addresses, auth, crd, events, flow, gc, http as api_http, kubeconfig, namespace, quota, tls,
};

/// How the API server runs.
pub struct Settings {
    /// Directory of the store and the certificates; made if it is missing.
    pub data_dir: PathBuf,
    /// Address to serve with TLS; `None` serves in-process clients only. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// CRDs that are created or updated at the start.
    pub crds: Vec<Value>,
    /// Defaults and validates what clients send.
    pub admission: Arc<dyn Admission>,
    /// Where the kubeconfig is written, if `listen` is set.
    pub kubeconfig: PathBuf,
    /// Further addresses that lead to it, for its certificate.
    pub addresses: Vec<IpAddr>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            data_dir,
            listen,
            crds,
            kubeconfig,
            ..
        } = self;
        f.debug_struct("Settings")
            .field("data_dir", data_dir)
            .field("listen", listen)
            .field("crds", &crds.len())
            .field("kubeconfig", kubeconfig)
            .finish_non_exhaustive()
    }
}

/// Why the API server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file or directory.
    #[error("cannot read or write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The port.
    #[error("cannot listen on {address}: {source}; choose another address for the API")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Making a certificate.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Using a certificate.
    #[error(
        "cannot use the certificates in the data directory: {0}; delete its folder `pki` to make new ones"
    )]
    Tls(#[from] rustls::Error),
    /// Reading a certificate.
    #[error(
        "cannot read the certificates in the data directory: {0}; delete its folder `pki` to make new ones"
    )]
    Pem(String),
    /// An object that must exist.
    #[error("cannot create {what}: {source}")]
    Initial {
        /// Which object.
        what: String,
        /// Why.
        source: Status,
    },
}

/// The running API server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    api: Arc<Api>,
    address: Option<SocketAddr>,
    token: Option<Arc<str>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Starts the API server. When it returns, every CRD is served and clients can connect.
///
/// # Errors
/// If the store, the certificates, the port or the initial objects fail.
pub async fn start(settings: Settings, tasks: &Tasks) -> Result<Server, Error> {
    tls::create_private_dir(&settings.data_dir)?;
    let store = Store::open(&settings.data_dir.join("store.redb"), Limits::standard())?;
    let types = crd::load(TypeTable::builtin(), &store);
    let api = Arc::new(Api::new(
        store.clone(),
        types,
        Arc::clone(&settings.admission),
        Tokens::new(tls::account_key(&settings.data_dir.join("pki"))?),
    ));
    look_after(&store, tasks);
    namespace::create_initial(&api)
        .await
        .map_err(|source| Error::Initial {
            what: "the initial namespaces".into(),
            source,
        })?;
    auth::create_initial(&api)
        .await
        .map_err(|source| Error::Initial {
            what: "the initial roles".into(),
            source,
        })?;
    auth::settle_roles(&api).await;
    flow::create_initial(&api)
        .await
        .map_err(|source| Error::Initial {
            what: "the initial flow schemas".into(),
            source,
        })?;
    api.measure("componentstatuses", components(&store));
    api.measure("ipaddresses.networking.k8s.io", addresses::measure(&store));
    for definition in &settings.crds {
        install_crd(&api, definition).await?;
    }
    let collector = Arc::clone(&api);
    tasks.spawn("garbage-collector", Stage::Api, async move {
        gc::run(collector).await;
        Ok::<(), Infallible>(())
    });
    let roles = Arc::clone(&api);
    tasks.spawn("role-aggregation", Stage::Api, async move {
        auth::aggregate_roles(roles).await;
        Ok::<(), Infallible>(())
    });
    let quotas = Arc::clone(&api);
    tasks.spawn("resource-quota", Stage::Api, async move {
        quota::run(quotas).await;
        Ok::<(), Infallible>(())
    });
    let names = Arc::clone(&api);
    tasks.spawn("crd-names", Stage::Api, async move {
        crd::run(names).await;
        Ok::<(), Infallible>(())
    });
    let mut server = Server {
        api,
        address: None,
        token: None,
    };
    if let Some(listen) = settings.listen {
        let pki = tls::prepare(
            &settings.data_dir.join("pki"),
            listen.ip(),
            &settings.addresses,
        )?;
        let token: Arc<str> = pki.token.into();
        server.api.tokens.set_admin(Arc::clone(&token));
        // A second call would be a second listener, which has the same CA.
        let _ = server.api.issuer.set(pki.issuer);
        let address = listener::start(&server.api, listen, pki.server, tasks).await?;
        kubeconfig::write(&settings.kubeconfig, address, &pki.admin)?;
        server.address = Some(address);
        server.token = Some(token);
    }
    Ok(server)
}

/// The parts of a control plane that clients ask about. They are one process: whoever gets an
/// answer knows that it runs; the store may refuse writes.
fn components(store: &Store) -> Measure {
    let store = store.clone();
    Arc::new(move |_: String, wanted: String| {
        let names = ["controller-manager", "etcd-0", "scheduler"];
        let names = names
            .into_iter()
            .filter(|name| wanted.is_empty() || *name == wanted);
        let all = names.map(|name| {
            let healthy = name != "etcd-0" || store.accepts_writes();
            let (status, field, text) = match healthy {
                true => ("True", "message", "ok"),
                false => ("False", "error", "the store does not accept writes"),
            };
            json!({
                "kind": "ComponentStatus",
                "apiVersion": "v1",
                "metadata": { "name": name, "creationTimestamp": null },
                "conditions": [{ "type": "Healthy", "status": status, field: text }],
            })
        });
        let all: Vec<Value> = all.collect();
        Box::pin(std::future::ready(all))
    })
}

/// How often the store gives memory back.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// Keeps the store tidy, ends watches with the API stage, and closes the store with the last one.
fn look_after(store: &Store, tasks: &Tasks) {
    let open = store.clone();
    let mut stop = tasks.shutdown(Stage::Api);
    tasks.spawn("store-tidy", Stage::Api, async move {
        let mut expiry = events::Expiry::default();
        let mut tidy = tokio::time::interval_at(Instant::now() + TIDY_EVERY, TIDY_EVERY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let work: fn(&Store) = tokio::select! {
                () = stop.requested() => break,
                _ = tidy.tick() => {
                    expiry.run(&open, Timestamp::now());
                    Store::tidy
                }
                () = open.crowded() => Store::relieve,
            };
            // Compressing takes a while after a burst; nobody waits for it here.
            let store = open.clone();
            if tokio::task::spawn_blocking(move || work(&store))
                .await
                .is_err()
            {
                tracing::error!("giving memory back has panicked");
            }
        }
        open.close_watches();
        Ok::<(), Infallible>(())
    });
    let store = store.clone();
    let mut stop = tasks.shutdown(Stage::Store);
    tasks.spawn("store", Stage::Store, async move {
        stop.requested().await;
        store.close().await
    });
}

/// Creates a CRD, or brings a stored one up to date.
async fn install_crd(api: &Arc<Api>, definition: &Value) -> Result<(), Error> {
    let name = definition["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let failed = |source| Error::Initial {
        what: format!("the CRD {name}"),
        source,
    };
    let types = api.types();
    let kind = types
        .get("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        .ok_or_else(|| failed(Status::internal("the type table has no CRDs")))?;
    let call = Call::internal(kind, "", &name);
    let body = |value: &Value| crud::Body {
        media_type: "application/json".into(),
        bytes: value.to_string().into(),
    };
    let Some(stored) = api.store.get(crd::RESOURCE, &name) else {
        let collection = Call::internal(kind, "", "");
        return api
            .create(&collection, &body(definition))
            .await
            .map(|_| ())
            .map_err(failed);
    };
    if is_replaced(&stored.value(), definition) {
        return Ok(());
    }
    let mut next = (*stored.value()).clone();
    next["spec"] = definition["spec"].clone();
    crd::default_names(&mut next);
    api.update(&call, &body(&next))
        .await
        .map(|_| ())
        .map_err(failed)
}

/// Whether a user put another definition in the place of one of ours that may be replaced. It
/// shows in the schema, which is replaced as a whole; labels stay when others are applied.
fn is_replaced(stored: &Value, definition: &Value) -> bool {
    let ours = |crd: &Value| {
        let text = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/description");
        text.and_then(Value::as_str).map(str::to_owned)
    };
    let replaceable = "/metadata/labels/suimon.dev~1replaceable";
    definition.pointer(replaceable).is_some() && ours(stored) != ours(definition)
}

impl Server {
    /// A client in this process: requests are function calls, without a socket or TLS. Use it
    /// inside a tokio runtime.
    pub fn client(&self) -> kube::Client {
        let api = Arc::clone(&self.api);
        let user = Arc::new(auth::in_process());
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (api, user) = (Arc::clone(&api), Arc::clone(&user));
            async move {
                Ok::<_, Infallible>(Box::pin(api_http::handle(&api, request, Some(&user))).await)
            }
        });
        kube::Client::new(service, "default")
    }

    /// The newest state of an object, with its revision, for caches of this process: they share
    /// it with the store instead of keeping their own. `None` if it is not stored in this version.
    pub fn hold(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        key: &str,
    ) -> Option<(u64, Arc<dyn Any + Send + Sync>)> {
        let types = self.api.types();
        let kind = types.get(group, version, plural)?;
        let resource = crud::resource_id(&kind.storage.group, &kind.storage.plural);
        let object = self.api.store.get(&resource, key)?;
        // What is built in has always been stored in one version.
        let is_version = !kind.custom && kind.storage.version == version
            || api_http::render::is_version(&object.bytes(), kind);
        let revision = object.revision();
        let handle: Arc<dyn Any + Send + Sync> = object;
        is_version.then_some((revision, handle))
    }

    /// The JSON of what [`Self::hold`] returned.
    pub fn json(held: &(dyn Any + Send + Sync)) -> Option<Bytes> {
        held.downcast_ref::<store::Object>()
            .map(store::Object::bytes)
    }

    /// Where the server listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// A bearer token with all rights, for programs on this machine; the same after a restart.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Bounds what the API takes of memory, from now on. The first call counts.
    pub fn bound(&self, bounds: crate::Bounds) {
        let most = usize::try_from(bounds.object_bytes).unwrap_or(usize::MAX);
        self.api.pressure.bound(bounds);
        self.api.store.bound(most);
    }

    /// Lets `page` answer a path outside the resources, for callers with all rights.
    pub fn connect_path(&self, path: &str, page: Page) {
        self.api.connect_path(path, page);
    }

    /// Lets `handler` answer a subresource, such as `pods` and `log`. For resources of a group the
    /// name is `plural.group`.
    pub fn connect(&self, resource: &str, subresource: &str, handler: Connector) {
        self.api.connect(resource, subresource, handler);
    }

    /// Serves a resource that is measured when it is read, such as `pods.metrics.k8s.io`.
    pub fn measure(&self, resource: &str, measure: Measure) {
        self.api.measure(resource, measure);
    }

    /// Serves `pods/exec`, `pods/attach`, `pods/portforward`, `pods/proxy` and `services/proxy`
    /// with what runs the containers.
    pub fn connect_streams(
        &self,
        containers: Arc<dyn Containers>,
        limits: stream::Limits,
        tasks: &Tasks,
    ) {
        let streams = Streams::new(containers, limits, tasks);
        self.connect("pods", "exec", streams.exec());
        self.connect("pods", "attach", streams.attach());
        self.connect("pods", "portforward", streams.port_forward());
        self.connect("pods", "proxy", streams.pod_proxy());
        self.connect("services", "proxy", streams.service_proxy());
    }
}

#[cfg(test)]
mod tests;
