//! Idle upstream connections of one thread, by endpoint.
//!
//! The youngest is taken first, so that the others can age and end. A connection leaves the pool
//! when its server closes it, when it was idle for longer than its server promised to keep it,
//! and when its endpoint takes no new requests: a server that waits for its connections to end
//! must not wait for ours. Endpoints are shared by backends, but a connection serves only those
//! that speak TLS as the one it was made for: to whom it leads was verified for them alone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use routing::{Backend, EndpointState, Snapshot};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Limits;
use crate::http2::client::{Sender, Shared};
use crate::transport::Transport;
use crate::upstream::connecting::Connecting;
use crate::upstream::dials::Dials;
use crate::upstream::held::{Held, Lease, Places};

/// How often the pool is looked through while it is not empty, unless a backend keeps its
/// connections for less, and how often at most.
const SWEEP: Duration = Duration::from_secs(5);
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

/// A connection that carries one request at a time.
pub(crate) struct Http1Connection {
    pub(crate) stream: Transport,
    pub(crate) is_reused: bool,
    /// What the backend's policy counts it for.
    pub(crate) held: Held,
    lease: Lease,
    backend: Arc<Backend>,
    idle_since: Instant,
    keep: Duration,
}

/// A connection that carries many requests at a time.
struct Pooled {
    shared: Shared,
    held: Held,
    lease: Cell<Lease>,
}

impl Http1Connection {
    /// `idle` is how long it is kept while it is not used, where no policy says otherwise.
    pub(crate) fn new(stream: Transport, backend: Arc<Backend>, idle: Duration) -> Self {
        Self {
            stream,
            is_reused: false,
            held: Held::default(),
            lease: Lease::new(&backend, idle),
            backend,
            idle_since: Instant::now(),
            keep: idle,
        }
    }

    /// Whether the server neither closed it nor sent something that nobody asked for.
    fn is_quiet(&mut self, look: bool) -> bool {
        // The readiness that the last turn of the event loop saw costs no system call.
        self.stream.is_quiet(look)
    }
}

type ByEndpoint<T> = HashMap<SocketAddr, T, BuildHasherDefault<EndpointHasher>>;

/// Endpoints come from the control plane, so nobody can choose them to collide.
#[derive(Default)]
struct EndpointHasher(u64);

impl Hasher for EndpointHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// See the module.
pub(crate) struct Pool {
    /// How long an unused connection is kept.
    pub(crate) idle: Duration,
    /// Idle connections of an endpoint.
    most: usize,
    // Boxed, because they move on every request.
    #[expect(clippy::vec_box, reason = "they move on as they are")]
    http1: RefCell<ByEndpoint<Vec<Box<Http1Connection>>>>,
    http2: RefCell<ByEndpoint<Vec<Pooled>>>,
    /// Of backends with a policy.
    pub(crate) places: Places,
    /// Connections on their way here, of HTTP/2.
    pub(crate) dials: Dials,
    /// The same of HTTP/1.
    pub(crate) connecting: Connecting,
    used: Notify,
    /// Least time that a backend whose connections are in it keeps them, within the bounds above.
    pause: Cell<Duration>,
    /// That time is less than before.
    sooner: Notify,
}

