//! Sockets of Gateways: which are wanted, which are open, and which cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use dialects::gateway_api::BindFailure;
use futures::future::BoxFuture;
use routing::BindId;
use routing::model::{Bind, BindSocket};
use tokio::time::Instant;

/// When to try again what could not be opened.
const RETRY: Duration = Duration::from_secs(5);

/// Opens and closes the data plane's sockets.
pub trait Sockets: Send + Sync {
    /// Serves a bind at an address.
    ///
    /// # Errors
    /// Whatever the system says.
    fn open(&self, id: &BindId, socket: BindSocket) -> io::Result<()>;

    /// Accepts nothing more for a bind; its address is free afterwards.
    fn close<'s>(&'s self, id: &'s BindId) -> BoxFuture<'s, ()>;
}

/// The state of every bind.
pub(crate) struct Binds {
    sockets: Arc<dyn Sockets>,
    wanted: BTreeMap<BindId, BindSocket>,
    open: BTreeMap<BindId, BindSocket>,
    failed: BTreeMap<BindId, BindFailure>,
    /// What was said about since sockets were settled: most rounds are about something else.
    touched: BTreeSet<BindId>,
    retry: Option<Instant>,
}

impl Binds {
    pub(crate) fn new(sockets: Arc<dyn Sockets>) -> Self {
        Self {
            sockets,
            wanted: BTreeMap::new(),
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            touched: BTreeSet::new(),
            retry: None,
        }
    }

    /// Says what there should be.
    pub(crate) fn want(&mut self, bind: &Bind) {
        let socket = bind.socket();
        if self.wanted.get(&bind.id) != Some(&socket) {
            self.wanted.insert(bind.id.clone(), socket);
            self.touched.insert(bind.id.clone());
        }
    }

    pub(crate) fn unwant(&mut self, id: &BindId) {
        if self.wanted.remove(id).is_some() {
            self.touched.insert(id.clone());
        }
    }

    /// What cannot be had.
    pub(crate) fn failed(&self) -> &BTreeMap<BindId, BindFailure> {
        &self.failed
    }

    /// Whether the data plane has the socket of a bind.
    pub(crate) fn is_open(&self, id: &BindId) -> bool {
        self.open.contains_key(id)
    }

