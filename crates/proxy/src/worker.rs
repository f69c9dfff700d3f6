//! What the connections of one thread share. Nothing in it is shared with another thread but
//! the snapshot, the activator and the counters, so nothing on the request path takes a lock.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use lifecycle::Snapshots;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use routing::model::ClientSource;
use scaling::Activator;
use tokio::sync::{Notify, Semaphore};

use crate::Limits;
use crate::access::AccessLogs;
use crate::buffer::Buffers;
use crate::callers::Callers;
use crate::challenges::Challenges;
use crate::clock::Clock;
use crate::grpc_web::Form;
use crate::guard::{Registry, grpc};
use crate::http1::head::{Most, RequestHead, ResponseHead};
use crate::http2::hand::Hands;
use crate::http2::memory::Memory;
use crate::http2::recent::Asked;
use crate::log_service::LogServices;
use crate::metrics::{Counters, Series};
use crate::open::Slots;
use crate::overload::Bounds;
use crate::parked::Parked;
use crate::per_client::PerClient;
use crate::spans::{Open, Traces};
use crate::spare::Spare;
use crate::telemetry::Told;
use crate::timeout::Patience;
use crate::tls::{Clients, Issuer};
use crate::upstream::pool::Pool;

/// One thread of the gateway.
pub(crate) struct Worker {
    pub(crate) snapshots: Snapshots<routing::Snapshot>,
    pub(crate) activator: Activator,
    pub(crate) limits: Limits,
    /// Value of the `server` header of the gateway's own answers.
    pub(crate) server: Option<Arc<str>>,
    /// Where the client's address is, for routes that do not say.
    pub(crate) client: Option<ClientSource>,
    pub(crate) counters: Arc<Counters>,
    /// Counters by route and backend; all threads share it, and each has a place of its own.
    pub(crate) series: Arc<crate::metrics::Registry>,
    pub(crate) thread: usize,
    pub(crate) logs: AccessLogs,
    pub(crate) traces: Traces,
    pub(crate) log_services: LogServices,
    pub(crate) challenges: Challenges,
    /// What guards remember; all threads share it.
    pub(crate) guards: Arc<Registry>,
    pub(crate) grpc_clients: grpc::Clients,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pool: Pool,
    pub(crate) tls_clients: Clients,
    /// Counted by its references: one more than there are copies on their way.
    pub(crate) copies: Rc<()>,
    /// Places for TLS handshakes.
    pub(crate) handshakes: Semaphore,
    /// The port that redirects name, if it is not 443.
    pub(crate) https_port: Option<u16>,
    /// Signs certificates for hosts that have none.
    pub(crate) issuer: Option<Arc<dyn Issuer>>,
    pub(crate) callers: Option<Arc<dyn Callers>>,
    /// Beyond which it refuses.
    pub(crate) bounds: Bounds,
    /// Clients of binds for datagrams that this thread may have.
    pub(crate) max_datagram_clients: usize,
    /// Counted by its references: one more than there are such clients.
    pub(crate) datagram_clients: Rc<()>,
    /// Connections of each client on all threads.
    pub(crate) per_client: Arc<PerClient>,
    open: Cell<usize>,
    /// Those of them that are only told that there is no room.
    pub(crate) refused: Cell<usize>,
    closed: Notify,
    draining: Cell<bool>,
    pub(crate) slots: Slots,
    pub(crate) parked: Parked,
    // Boxed, because it moves on every request.
    spare: Spare<Box<Workspace>>,
    // Likewise. Not part of a workspace: between a request and its answer much else is done.
    answers: Spare<Box<ResponseHead>>,
    random: RefCell<SmallRng>,
    /// Memory of HTTP/2 connections.
    pub(crate) frames: Rc<Memory>,
    /// Tasks for HTTP/2 streams.
    pub(crate) hands: Hands,
    pub(crate) clock: Clock,
}

/// Memory of one request that the next one uses again.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) request: RequestHead,
    /// What the head of an HTTP/2 request points into; that of HTTP/1 is in the read buffer.
    pub(crate) bytes: Vec<u8>,
    /// In place of both, if the request came before on its HTTP/2 connection.
    pub(crate) known: Option<Rc<Asked>>,
    /// Header block to send downstream, of HTTP/2 and 3.
    pub(crate) downstream_out: Vec<u8>,
    pub(crate) scratch: Scratch,
}

