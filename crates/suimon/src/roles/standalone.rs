//! One process, everything: API, controllers, pods and gateway.
//!
//! Read top-down, this is the table of contents of the product. Controllers get a [`Cluster`]
//! and meet only in the API; the data plane gets snapshots and never sees the API.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use kube::Client;
use lifecycle::{Tasks, snapshot_channel};
use proxy::{Address, ListenerSettings};
use reconcile::Cluster;
use routing::Visibility;
use routing::model::ClientSource;

use crate::gateway_view;
use crate::roles::admin::Admin;
use crate::roles::admission::Admission;
use crate::roles::keeper;
use crate::roles::loopback;
use crate::roles::memory;
use crate::roles::observability;
use crate::roles::pods;
use crate::roles::system::{self, GatewayPorts};
use crate::roles::text;
use crate::roles::tls;
use crate::roles::{access, addresses, callers};
use crate::settings::Settings;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start: {0:#}")]
pub struct StartError(anyhow::Error);

/// A running product.
pub struct Running {
    pub client: Client,
    /// What to tell the user: addresses and the kubeconfig's path.
    pub banner: String,
}

/// Starts everything; returns once requests and API calls are answered.
pub async fn start(settings: Settings, tasks: &Tasks) -> anyhow::Result<Running> {
    match start_all(settings, tasks).await {
        Ok(running) => Ok(running),
        Err(error) => Err(StartError(error).into()),
    }
}

async fn start_all(settings: Settings, tasks: &Tasks) -> anyhow::Result<Running> {
    let lock = lock(&settings.data_dir)?;
    let kubeconfig = settings.data_dir.join("kubeconfig");
    let images = system::open_images(&settings.data_dir)?;
    let root = cfg!(target_os = "linux") && node::is_root();
    let claim = services::Claim::take(&settings.data_dir, settings.service_range, root)?;
    let gateways = loopback::Claim::take(&settings.data_dir, settings.gateway_range)?;
    let authority = tls::open(&settings.data_dir)?;

    let definitions = system::definitions();
    let cluster_roles = access::cluster_roles(&definitions);
    let server = apiserver::start(
        apiserver::Settings {
            data_dir: settings.data_dir.join("store"),
            listen: Some(SocketAddr::new(settings.listen, settings.api_port)),
            crds: definitions,
            admission: Arc::new(Admission {
                has_preamble: settings.proxy_protocol,
            }),
            kubeconfig: kubeconfig.clone(),
            addresses: vec![addresses::api(claim.range).into()],
        },
        tasks,
    )
    .await?;
    server.bound(memory::api_bounds(
        settings.memory_bytes,
        settings.object_bytes,
    ));
    let cluster = Cluster::beside(server.client(), keeper::of(&server));

    let (publish, snapshots) = snapshot_channel(routing::Snapshot::default());
    let (report, reports) = scaling::reports();
    let activator = scaling::start(settings.scaling(), snapshots.clone(), report, tasks);
    if let Some(zone) = &settings.zone {
        activator.locate(&format!("/{zone}/"));
    }
    let wakes = activator.wakes().clone();
    let pods = node::Callers::default();
    let gateway = proxy::start(
        gateway_settings(&settings, &authority, &pods)?,
        snapshots.clone(),
        activator.clone(),
        tasks,
    )
    .map_err(|error| name_flag(error, &settings))?;
    memory::watch(settings.memory_bytes, &gateway, tasks);
    let ports = GatewayPorts::of(&gateway);
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let admin_door = system::listen(loopback, &settings.admin_ports).context("--admin-port")?;
    let metrics = gateway.metrics().clone();
    let (admin, admin_address) = Admin::start(
        admin_door,
        (metrics, wakes.clone()),
        snapshots.clone(),
        tasks,
    )?;
    system::prepare(cluster.client(), &settings, &ports).await?;
    access::create(cluster.client(), &cluster_roles).await?;
    gateway_view::serve(&server, snapshots, activator);
    addresses::show_range(&server, claim.range);

    if let Some(api) = server.address() {
        addresses::publish_api(cluster.client(), claim.range, api).await?;
    }

    let workloads = addresses::workloads(&settings, claim.range)?;
    workloads::start(&cluster, workloads, tasks);
    let answering = addresses::services(&settings, &claim);
    let cluster_ips = (claim.range, answering.handover.clone());
    services::start(&cluster, answering, tasks);
    // Cluster IPs need root; programs of the machine reach the API where it listens.
    let api = if root {
        Some(SocketAddr::new(addresses::api(claim.range).into(), 443))
    } else {
        server.address()
    };
    let node = node::start(
        &cluster,
        system::node(&settings, api, pods)?,
        images.clone(),
        tasks,
    )
    .await?;
    pods::connect(&server, &cluster, &node, tasks);
    let ranges = (gateways.range, cluster_ips);
    let watching = system::publisher(&settings, &ports, &gateway, ranges);
    publisher::start(&cluster, watching, publish, tasks);
    authority::start(&cluster, Arc::clone(&authority), tasks);
    let answers = tls::answers(gateway.challenges());
    authority::acme::start(&cluster, settings.acme.clone(), answers, tasks);
    let heard = (reports, wakes);
    serving::start(&cluster, system::serving(&ports, images), heard, tasks);

    observability::follow(&cluster, &gateway, tasks);

    admin.started();
    text::forget_start(tasks);
    system::hold_until_stopped((lock, claim, gateways), tasks);
    Ok(Running {
        client: server.client(),
        banner: banner(&ports, admin_address, &server, &authority, &kubeconfig),
    })
}

/// The external listeners on the address asked for, the cluster-local ones on loopback.
fn gateway_settings(
    settings: &Settings,
    authority: &Arc<authority::Authority>,
    pods: &node::Callers,
) -> anyhow::Result<proxy::Settings> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listener = |ports: &[u16], visibility, tls| {
        let external = visibility == Visibility::External;
        let ip = if external { settings.listen } else { loopback };
        let addresses = ports.iter().map(|port| SocketAddr::new(ip, *port));
        ListenerSettings {
            address: Address::Bind(addresses.collect()),
            visibility,
            tls,
            proxy_protocol: settings.proxy_protocol && external,
        }
    };
    let (external, local) = (Visibility::External, Visibility::ClusterLocal);
    Ok(proxy::Settings {
        listeners: vec![
            listener(&settings.http_ports, external, false),
            listener(&settings.local_ports, local, false),
            listener(&settings.https_ports, external, true),
            listener(&settings.local_https_ports, local, true),
        ],
        threads: NonZeroUsize::new(settings.gateway_threads),
        server: None,
        client: ClientSource::behind(settings.trusted_hops),
        limits: settings.limits.clone(),
        https_port: None,
        issuer: Some(tls::issuer(authority)),
        callers: Some(Arc::new(callers::Pods(pods.clone()))),
        access_log: settings.access_log.clone(),
        #[cfg(feature = "http3")]
        http3: settings.http3,
    })
}

