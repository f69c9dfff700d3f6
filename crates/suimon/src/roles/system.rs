//! What the standalone role puts around the parts: the system's own objects, and the adapters
//! that keep the crates apart from each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::names::{GATEWAY_LOCAL_SERVICE, GATEWAY_SERVICE, SYSTEM_NAMESPACE};
use dialects::foreign;
use dialects::gateway_api::Adopt;
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use lifecycle::{Stage, Tasks};
use serde_json::{Value, json};

use crate::cli::Runtime;
use crate::roles::addresses;
use crate::roles::issuers::WellKnown;
use crate::roles::sockets::Sockets;
use crate::sample;
use crate::settings::Settings;

/// Name of the machine's Node object.
pub const NODE: &str = "suimon";
/// First argument that makes this binary the pods' spawner.
pub const SPAWNER_ROLE: &str = "__spawner";
const DEFAULT_DOMAIN: &str = "localhost";

/// Where the gateway listens.
#[derive(Clone, Debug)]
pub struct GatewayPorts {
    pub external: SocketAddr,
    /// HTTPS, as the one before for external hosts.
    pub secure: SocketAddr,
    pub local: SocketAddr,
    /// HTTPS, as the one before for hosts of the cluster.
    pub local_secure: SocketAddr,
}

impl GatewayPorts {
    pub fn of(gateway: &proxy::Gateway) -> Self {
        Self {
            external: gateway.addresses()[0],
            local: gateway.addresses()[1],
            secure: gateway.addresses()[2],
            local_secure: gateway.addresses()[3],
        }
    }

    /// The port that URLs must carry, if it is not HTTP's own.
    pub fn external_port(&self) -> Option<u16> {
        (self.external.port() != 80).then_some(self.external.port())
    }
}

/// How the publisher finds the gateway behind its own Services, and opens sockets at it.
pub fn publisher(
    settings: &Settings,
    ports: &GatewayPorts,
    gateway: &proxy::Gateway,
    (gateway_range, (services, handover)): (
        publisher::GatewayRange,
        (services::Range, services::Handover),
    ),
) -> publisher::Settings {
    let controllers = &settings.adopt_gateway_class;
    publisher::Settings {
        ingress_class: api::names::INGRESS_CLASS.to_owned(),
        external_addresses: vec![ports.external],
        local_addresses: vec![ports.local],
        issues_certificates: true,
        adopt: if controllers.is_empty() {
            Adopt::Everyone
        } else {
            Adopt::Named(controllers.iter().cloned().collect())
        },
        gateway_range,
        cluster_ips: (cfg!(target_os = "linux") && node::is_root()).then(|| {
            let first = u32::from(services.address);
            let size = u32::MAX.checked_shr(services.prefix.into()).unwrap_or(0);
            publisher::GatewayRange {
                first: Ipv4Addr::from(first + 1),
                last: Ipv4Addr::from(first.saturating_add(size.saturating_sub(1))),
            }
        }),
        // Processes have the machine's address.
        tells_callers: settings.runtime == Runtime::Oci,
        sockets: Arc::new(Sockets::new(gateway.binder().clone(), services, handover)),
        ports: dialects::GatewayPorts {
            address: ports.external.ip(),
            http: ports.external.port(),
            https: ports.secure.port(),
            has_preamble: settings.proxy_protocol,
        },
        kinds: foreign::kinds(),
        resolver: Arc::new(publisher::SystemResolver),
        look_up_every: settings.dns_time,
        issuers: Arc::new(WellKnown::default()),
    }
}

/// Of every kind that is not Kubernetes' own: Knative's, Gateway API's and other gateways'.
pub fn definitions() -> Vec<Value> {
    let mut all = api::crd::crds();
    all.extend(foreign::definitions(foreign::kinds()));
    all
}

/// The store of a data directory. It offers the sample program, which is this binary, so the
/// first `up` needs no image from elsewhere.
pub fn open_images(data_dir: &Path) -> anyhow::Result<images::Store> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let store = images::Store::open(data_dir.join("images"))?;
    Ok(store.with_built_in(sample::IMAGE, &program, &[sample::ROLE])?)
}

