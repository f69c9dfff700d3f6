//! Networks of pods: a namespace each, an address on one bridge.
//!
//! Making one costs half a millisecond and more, so a few stand ready. A network is made from
//! inside its namespace by a thread that lives only for that: its peer is then handed to the
//! host. Taking one down is left to the kernel, which does it when the last descriptor closes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;
use lifecycle::{Stage, Tasks};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::sys;

/// Where processes on this machine claim bridges, so that two of them never share addresses.
const CLAIMS: &str = "/run/suimon";
/// Bridges `suimon0` and so on, with the subnets 10.99.0.0/16 and so on.
const BRIDGES: u8 = 28;
const FIRST_SUBNET: u8 = 99;
/// Networks that stand ready.
const READY: usize = 4;
const PREFIX: u8 = 16;
/// Addresses that can be given out: all but the network's, the bridge's and the broadcast one.
const MOST: u32 = (1 << 16) - 3;

/// Why a pod got no network.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {step}: {problem}")]
pub(crate) struct NetworkError {
    step: &'static str,
    problem: String,
}

/// The bridge of this process. The claim ends with the process, however it ends.
#[derive(Debug)]
struct Bridge {
    name: String,
    /// The bridge's own address, the pods' way out; pods get the ones after it.
    gateway: Ipv4Addr,
    _claim: File,
}

impl Bridge {
    /// Claims the first bridge that no other process has.
    fn claim() -> Result<Self, NetworkError> {
        std::fs::create_dir_all(CLAIMS).map_err(|error| failed("create /run/suimon", &error))?;
        for number in 0..BRIDGES {
            let path = format!("{CLAIMS}/bridge-{number}.lock");
            let claim = File::create(path)
                .map_err(|error| failed("claim a bridge in /run/suimon", &error))?;
            if claim.try_lock().is_ok() {
                let gateway = Ipv4Addr::new(10, FIRST_SUBNET + number, 0, 1);
                return Ok(Self {
                    name: format!("suimon{number}"),
                    gateway,
                    _claim: claim,
                });
            }
        }
        Err(failed(
            "claim a bridge",
            &format!("all {BRIDGES} are in use by other processes"),
        ))
    }
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

/// The addresses in use. The lowest free one after the last given is next, so that an address
/// does not come back at once while someone may still remember its old pod.
#[derive(Debug)]
struct Addresses {
    bridge: Bridge,
    state: Mutex<(BTreeSet<u32>, u32)>,
}

impl Addresses {
    /// `last` is the number that counts as given out last. It differs from process to process:
    /// pods of one that was killed may be around for a moment.
    fn new(bridge: Bridge, last: u32) -> Self {
        Self {
            bridge,
            state: Mutex::new((BTreeSet::new(), last % MOST)),
        }
    }

    fn take(&self) -> Option<Ipv4Addr> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, last) = &mut *state;
        let next = (1..=MOST)
            .map(|step| (*last + step - 1) % MOST + 1)
            .find(|number| !used.contains(number))?;
        used.insert(next);
        *last = next;
        Some(Ipv4Addr::from(u32::from(self.bridge.gateway) + next))
    }

    fn give_back(&self, ip: Ipv4Addr) {
        let number = u32::from(ip).wrapping_sub(u32::from(self.bridge.gateway));
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .remove(&number);
    }
}

/// Networks to take. Clone freely.
#[derive(Clone)]
pub(crate) struct Networks {
    ready: Arc<AsyncMutex<mpsc::Receiver<Result<Network, NetworkError>>>>,
}

impl Networks {
    /// Makes the bridge and starts to keep networks ready.
    pub(crate) async fn start(tasks: &Tasks) -> Result<Self, NetworkError> {
        let bridge = Bridge::claim()?;
        let (name, gateway) = (bridge.name.clone(), bridge.gateway);
        in_thread(move || block_on(make_bridge(&name, gateway))).await?;
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
        })
    }

    /// A network for one pod.
    pub(crate) async fn take(&self) -> Result<Network, NetworkError> {
        let taken = self.ready.lock().await.recv().await;
        taken.unwrap_or_else(|| Err(failed("make a network", &"the node is stopping")))
    }
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
        // At most 15 characters; no two processes of a machine share a pid.
        let peer = format!("sv{:x}.{:x}", std::process::id(), u32::from(ip) & 0xffff);
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

/// Makes the bridge, or finds the one that an earlier process left.
async fn make_bridge(name: &str, gateway: Ipv4Addr) -> Result<(), NetworkError> {
    let host = connect()?;
    if index(&host, name).await.is_err() {
        let add = host.link().add(LinkBridge::new(name).build());
        add.execute()
            .await
            .map_err(|error| failed("make the pods' bridge", &error))?;
    }
    let bridge = index(&host, name).await?;
    match host
        .address()
        .add(bridge, IpAddr::V4(gateway), PREFIX)
        .execute()
        .await
    {
        Ok(()) => {}
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {}
        Err(error) => return Err(failed("give the pods' bridge its address", &error)),
    }
    set(
        &host,
        LinkUnspec::new_with_index(bridge).up().build(),
        "start the pods' bridge",
    )
    .await
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

    #[test]
    fn addresses_are_given_out_in_turn_and_come_back() {
        let claim = File::open("/dev/null").expect("opens");
        let bridge = Bridge {
            name: "test".to_owned(),
            gateway: Ipv4Addr::new(10, 99, 0, 1),
            _claim: claim,
        };
        let addresses = Addresses::new(bridge, 0);
        let first = addresses.take().expect("free");
        assert_eq!(first, Ipv4Addr::new(10, 99, 0, 2));
        addresses.give_back(first);
        assert_eq!(addresses.take().expect("free"), Ipv4Addr::new(10, 99, 0, 3));
        let rest: Vec<_> = std::iter::from_fn(|| addresses.take()).collect();
        assert_eq!(rest.len() as u32, MOST - 1);
        assert!(
            !rest.contains(&Ipv4Addr::new(10, 99, 255, 255)),
            "the broadcast address"
        );
        addresses.give_back(rest[7]);
        assert_eq!(addresses.take(), Some(rest[7]));
    }

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
}
