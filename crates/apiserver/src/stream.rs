//! Streams into pods: port-forward, in the protocols that clients speak.
//!
//! What is behind a port is [`Ports`]' business, which knows no protocol; the files below know
//! protocols and nothing of pods. Every stream has bounded buffers: who reads slowly slows down
//! who writes. A client that leaves ends what it has started.

mod port_forward;
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
use session::Sessions;

/// Bytes read from anywhere at once; the largest frame that is sent.
const PIECE: usize = 32 * 1024;
/// Pieces that wait for a slow reader.
const QUEUE: usize = 8;

type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What knows where the ports of pods are.
pub trait Ports: Send + Sync {
    /// Connects to a port of a pod, given as stored. An error is one sentence for the user.
    fn dial(&self, pod: &Value, port: u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>>;
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
    ports: Arc<dyn Ports>,
    sessions: Sessions,
    limits: Limits,
}

impl Streams {
    pub(crate) fn new(ports: Arc<dyn Ports>, limits: Limits, tasks: &lifecycle::Tasks) -> Self {
        Self {
            ports,
            sessions: Sessions::start(limits.sessions, tasks),
            limits,
        }
    }

    /// `pods/portforward`.
    pub(crate) fn port_forward(&self) -> Connector {
        let streams = self.clone();
        Arc::new(move |request| {
            let streams = streams.clone();
            async move { port_forward::answer(&streams, request) }.boxed()
        })
    }
}