/// Listens on the first of these ports that nobody has; 0 lets the system pick one.
pub fn listen(address: IpAddr, ports: &[u16]) -> anyhow::Result<TcpListener> {
    let mut failed = anyhow::anyhow!("no port to listen on");
    for port in ports {
        let candidate = SocketAddr::new(address, *port);
        match TcpListener::bind(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                failed = anyhow::Error::new(error).context(format!("cannot listen on {candidate}"));
            }
        }
    }
    Err(failed)
}

/// Digests from the local store, else from the registry; the node fetches the image itself.
struct Digests(images::Store);

impl serving::DigestResolver for Digests {
    fn resolve(
        &self,
        request: serving::ImageRequest,
    ) -> BoxFuture<'static, Result<String, String>> {
        let store = self.0.clone();
        async move {
            let image = request.image;
            let pinned = |digest: &images::Digest| {
                let reference = images::Reference::parse(&image).map_err(|error| error.to_string())?;
                Ok(format!("{}@{digest}", reference.repository()))
            };
            match store.resolve(&image) {
                Ok(Some(found)) => return pinned(&found.digest),
                Ok(None) => {}
                Err(error) => return Err(format!("{error:#}")),
            }
            if !request.pull_secrets.is_empty() || request.service_account.is_some() {
                return Ok(image); // The node pulls with these credentials and tells what fails.
            }
            match store.remote_digest(&image, &images::Credentials::Anonymous).await {
                Ok(digest) => pinned(&digest),
                Err(error) => Err(format!(
                    "{error:#}; if it is a program of yours, add it with `suimon image add {image} --binary PATH`"
                )),
            }
        }
        .boxed()
    }
}

/// How the Knative controllers run here.
pub fn serving(ports: &GatewayPorts, images: images::Store) -> serving::Settings {
    serving::Settings {
        external_port: ports.external_port(),
        external_tls_port: (ports.secure.port() != 443).then_some(ports.secure.port()),
        default_domain: DEFAULT_DOMAIN.to_owned(),
        digests: Arc::new(Digests(images)),
    }
}

/// How pods run here.
pub fn node(
    settings: &Settings,
    api: Option<SocketAddr>,
    callers: node::Callers,
) -> anyhow::Result<node::Settings> {
    Ok(node::Settings {
        name: NODE.to_owned(),
        address: settings.listen,
        dir: settings.data_dir.join("node"),
        spawner: node::spawner::SpawnerCommand {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            args: vec![SPAWNER_ROLE.into()],
        },
        default_runtime: match settings.runtime {
            Runtime::Process => "process".to_owned(),
            Runtime::Oci => "oci".to_owned(),
        },
        // Below the node ports, which are below the kernel's own.
        host_ports: 20_000..=29_999,
        shutdown_grace: Duration::from_secs(10),
        api,
        zone: settings.zone.clone(),
        callers,
    })
}

/// Creates what a Knative installation has: the gateway's Services and the ConfigMaps that users
/// edit. ConfigMaps that exist are left as they are; a `--domain` given now wins.
pub async fn prepare(
    client: &Client,
    settings: &Settings,
    ports: &GatewayPorts,
) -> anyhow::Result<()> {
    for (name, address, secure) in [
        (GATEWAY_SERVICE, ports.external, ports.secure),
        (GATEWAY_LOCAL_SERVICE, ports.local, ports.local_secure),
    ] {
        let service = gateway_service(name, address, secure);
        apply(client, "Service", "services", name, &service, false).await?;
        apply(client, "Service", "services", name, &service, true).await?;
        let both = [("http2", address.port()), ("https", secure.port())];
        addresses::lead_to(client, SYSTEM_NAMESPACE, name, address.ip(), &both).await?;
    }
    create_gateway_class(client).await?;
    create_mesh(client).await?;
    let names = [
        "config-autoscaler",
        "config-defaults",
        "config-deployment",
        "config-features",
        "config-gc",
        "config-kourier",
        "config-leader-election",
        "config-logging",
        "config-network",
        "config-observability",
        "config-tracing",
    ];
    for name in names {
        create_config_map(client, name, json!({})).await?;
    }
    let domain = settings.domain.as_deref().unwrap_or(DEFAULT_DOMAIN);
    let created = create_config_map(client, "config-domain", json!({ domain: "" })).await?;
    if !created && settings.domain.is_some() {
        set_default_domain(client, domain).await?;
    }
    Ok(())
}

