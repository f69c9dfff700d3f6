//! The Node object and its Lease: what `kubectl get nodes` shows.
//!
//! Written rarely. In standalone mode nothing decides by them; on a cluster the Lease says that
//! this node lives.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Namespace, Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use api::requests::Amounts;

use crate::pod::now;
use crate::settings::Settings;
use crate::sys;

/// Between two renewals of the Lease; the Node's status is written with every tenth.
const RENEW: Duration = Duration::from_secs(60);
const LEASE_SECONDS: i32 = 180;
const LEASES: &str = "kube-node-lease";
/// More would be possible; this is what is promised.
const MOST_PODS: u32 = 1000;

/// What this machine cannot do for pods, each with the reason; conditions of the Node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems {
    /// Pods do not reach other machines.
    pub(crate) egress: Option<String>,
    /// Pods do not find Services by name.
    pub(crate) dns: Option<String>,
}

/// Creates both objects, or brings them up to date.
pub(crate) async fn register(
    client: &Client,
    settings: &Settings,
    problems: &Problems,
) -> Result<(), kube::Error> {
    create(&Api::<Namespace>::all(client.clone()), &named(LEASES)).await?;
    let node = Node {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            labels: Some(labels(settings)),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    create(&Api::<Node>::all(client.clone()), &node).await?;
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            namespace: Some(LEASES.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(settings.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(micro_now()),
            ..LeaseSpec::default()
        }),
    };
    create(&Api::<Lease>::namespaced(client.clone(), LEASES), &lease).await?;
    write_status(client, settings, problems).await?;
    renew(client, settings).await
}

/// Keeps both alive until dropped.
pub(crate) async fn keep(
    client: Client,
    settings: Settings,
    problems: Problems,
) -> Result<(), kube::Error> {
    let mut ticks = 0_u32;
    loop {
        tokio::time::sleep(RENEW).await;
        ticks = ticks.wrapping_add(1);
        renew(&client, &settings).await?;
        if ticks.is_multiple_of(10) {
            write_status(&client, &settings, &problems).await?;
        }
    }
}

fn named(name: &str) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

async fn create<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: Resource + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

async fn renew(client: &Client, settings: &Settings) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let patch = json!({ "spec": { "renewTime": micro_now() } });
    leases
        .patch(
            &settings.name,
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
        .map(drop)
}

async fn write_status(
    client: &Client,
    settings: &Settings,
    problems: &Problems,
) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let before = nodes
        .get(&settings.name)
        .await?
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let patch = json!({ "status": status(settings, problems, &before, &now()) });
    nodes
        .patch_status(
            &settings.name,
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
        .map(drop)
}

fn labels(settings: &Settings) -> BTreeMap<String, String> {
    let zone = settings.zone.as_deref();
    let labels = [
        ("kubernetes.io/hostname", settings.name.as_str()),
        ("kubernetes.io/os", os()),
        ("kubernetes.io/arch", architecture()),
    ];
    labels
        .into_iter()
        .chain(zone.map(|zone| ("topology.kubernetes.io/zone", zone)))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What this machine has.
fn capacity() -> BTreeMap<String, Quantity> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpus.to_string())),
        ("pods".to_owned(), Quantity(MOST_PODS.to_string())),
    ]);
    if let Some(bytes) = sys::memory_bytes() {
        capacity.insert("memory".to_owned(), Quantity(format!("{}Ki", bytes / 1024)));
    }
    capacity
}

/// The part of it that pods may ask for: all.
pub(crate) fn allocatable() -> Amounts {
    let amount = |(name, quantity): (String, Quantity)| {
        let amount = api::requests::amount(&name, &quantity)?;
        Some((name, amount))
    };
    capacity().into_iter().filter_map(amount).collect()
}

fn status(
    settings: &Settings,
    problems: &Problems,
    before: &[NodeCondition],
    now: &Time,
) -> NodeStatus {
    let capacity = capacity();
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", settings.address.to_string()),
            address("Hostname", settings.name.clone()),
        ]),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(problems, before, now)),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            operating_system: os().to_owned(),
            kubelet_version: concat!("v1.36.0+suimon-", env!("CARGO_PKG_VERSION")).to_owned(),
            container_runtime_version: concat!("suimon://", env!("CARGO_PKG_VERSION")).to_owned(),
            kernel_version: first_line("/proc/sys/kernel/osrelease"),
            machine_id: first_line("/etc/machine-id"),
            boot_id: first_line("/proc/sys/kernel/random/boot_id"),
            os_image: os().to_owned(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// Kubernetes' own conditions, and two of ours about the network of containers. Ready is last, as
/// `kubectl describe node` shows it elsewhere.
fn conditions(problems: &Problems, before: &[NodeCondition], now: &Time) -> Vec<NodeCondition> {
    let problem = |type_, good, bad, problem: &Option<String>| match problem {
        None => (type_, "False", good, None),
        Some(problem) => (type_, "True", bad, Some(problem.clone())),
    };
    let all = [
        ("MemoryPressure", "False", "NodeHasSufficientMemory", None),
        ("DiskPressure", "False", "NodeHasNoDiskPressure", None),
        ("PIDPressure", "False", "NodeHasSufficientPID", None),
        problem(
            "PodEgressUnavailable",
            "PodsReachOtherMachines",
            "PodsReachOnlyThisMachine",
            &problems.egress,
        ),
        problem(
            "ClusterDNSUnavailable",
            "ServicesHaveNames",
            "ServicesHaveNoNames",
            &problems.dns,
        ),
        ("Ready", "True", "NodeReady", None),
    ];
    let condition = |(type_, status, reason, message): (&str, &str, &str, Option<String>)| {
        let same = before
            .iter()
            .find(|c| c.type_ == type_ && c.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message,
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(now.clone())),
        }
    };
    all.map(condition).into()
}

/// Names as Go and Kubernetes spell them.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

fn first_line(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn micro_now() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}