impl Pool {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            idle: limits.pool_idle,
            most: limits.pool_connections,
            http1: RefCell::default(),
            http2: RefCell::default(),
            places: Places::default(),
            dials: Dials::default(),
            connecting: Connecting::new(limits.connects),
            used: Notify::new(),
            pause: Cell::new(SWEEP),
            sooner: Notify::new(),
        }
    }

    /// An idle connection; with `look` its socket is asked first.
    pub(crate) fn take(
        &self,
        backend: &Backend,
        endpoint: SocketAddr,
        look: bool,
        now: Instant,
    ) -> Option<Box<Http1Connection>> {
        let mut pool = self.http1.borrow_mut();
        let idle = pool.get_mut(&endpoint)?;
        // Nearly always the last one does.
        while let Some(at) = idle
            .iter()
            .rposition(|connection| is_secured_alike(&connection.backend, backend))
        {
            let mut connection = idle.remove(at);
            if now.duration_since(connection.idle_since) < connection.keep
                && connection.is_quiet(look)
            {
                connection.is_reused = true;
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; `keep` is what its server promised. `now` may be
    /// early: the connection is given up sooner then.
    pub(crate) fn put(
        &self,
        endpoint: SocketAddr,
        mut connection: Box<Http1Connection>,
        keep: Option<Duration>,
        now: Instant,
    ) {
        if connection.lease.is_used_up() {
            return;
        }
        // A second less than promised: the server's clock started earlier than ours.
        let idle = connection.lease.idle();
        self.is_kept_for(idle);
        connection.keep = keep.map_or(idle, |keep| {
            keep.saturating_sub(Duration::from_secs(1)).min(idle)
        });
        connection.idle_since = now;
        let mut pool = self.http1.borrow_mut();
        if pool.is_empty() {
            self.used.notify_one();
        }
        let idle = pool.entry(endpoint).or_default();
        if idle.len() < self.most {
            connection.held.is_free();
            idle.push(connection);
            self.connecting.is_free(endpoint);
        }
    }

    /// A connection that takes another stream.
    pub(crate) fn share(
        &self,
        backend: &Backend,
        endpoint: SocketAddr,
        now: Instant,
    ) -> Option<Sender> {
        let mut pool = self.http2.borrow_mut();
        let shared = pool.get_mut(&endpoint)?;
        // The first one that takes it, so that the others can age and end.
        let found = shared.iter().find(|connection| {
            connection.has_room() && is_secured_alike(connection.shared.backend(), backend)
        });
        let Some(found) = found else {
            shared.retain(|connection| !connection.shared.is_closed());
            return None;
        };
        found.count();
        Some(found.shared.sender(now))
    }

    /// Lets a backend's policy count the connection that was added last.
    pub(crate) fn hold(&self, endpoint: SocketAddr, held: Held) {
        let mut pool = self.http2.borrow_mut();
        if let Some(last) = pool.get_mut(&endpoint).and_then(|shared| shared.last_mut()) {
            last.held = held;
        }
    }

    /// Lets other requests use a connection.
    pub(crate) fn add_shared(&self, endpoint: SocketAddr, connection: Shared) {
        let connection = Pooled {
            lease: Cell::new(Lease::new(connection.backend(), self.idle)),
            held: Held::default(),
            shared: connection,
        };
        self.is_kept_for(connection.idle());
        // It serves the request that it was made for.
        connection.count();
        self.http2
            .borrow_mut()
            .entry(endpoint)
            .or_default()
            .push(connection);
        self.used.notify_one();
    }

    fn is_kept_for(&self, time: Duration) {
        let time = time.max(SHORTEST_SWEEP);
        if time < self.pause.get() {
            self.pause.set(time);
            self.sooner.notify_one();
        }
    }

    /// Closes everything that is idle.
    pub(crate) fn clear(&self) {
        self.http1.borrow_mut().clear();
        self.http2.borrow_mut().clear();
    }

    fn is_empty(&self) -> bool {
        self.http1.borrow().is_empty() && self.http2.borrow().is_empty()
    }

    /// Closes what was idle for too long, was closed, or leads to an endpoint that `snapshot`
    /// sends nothing to.
    pub(crate) fn sweep(&self, snapshot: &Snapshot) {
        self.http1.borrow_mut().retain(|endpoint, idle| {
            // Connections of an endpoint belong to few backends, and stand in no order of them.
            let mut judged: Option<(Arc<Backend>, bool)> = None;
            idle.retain_mut(|connection| {
                let known = judged
                    .as_ref()
                    .filter(|(backend, _)| Arc::ptr_eq(backend, &connection.backend));
                let is_used = match known {
                    Some((_, is_used)) => *is_used,
                    None => takes_requests(snapshot, &connection.backend, *endpoint),
                };
                if known.is_none() {
                    judged = Some((Arc::clone(&connection.backend), is_used));
                }
                is_used
                    && connection.idle_since.elapsed() < connection.keep
                    && connection.is_quiet(false)
            });
            !idle.is_empty()
        });
        self.http2.borrow_mut().retain(|endpoint, shared| {
            shared.retain(|connection| {
                !connection.shared.is_closed()
                    && takes_requests(snapshot, connection.shared.backend(), *endpoint)
                    && !connection.shared.is_expired(connection.idle())
            });
            !shared.is_empty()
        });
    }

    /// Sweeps whenever the backends change, and now and then while something is pooled; `swept`
    /// hears of the latter.
    pub(crate) async fn maintain(
        &self,
        mut snapshots: lifecycle::Snapshots<Snapshot>,
        swept: impl Fn(),
    ) {
        let mut is_published = true;
        let mut before = snapshots.current_owned();
        let mut due: Option<Instant> = None;
        loop {
            if self.is_empty() {
                due = None;
                self.pause.set(SWEEP);
            } else if due.is_none() {
                due = Some(Instant::now() + self.pause.get());
            }
            tokio::select! {
                changed = snapshots.changed(), if is_published => {
                    is_published = changed;
                    // Most changes are about routes, and no connection is judged by those.
                    let now = snapshots.current_owned();
                    let is_same = now.shares_backends_with(&before);
                    before = now;
                    if is_same {
                        continue;
                    }
                }
                () = self.used.notified(), if due.is_none() => {}
                () = self.sooner.notified() => {
                    due = None;
                    continue;
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => swept(),
            }
            due = None;
            self.sweep(&snapshots.current_owned());
        }
    }
}

impl Pooled {
    fn has_room(&self) -> bool {
        self.lease.get().left > 0 && self.shared.has_room()
    }

    /// Counts a request that it is going to serve.
    fn count(&self) {
        let mut lease = self.lease.get();
        lease.is_used_up();
        self.lease.set(lease);
    }

    /// How long it may be without a request; not at all once it has served as many as it may.
    fn idle(&self) -> Duration {
        let lease = self.lease.get();
        if lease.left == 0 {
            Duration::ZERO
        } else {
            lease.idle()
        }
    }
}

/// Whether connections of one backend are as good for another.
pub(crate) fn is_secured_alike(one: &Backend, other: &Backend) -> bool {
    match (&one.tls, &other.tls) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn takes_requests(snapshot: &Snapshot, backend: &Arc<Backend>, endpoint: SocketAddr) -> bool {
    let Some(now) = snapshot.backend(&backend.id) else {
        return false;
    };
    Arc::ptr_eq(now, backend)
        || now
            .endpoints
            .iter()
            .any(|known| known.address == endpoint && known.state == EndpointState::Ready)
}