impl Workspace {
    /// The request's.
    pub(crate) fn head(&self) -> &RequestHead {
        self.known.as_deref().map_or(&self.request, |it| &it.head)
    }
}

/// The upstream half of a [`Workspace`].
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Of the backend's answer.
    pub(crate) status: u16,
    /// What the request is counted by, once its route is known.
    pub(crate) series: Option<Arc<Series>>,
    /// The request's span, while requests are traced.
    pub(crate) span: Option<Box<Open>>,
    /// What its route says about its lines and spans; most say nothing.
    pub(crate) told: Option<Arc<Told>>,
    /// The client's address, if trusted proxies said it.
    pub(crate) client: Option<IpAddr>,
    /// The route trusts who sent the request as a proxy.
    pub(crate) is_trusted: bool,
    /// Errors must be told the gRPC way.
    pub(crate) is_grpc: bool,
    /// Of the answer's body, as far as it was passed on.
    pub(crate) answer_bytes: u64,
    /// What the client was told in place of the answer's status.
    pub(crate) new_status: Option<u16>,
    /// How the client speaks gRPC-Web, if it does.
    pub(crate) web: Option<Box<Form>>,
    /// What pages of other origins need to read an answer of the gateway's own, once its route is
    /// known; empty unless that has a CORS policy.
    pub(crate) for_pages: Vec<(String, String)>,
    /// The client knows of the failure that the request ends with.
    pub(crate) is_told: bool,
    /// Head to send upstream; kept as it is, in case it must be sent again.
    pub(crate) upstream_head: Vec<u8>,
    /// In place of it, if the request came before.
    pub(crate) known_head: Option<Rc<[u8]>>,
}

impl Scratch {
    /// What is sent upstream.
    pub(crate) fn head(&self) -> &[u8] {
        self.known_head.as_deref().unwrap_or(&self.upstream_head)
    }
}

/// Workspaces that a thread keeps, and the bytes that the largest of them may have.
const KEEP: usize = 1024;
const LARGEST: usize = 32 * 1024;
/// The same of heads of answers, each of which is used for a moment.
const KEEP_ANSWERS: usize = 64;

/// What every thread is made from.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) snapshots: Snapshots<routing::Snapshot>,
    pub(crate) activator: Activator,
    pub(crate) limits: Limits,
    pub(crate) server: Option<Arc<str>>,
    pub(crate) client: Option<ClientSource>,
    pub(crate) guards: Arc<Registry>,
    pub(crate) bounds: Bounds,
    pub(crate) max_handshakes: usize,
    pub(crate) max_datagram_clients: usize,
    pub(crate) https_port: Option<u16>,
    pub(crate) per_client: Arc<PerClient>,
    pub(crate) issuer: Option<Arc<dyn Issuer>>,
    pub(crate) callers: Option<Arc<dyn Callers>>,
    pub(crate) series: Arc<crate::metrics::Registry>,
    pub(crate) logs: AccessLogs,
    pub(crate) traces: Traces,
    pub(crate) log_services: LogServices,
    pub(crate) challenges: Challenges,
    /// Its number, from 0.
    pub(crate) thread: usize,
}