    /// When [`Self::settle`] must run again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry
    }

    /// Closes what is not wanted and opens what is. Returns the binds that are open, failed or
    /// gone now and were not before.
    pub(crate) async fn settle(&mut self, now: Instant) -> Vec<BindId> {
        let mut changed = Vec::new();
        let mut touched = std::mem::take(&mut self.touched);
        let is_over = |id: &&BindId| {
            let open = self.open.get(id);
            open.is_some_and(|open| self.wanted.get(id) != Some(open))
        };
        let over: Vec<BindId> = touched.iter().filter(is_over).cloned().collect();
        for id in over {
            self.sockets.close(&id).await;
            self.open.remove(&id);
            changed.push(id);
        }
        self.failed.retain(|id, _| self.wanted.contains_key(id));
        let is_due = self.retry.is_none_or(|at| at <= now);
        if is_due {
            touched.extend(self.failed.keys().cloned());
        }
        for id in &touched {
            let Some(socket) = self.wanted.get(id) else {
                continue;
            };
            if self.open.contains_key(id) || (self.failed.contains_key(id) && !is_due) {
                continue;
            }
            let failure = match self.attempt(id, *socket) {
                Ok(()) => {
                    self.open.insert(id.clone(), *socket);
                    None
                }
                Err(failure) => Some(failure),
            };
            let before = self.failed.remove(id);
            if failure.is_none() || failure != before {
                changed.push(id.clone());
            }
            self.failed
                .extend(failure.map(|failure| (id.clone(), failure)));
        }
        self.retry = (!self.failed.is_empty()).then(|| {
            let later = now + RETRY;
            self.retry.filter(|at| *at > now).unwrap_or(later)
        });
        changed
    }

    fn attempt(&self, id: &BindId, socket: BindSocket) -> Result<(), BindFailure> {
        let address = socket.address;
        let is_same =
            |open: &BindSocket| open.address == address && open.transport() == socket.transport();
        let mut others = self.open.iter();
        if let Some((other, _)) = others.find(|(_, open)| is_same(open)) {
            return Err(BindFailure {
                is_address: false,
                message: format!("{address} belongs to {other}"),
            });
        }
        self.sockets.open(id, socket).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied if address.port() < 1024 => {
                    "; ports below 1024 need root, CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start"
                }
                _ => "",
            };
            BindFailure {
                is_address: error.kind() == io::ErrorKind::AddrNotAvailable,
                message: format!("cannot listen on {address}: {error}{hint}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use routing::model::Transport;
    use std::net::SocketAddr;
    use std::sync::{Mutex, PoisonError};

    /// Addresses are free unless they are in use; `[::1]` is not one of this machine.
    #[derive(Default)]
    struct Fake(Mutex<BTreeSet<SocketAddr>>);

    impl Fake {
        fn busy(&self) -> std::sync::MutexGuard<'_, BTreeSet<SocketAddr>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Sockets for Fake {
        fn open(&self, _: &BindId, socket: BindSocket) -> io::Result<()> {
            if socket.address.is_ipv6() {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            // Only TCP is kept here: the two have ports of their own.
            let is_udp = socket.transport() == Transport::Udp;
            if is_udp || self.busy().insert(socket.address) {
                Ok(())
            } else {
                Err(io::ErrorKind::AddrInUse.into())
            }
        }

        fn close<'s>(&'s self, id: &'s BindId) -> BoxFuture<'s, ()> {
            async move {
                let address = id.0.parse().expect("ids of this test are addresses");
                self.busy().remove(&address);
            }
            .boxed()
        }
    }

    fn id(text: &str) -> BindId {
        BindId(text.into())
    }

    fn bind(text: &str, address: SocketAddr) -> Bind {
        Bind {
            id: id(text),
            address,
            is_tls: false,
            preamble: None,
            sealed: Vec::new(),
            stream: None,
            gates: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_told_once_and_tried_again_later() {
        let fake = Arc::new(Fake::default());
        let mut binds = Binds::new(Arc::clone(&fake) as Arc<dyn Sockets>);
        let busy: SocketAddr = ([127, 0, 0, 1], 80).into();
        fake.busy().insert(busy);
        binds.want(&bind("127.0.0.1:80", busy));
        let now = Instant::now();
        assert_eq!(binds.settle(now).await, [id("127.0.0.1:80")]);
        assert!(!binds.failed()[&id("127.0.0.1:80")].is_address);
        assert_eq!(binds.settle(now).await, []);
        fake.busy().clear();
        assert_eq!(binds.settle(now).await, []);
        let later = binds.retry_at().expect("something failed");
        assert_eq!(binds.settle(later).await, [id("127.0.0.1:80")]);
        assert!(binds.failed().is_empty() && binds.retry_at().is_none());
    }

    #[tokio::test]
    async fn an_address_is_closed_before_it_is_opened_for_another() {
        let fake = Arc::new(Fake::default());
        let mut binds = Binds::new(fake);
        let address: SocketAddr = ([127, 0, 0, 1], 80).into();
        binds.want(&bind("127.0.0.1:80", address));
        let now = Instant::now();
        binds.settle(now).await;
        binds.want(&bind("second", address));
        binds.settle(now).await;
        assert!(
            binds.failed()[&id("second")]
                .message
                .contains("belongs to 127.0.0.1:80")
        );
        binds.unwant(&id("127.0.0.1:80"));
        let later = binds.retry_at().expect("something failed");
        binds.settle(later).await;
        assert!(binds.failed().is_empty());
    }

    #[tokio::test]
    async fn a_port_of_tcp_and_the_same_of_udp_are_two() {
        let mut binds = Binds::new(Arc::new(Fake::default()));
        let address: SocketAddr = ([127, 0, 0, 1], 53).into();
        let datagrams = |name: &str| Bind {
            stream: Some(Transport::Udp),
            ..bind(name, address)
        };
        binds.want(&bind("tcp", address));
        binds.want(&datagrams("udp"));
        binds.settle(Instant::now()).await;
        assert!(binds.failed().is_empty());
        binds.want(&datagrams("udp 2"));
        binds.settle(Instant::now()).await;
        let message = &binds.failed()[&id("udp 2")].message;
        assert!(message.contains("belongs to udp"), "{message}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told_as_such() {
        let mut binds = Binds::new(Arc::new(Fake::default()));
        let address = "[2001:db8::1]:80".parse().expect("an address");
        binds.want(&bind("a", address));
        binds.settle(Instant::now()).await;
        assert!(binds.failed()[&id("a")].is_address);
    }
}
