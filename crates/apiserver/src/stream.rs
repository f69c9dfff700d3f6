//! Streams into pods: exec, attach and port-forward, in the protocols that clients speak.
//!
//! What happens in a pod is behind [`Containers`], which knows no protocol; the files below know
//! protocols and nothing of pods. Every stream has bounded buffers: who reads slowly slows down
//! who writes. A client that leaves ends what it has started.

mod channel;
mod exec;
mod port_forward;
pub(crate) mod proxy;
mod pump;
mod session;
mod spdy;
mod upgrade;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connect::Connector;
use crate::status::Status;
use session::Sessions;

/// Bytes read from anywhere at once; the largest frame that is sent.
const PIECE: usize = 32 * 1024;
/// Pieces that wait for a slow reader.
const QUEUE: usize = 8;

/// Bytes to read.
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// Where bytes are written.
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters per line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// The streams that a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The client sends input.
    pub stdin: bool,
    /// The client reads the output.
    pub stdout: bool,
    /// The client reads the errors; never together with a terminal.
    pub stderr: bool,
    /// Input and output are a terminal.
    pub terminal: bool,
}

/// What a client wants of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The pod's `metadata.uid`.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// What to run, with its arguments; `None` attaches to the container's own program.
    pub command: Option<Vec<String>>,
    /// The streams.
    pub wanted: Wanted,
}

/// Streams of something that runs. Dropping `ended` ends a command, and detaches from a container.
pub struct Running {
    /// Its input.
    pub stdin: Option<BoxWrite>,
    /// Its output.
    pub stdout: Option<BoxRead>,
    /// Its errors.
    pub stderr: Option<BoxRead>,
    /// Tells its terminal a new size.
    pub resize: Option<Box<dyn Fn(Size) + Send>>,
    /// The exit code, or why it could not be waited for.
    pub ended: BoxFuture<'static, Result<i32, String>>,
}

/// What runs the containers of pods. The pods are given as stored.
pub trait Containers: Send + Sync {
    /// The running container that a stream is for. `asked` is what the client named.
    ///
    /// # Errors
    /// The answer to the client, such as 400 for a container that the pod does not have.
    fn choose(&self, pod: &Value, asked: Option<&str>) -> Result<String, Status>;

    /// Starts a command or attaches. An error is one sentence for the user.
    fn run(&self, order: Order) -> BoxFuture<'static, Result<Running, String>>;

    /// Connects to a port of a pod. An error is one sentence for the user.
    fn dial(&self, pod: &Value, port: u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>>;

    /// Connects to a program behind a Service. `port` is a number or a name of the Service, or
    /// empty for its only port.
    ///
    /// # Errors
    /// The answer to the client, such as 503 while no pod is ready.
    fn dial_service(
        &self,
        service: &Value,
        port: &str,
    ) -> BoxFuture<'static, Result<Box<dyn Duplex>, Status>>;
}

/// How much one client may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Upgraded connections at a time; more are answered with 429.
    pub sessions: usize,
    /// Forwarded connections of one session at a time.
    pub forwards: usize,
    /// A connection without data for this long is closed.
    pub idle: Duration,
    /// Time for the connection to change its protocol.
    pub patience: Duration,
    /// A peer is asked for a sign of life this often.
    pub ping: Duration,
}

impl Limits {
    /// The kubelet's time-outs.
    pub const STANDARD: Self = Self {
        sessions: 512,
        forwards: 128,
        idle: Duration::from_secs(4 * 3600),
        patience: Duration::from_secs(30),
        ping: Duration::from_secs(30),
    };
}

/// Serves streams. Clones share one set of sessions.
#[derive(Clone)]
pub(crate) struct Streams {
    containers: Arc<dyn Containers>,
    sessions: Sessions,
    limits: Limits,
}

impl Streams {
    pub(crate) fn new(
        containers: Arc<dyn Containers>,
        limits: Limits,
        tasks: &lifecycle::Tasks,
    ) -> Self {
        Self {
            containers,
            sessions: Sessions::start(limits.sessions, tasks),
            limits,
        }
    }

    /// `pods/exec`.
    pub(crate) fn exec(&self) -> Connector {
        let streams = self.clone();
        Arc::new(move |request| {
            let streams = streams.clone();
            async move { exec::answer(&streams, request, false) }.boxed()
        })
    }

    /// `pods/attach`.
    pub(crate) fn attach(&self) -> Connector {
        let streams = self.clone();
        Arc::new(move |request| {
            let streams = streams.clone();
            async move { exec::answer(&streams, request, true) }.boxed()
        })
    }

    /// `pods/portforward`.
    pub(crate) fn port_forward(&self) -> Connector {
        let streams = self.clone();
        Arc::new(move |request| {
            let streams = streams.clone();
            async move { port_forward::answer(&streams, request) }.boxed()
        })
    }

    /// `pods/proxy`.
    pub(crate) fn pod_proxy(&self) -> Connector {
        self.proxy(proxy::Behind::Pod)
    }

    /// `services/proxy`.
    pub(crate) fn service_proxy(&self) -> Connector {
        self.proxy(proxy::Behind::Service)
    }

    fn proxy(&self, behind: proxy::Behind) -> Connector {
        let streams = self.clone();
        Arc::new(move |request| {
            let streams = streams.clone();
            async move { proxy::answer(&streams, request, behind).await }.boxed()
        })
    }
}
