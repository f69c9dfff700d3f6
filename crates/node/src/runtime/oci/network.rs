//! Networks of pods: a namespace each, an address on one bridge.
//!
//! Making one costs half a millisecond and more, so a few stand ready. A network is made from
//! inside its namespace by a thread that lives only for that: its peer is then handed to the
//! host. Taking one down is left to the kernel, which does it when the last descriptor closes.

mod address;
mod bridge;
mod masquerade;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use futures::TryStreamExt;
use lifecycle::{Stage, Tasks};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use self::address::{Addresses, MOST};
use self::bridge::Bridge;
use crate::sys;

/// Networks that stand ready.
const READY: usize = 4;
/// Length of the prefix of the bridge's subnet.
const PREFIX: u8 = 16;

/// Why a pod got no network.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {step}: {problem}")]
pub(crate) struct NetworkError {
    step: &'static str,
    problem: String,
}

/// A pod's network. It ends when this and every process in it have ended.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) ip: Ipv4Addr,
    namespace: File,
    addresses: Arc<Addresses>,
}

impl Network {
    /// A path that stands for the namespace, for our own processes while this lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespace.as_raw_fd()
        )
        .into()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.addresses.give_back(self.ip);
    }
}

/// Networks to take. Clone freely.
#[derive(Clone)]
pub(crate) struct Networks {
    ready: Arc<AsyncMutex<mpsc::Receiver<Result<Network, NetworkError>>>>,
    /// This machine's address on the pods' bridge.
    pub(crate) gateway: Ipv4Addr,
    /// Which of the machine's bridges is ours; no other process has the same.
    pub(crate) number: u8,
    /// Why pods cannot reach other machines, if they cannot.
    pub(crate) no_egress: Option<String>,
}

impl Networks {
    /// Makes the bridge and starts to keep networks ready.
    pub(crate) async fn start(tasks: &Tasks) -> Result<Self, NetworkError> {
        let (bridge, no_egress) = in_thread(|| {
            let mut bridge = Bridge::claim()?;
            let no_egress = bridge.make()?;
            Ok((bridge, no_egress))
        })
        .await?;
        let (gateway, number) = (bridge.gateway, bridge.number);
        let (send, ready) = mpsc::channel(READY);
        let mut stop = tasks.shutdown(Stage::Pods);
        let addresses = Arc::new(Addresses::new(bridge, std::process::id()));
        tasks.spawn("pod-networks", Stage::Pods, async move {
            loop {
                let permit = tokio::select! {
                    permit = send.reserve() => permit,
                    () = stop.requested() => return Ok::<(), NetworkError>(()),
                };
                let Ok(permit) = permit else { return Ok(()) };
                permit.send(make(&addresses).await);
            }
        });
        Ok(Self {
            ready: Arc::new(AsyncMutex::new(ready)),
            gateway,
            number,
            no_egress,
        })
    }

    /// A network for one pod.
    pub(crate) async fn take(&self) -> Result<Network, NetworkError> {
        let taken = self.ready.lock().await.recv().await;
        taken.unwrap_or_else(|| Err(failed("make a network", &"the node is stopping")))
    }
}

/// Removes what killed processes left: their bridges, and what else bears a bridge's number. The
/// rest of a network ends with the last process in it.
pub(crate) fn remove_abandoned() {
    bridge::remove_abandoned(None);
}

async fn make(addresses: &Arc<Addresses>) -> Result<Network, NetworkError> {
    let ip = addresses.take().ok_or_else(|| {
        failed(
            "make a network",
            &format!(
                "all {MOST} addresses of {} are in use",
                addresses.bridge.name
            ),
        )
    })?;
    let (name, gateway) = (addresses.bridge.name.clone(), addresses.bridge.gateway);
    let made = in_thread(move || namespace(ip, &name, gateway)).await;
    match made {
        Ok(namespace) => Ok(Network {
            ip,
            namespace,
            addresses: Arc::clone(addresses),
        }),
        Err(error) => {
            addresses.give_back(ip);
            Err(error)
        }
    }
}

/// A thread of its own: it changes its network namespace and must not be used again.
async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("pod-network".to_owned());
    thread
        .spawn(move || {
            let _ = send.send(work()); // Nobody waits any more: the network goes with the result.
        })
        .map_err(|error| failed("start a thread", &error))?;
    receive
        .await
        .map_err(|_| failed("make a network", &"its thread ended early"))?
}

/// Runs on a fresh thread in the host's namespace; ends in the new one.
fn namespace(ip: Ipv4Addr, bridge: &str, gateway: Ipv4Addr) -> Result<File, NetworkError> {
    let own = || {
        File::open("/proc/thread-self/ns/net")
            .map_err(|error| failed("open a network namespace", &error))
    };
    let host_namespace = own()?;
    // Each connection belongs to the namespace in which it was opened.
    block_on(async {
        let host = connect()?;
        sys::new_network_namespace().map_err(|error| failed("make a network namespace", &error))?;
        let inside = connect()?;
        let namespace = own()?;
        // At most 15 characters; no two processes of a machine share a pid, and no two bridges the
        // last three numbers of an address.
        let peer = format!("sv{:x}.{:x}", std::process::id(), u32::from(ip) & 0xff_ffff);
        pair(&inside, &peer, &host_namespace).await?;
        configure(&inside, ip, gateway).await?;
        let bridge = index(&host, bridge).await?;
        let join = LinkUnspec::new_with_name(&peer)
            .controller(bridge)
            .up()
            .build();
        set(&host, join, "attach a pod to the bridge").await?;
        Ok(namespace)
    })
}