/// `nodePort` is where the machine offers a port, as everywhere in Kubernetes. What is for the
/// cluster only is offered by no address of the machine.
fn gateway_service(name: &str, address: SocketAddr, secure: SocketAddr) -> Value {
    let is_public = name == GATEWAY_SERVICE;
    let port = |name: &str, port: u16, at: SocketAddr| {
        let mut port =
            json!({ "name": name, "port": port, "protocol": "TCP", "targetPort": at.port() });
        if is_public {
            port["nodePort"] = at.port().into();
        }
        port
    };
    let mut balancer = json!({});
    if is_public {
        balancer["ingress"] = json!([{ "ip": address.ip().to_string() }]);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": SYSTEM_NAMESPACE, "labels": { "app.kubernetes.io/name": "suimon" } },
        "spec": {
            "type": if is_public { "LoadBalancer" } else { "ClusterIP" },
            "ports": [port("http2", 80, address), port("https", 443, secure)],
        },
        "status": { "loadBalancer": balancer },
    })
}

async fn apply(
    client: &Client,
    kind: &str,
    plural: &str,
    name: &str,
    object: &Value,
    status: bool,
) -> anyhow::Result<()> {
    let resource = core(kind, plural);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), SYSTEM_NAMESPACE, &resource);
    let params = PatchParams::apply("suimon-system").force();
    if status {
        let patch = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name }, "status": object["status"] });
        api.patch_status(name, &params, &Patch::Apply(&patch))
            .await?;
    } else {
        api.patch(name, &params, &Patch::Apply(object)).await?;
    }
    Ok(())
}

/// The class that is ours by name.
async fn create_gateway_class(client: &Client) -> anyhow::Result<()> {
    use api::gateway::v1::{GatewayClass, GatewayClassSpec};
    let spec = GatewayClassSpec {
        controller_name: api::gateway::CONTROLLER.to_owned(),
        description: Some("Gateways of this process".to_owned()),
        ..GatewayClassSpec::default()
    };
    let class = GatewayClass::new(api::gateway::CLASS, spec);
    let classes: Api<GatewayClass> = Api::all(client.clone());
    match classes.create(&Default::default(), &class).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The XMesh that is ours by name: what holds for calls between pods.
async fn create_mesh(client: &Client) -> anyhow::Result<()> {
    use api::gateway::v1alpha1::{Mesh, MeshSpec};
    let spec = MeshSpec {
        controller_name: api::gateway::CONTROLLER.to_owned(),
        description: Some("Calls to Services of this process".to_owned()),
        ..MeshSpec::default()
    };
    let mesh = Mesh::new(api::gateway::CLASS, spec);
    let meshes: Api<Mesh> = Api::all(client.clone());
    match meshes.create(&Default::default(), &mesh).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn create_config_map(client: &Client, name: &str, data: Value) -> anyhow::Result<bool> {
    use k8s_openapi::api::core::v1::ConfigMap;
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": SYSTEM_NAMESPACE, "labels": { "app.kubernetes.io/name": "suimon" } },
        "data": data,
    }))?;
    Ok(reconcile::write::create_if_absent(client, &map)
        .await?
        .is_some())
}

/// Makes `domain` the one without a selector, as `--domain` asks; others with selectors stay.
async fn set_default_domain(client: &Client, domain: &str) -> anyhow::Result<()> {
    use k8s_openapi::api::core::v1::ConfigMap;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let current = api.get("config-domain").await?.data.unwrap_or_default();
    let mut data = serde_json::Map::new();
    for (other, selector) in current {
        if selector.trim().is_empty() && other != "_example" && other != domain {
            data.insert(other, Value::Null);
        }
    }
    data.insert(domain.to_owned(), json!(""));
    let params = PatchParams {
        field_manager: Some("suimon-system".to_owned()),
        ..PatchParams::default()
    };
    api.patch(
        "config-domain",
        &params,
        &Patch::Merge(&json!({ "data": data })),
    )
    .await?;
    Ok(())
}

fn core(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Keeps the data directory's lock, and the addresses, until the store is closed.
pub fn hold_until_stopped<T: Send + 'static>(held: T, tasks: &Tasks) {
    let mut stop = tasks.shutdown(Stage::Store);
    tasks.spawn("data-directory-lock", Stage::Store, async move {
        stop.requested().await;
        drop(held);
        Ok::<(), std::convert::Infallible>(())
    });
}