/// Says which flag chooses another port than the one that could not be bound.
fn name_flag(error: proxy::Error, settings: &Settings) -> anyhow::Error {
    let flags = [
        ("--http-port", &settings.http_ports),
        ("--local-port", &settings.local_ports),
        ("--https-port", &settings.https_ports),
        ("--local-https-port", &settings.local_https_ports),
    ];
    let port = match &error {
        proxy::Error::Listen { address, .. } => address.port(),
        #[cfg(feature = "http3")]
        proxy::Error::Datagrams { address, .. } => address.port(),
        _ => return error.into(),
    };
    let flag = flags.iter().find(|(_, ports)| ports.contains(&port));
    match flag {
        Some((flag, _)) => anyhow::Error::new(error).context(*flag),
        None => error.into(),
    }
}

/// One process per data directory: the kernel drops the lock with the process, however it ends.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot create {}", data_dir.display()))?;
    let file = File::create(data_dir.join("lock"))
        .with_context(|| format!("cannot write to {}", data_dir.display()))?;
    file.try_lock().with_context(|| {
        format!(
            "{} is in use by another `suimon up`; stop it or name another --data-dir",
            data_dir.display()
        )
    })?;
    Ok(file)
}

fn banner(
    ports: &GatewayPorts,
    admin: SocketAddr,
    server: &apiserver::Server,
    authority: &authority::Authority,
    kubeconfig: &Path,
) -> String {
    let api = server
        .address()
        .map_or_else(String::new, |address| format!("https://{address}"));
    format!(
        "suimon {}\n  gateway     http://{}\n  https       https://{}\n  ca          {}\n  admin       http://{admin}\n  api         {api}\n  kubeconfig  {}",
        env!("CARGO_PKG_VERSION"),
        ports.external,
        ports.secure,
        authority.file().display(),
        kubeconfig.display(),
    )
}