async fn pair(inside: &Handle, peer: &str, host: &File) -> Result<(), NetworkError> {
    let add = inside.link().add(LinkVeth::new("eth0", peer).build());
    add.execute()
        .await
        .map_err(|error| failed("make a pod's interface", &error))?;
    let hand_over = LinkUnspec::new_with_name(peer)
        .setns_by_fd(host.as_raw_fd())
        .build();
    set(inside, hand_over, "hand a pod's interface to the host").await
}

async fn configure(inside: &Handle, ip: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    set(
        inside,
        LinkUnspec::new_with_name("lo").up().build(),
        "start a pod's loopback",
    )
    .await?;
    let eth0 = index(inside, "eth0").await?;
    let address = inside.address().add(eth0, IpAddr::V4(ip), PREFIX);
    address
        .execute()
        .await
        .map_err(|error| failed("give a pod its address", &error))?;
    set(
        inside,
        LinkUnspec::new_with_index(eth0).up().build(),
        "start a pod's interface",
    )
    .await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(gateway)
        .build();
    inside
        .route()
        .add(route)
        .execute()
        .await
        .map_err(|error| failed("give a pod its route", &error))
}

fn connect() -> Result<Handle, NetworkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| failed("speak netlink", &error))?;
    tokio::task::spawn_local(connection);
    Ok(handle)
}

async fn index(handle: &Handle, name: &str) -> Result<u32, NetworkError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(Some(link)) => Ok(link.header.index),
        Ok(None) => Err(failed("find an interface", &name)),
        Err(error) => Err(failed("find an interface", &error)),
    }
}

async fn set(handle: &Handle, link: LinkMessage, step: &'static str) -> Result<(), NetworkError> {
    handle
        .link()
        .set(link)
        .execute()
        .await
        .map_err(|error| failed(step, &error))
}

/// A runtime for one thread and one piece of work.
fn block_on<T>(work: impl Future<Output = Result<T, NetworkError>>) -> Result<T, NetworkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error: io::Error| failed("start a runtime", &error))?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn failed(step: &'static str, problem: &dyn std::fmt::Display) -> NetworkError {
    NetworkError {
        step,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_network_answers_at_its_address() {
        if !sys::is_root() {
            eprintln!("SKIPPED: networks of pods need root");
            return;
        }
        let tasks = Tasks::new();
        let networks = Networks::start(&tasks).await.expect("bridge");
        let network = networks.take().await.expect("made");
        let (ip, path) = (network.ip, network.path());
        let listener = in_thread(move || {
            let namespace = File::open(path).map_err(|error| failed("open", &error))?;
            sys::enter_network_namespace(&namespace).map_err(|error| failed("enter", &error))?;
            std::net::TcpListener::bind((ip, 8080)).map_err(|error| failed("listen", &error))
        });
        let listener = listener.await.expect("inside");
        let accept = tokio::task::spawn_blocking(move || listener.accept().map(|(_, peer)| peer));
        tokio::net::TcpStream::connect((ip, 8080))
            .await
            .expect("reached from the host");
        let peer = accept.await.expect("ended").expect("accepted");
        let [a, b, ..] = ip.octets();
        assert_eq!(peer.ip(), IpAddr::from([a, b, 0, 1]));
    }

    /// Another machine: a namespace that knows no way to pods. Listens at 198.18.0.2.
    fn other_machine() -> Result<std::net::TcpListener, NetworkError> {
        let own = || File::open("/proc/thread-self/ns/net").map_err(|error| failed("open", &error));
        let host_namespace = own()?;
        let peer = format!("sw{:x}", std::process::id());
        block_on(async {
            let host = connect()?;
            sys::new_network_namespace().map_err(|error| failed("make", &error))?;
            let inside = connect()?;
            pair(&inside, &peer, &host_namespace).await?;
            for (handle, name, number) in [(&inside, "eth0", 2), (&host, peer.as_str(), 1)] {
                let link = index(handle, name).await?;
                let address = IpAddr::from([198, 18, 0, number]);
                let added = handle.address().add(link, address, 30).execute().await;
                added.map_err(|error| failed("give an address", &error))?;
                let up = LinkUnspec::new_with_index(link).up().build();
                set(handle, up, "start").await?;
            }
            std::net::TcpListener::bind("198.18.0.2:7000").map_err(|error| failed("listen", &error))
        })
    }

    #[tokio::test]
    async fn a_pod_reaches_another_machine_under_this_machines_address() {
        if !sys::is_root() {
            eprintln!("SKIPPED: networks of pods need root");
            return;
        }
        let tasks = Tasks::new();
        let networks = Networks::start(&tasks).await.expect("bridge");
        if let Some(problem) = &networks.no_egress {
            eprintln!("SKIPPED: {problem}");
            return;
        }
        let network = networks.take().await.expect("made");
        let listener = in_thread(other_machine).await.expect("another machine");
        let accept = tokio::task::spawn_blocking(move || listener.accept().map(|(_, peer)| peer));
        let path = network.path();
        let connected = in_thread(move || {
            let namespace = File::open(path).map_err(|error| failed("open", &error))?;
            sys::enter_network_namespace(&namespace).map_err(|error| failed("enter", &error))?;
            std::net::TcpStream::connect("198.18.0.2:7000")
                .map_err(|error| failed("connect", &error))
        });
        let _connection = connected.await.expect("reached");
        let peer = accept.await.expect("ended").expect("accepted");
        assert_eq!(peer.ip(), IpAddr::from([198, 18, 0, 1]));
    }
}