impl Worker {
    pub(crate) fn new(parts: Parts, counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            snapshots: parts.snapshots,
            activator: parts.activator,
            server: parts.server,
            client: parts.client,
            counters,
            series: parts.series,
            thread: parts.thread,
            logs: parts.logs,
            traces: parts.traces,
            log_services: parts.log_services,
            challenges: parts.challenges,
            guards: parts.guards,
            grpc_clients: grpc::Clients::default(),
            buffers: Rc::default(),
            pool: Pool::new(&parts.limits),
            tls_clients: Clients::default(),
            copies: Rc::default(),
            handshakes: Semaphore::new(parts.max_handshakes),
            https_port: parts.https_port,
            issuer: parts.issuer,
            callers: parts.callers,
            bounds: parts.bounds,
            max_datagram_clients: parts.max_datagram_clients,
            datagram_clients: Rc::default(),
            per_client: parts.per_client,
            open: Cell::new(0),
            refused: Cell::new(0),
            closed: Notify::new(),
            draining: Cell::new(false),
            slots: Slots::default(),
            parked: Parked::default(),
            spare: Spare::new(KEEP),
            answers: Spare::new(KEEP_ANSWERS),
            random: RefCell::new(SmallRng::from_os_rng()),
            frames: Rc::new(Memory::new(parts.limits.head_fields)),
            hands: Hands::default(),
            clock: Clock::default(),
            limits: parts.limits,
        })
    }

    /// How long the client of a request may leave others waiting.
    pub(crate) fn patience(&self, scratch: &Scratch) -> Patience<'_> {
        Patience {
            limits: &self.limits,
            is_grpc: scratch.is_grpc,
        }
    }

    /// The namespace of the pod at an address, if it is one's.
    pub(crate) fn namespace_of(&self, address: IpAddr) -> Option<Arc<str>> {
        self.callers.as_ref()?.namespace(address)
    }

    /// A number in `0..total`, each as likely as the others.
    pub(crate) fn draw(&self, total: u64) -> u64 {
        if total <= 1 {
            0
        } else {
            self.random.borrow_mut().random_range(0..total)
        }
    }

    /// An id that is not zero, which would be none.
    pub(crate) fn random_id<const N: usize>(&self) -> [u8; N] {
        let mut id = [0; N];
        while id == [0; N] {
            self.random.borrow_mut().fill(&mut id[..]);
        }
        id
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn fraction(&self) -> f64 {
        self.random.borrow_mut().random()
    }

    /// Memory for a request.
    pub(crate) fn workspace(&self) -> Box<Workspace> {
        self.spare.take().unwrap_or_else(|| {
            let mut workspace = Box::<Workspace>::default();
            workspace.request.fields.most = Most(self.limits.head_fields);
            workspace
        })
    }

    /// Takes it back, unless a burst or a huge head left too much.
    pub(crate) fn recycle(&self, mut workspace: Box<Workspace>) {
        workspace.known = None;
        workspace.scratch.known_head = None;
        let bytes = workspace.scratch.upstream_head.capacity()
            + workspace.downstream_out.capacity()
            + workspace.bytes.capacity();
        if bytes <= LARGEST && self.spare.has_room() {
            workspace.scratch.upstream_head.clear();
            workspace.downstream_out.clear();
            self.spare.put(workspace);
        }
    }

    /// Memory for the head of an answer over HTTP/1.
    pub(crate) fn answer(&self) -> Box<ResponseHead> {
        self.answers.take().unwrap_or_else(|| {
            let mut head = Box::<ResponseHead>::default();
            head.fields.most = Most(self.limits.head_fields);
            head
        })
    }

    /// Takes it back.
    pub(crate) fn recycle_answer(&self, head: Box<ResponseHead>) {
        self.answers.put(head);
    }

    /// Lets go of what bursts have left and nobody has needed since the last call.
    pub(crate) fn shed(&self) {
        drop((self.spare.shed(), self.answers.shed()));
        self.hands.shed();
        self.frames.shed();
        self.buffers.shed();
    }

    /// Whether connections should end once they are idle.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Ends idle connections now and the others after their request.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.pool.clear();
        self.wake_idle();
    }

    /// Lets connections that wait find out that they are to end.
    pub(crate) fn wake_idle(&self) {
        self.slots.wake();
        self.parked.end();
    }

    /// One more is open.
    pub(crate) fn count_open(&self) {
        self.open.set(self.open.get() + 1);
        self.counters.connections.add(1);
        self.counters.connections_open.add(1);
    }

    /// One less is.
    pub(crate) fn count_closed(&self) {
        self.open.set(self.open.get() - 1);
        self.counters.connections_open.sub(1);
        // One permit is kept if nobody waits yet, so the wake-up cannot be missed.
        self.closed.notify_one();
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.open.get()
    }

    /// Resolves when a connection ends. Look again afterwards.
    pub(crate) async fn connection_closed(&self) {
        self.closed.notified().await;
    }
}
