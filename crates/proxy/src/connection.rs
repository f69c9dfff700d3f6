//! One client connection: which HTTP it speaks, its requests one after another, its end.
//!
//! Between requests a connection holds no buffer and no workspace, and after a while of silence
//! nothing but its socket ([`crate::parked`]); during the drain it ends as soon as it is between
//! requests. What happens rarely is boxed: its future would count for every connection.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use routing::CompiledTls;
use routing::client::trusts;
use routing::model::ClientSource;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::buffer::{Buffer, SMALL};
use crate::downstream::Downstream;
use crate::entry::Entry;
use crate::failure::Failure;
use crate::forwarded::Peer;
use crate::guard::OwnLimits;
use crate::http1::downstream::Http1Downstream;
use crate::http1::head::{RequestHead, leading_blank};
use crate::http1::recent::Recent;
use crate::http1::sink::Http1Sink;
use crate::http1::source::{Http1Source, Input};
use crate::http2::{self, PREFACE};
use crate::known::Known;
use crate::message::Source;
use crate::open::ConnectionGuard;
use crate::parked::Silent;
use crate::rare::rare;
use crate::timeout::{Timer, once_pending};
use crate::transport::Transport;
use crate::worker::{Worker, Workspace};
use crate::{overload, reply, request};

/// What all requests of a connection have in common.
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) entry: Rc<Entry>,
    /// What was agreed in the handshake, if the connection is encrypted.
    pub(crate) tls: Option<Arc<CompiledTls>>,
    /// Who the client's verified certificate is for.
    pub(crate) principal: Option<Box<str>>,
    /// The host that the client named in its handshake, in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// Of the pod that calls, at binds.
    pub(crate) namespace: Option<Arc<str>>,
    /// Rate limits that count for this connection alone.
    pub(crate) limits: OwnLimits,
    /// What became of its last request, if that came before.
    pub(crate) known: Known,
}

impl Client {
    /// Of a connection that is not encrypted; `namespace` is that of the pod that calls.
    pub(crate) fn plain(
        socket: &TcpStream,
        peer: SocketAddr,
        entry: &Rc<Entry>,
        namespace: Option<Arc<str>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            peer: Peer::of(peer, socket.local_addr().ok(), false),
            entry: Rc::clone(entry),
            tls: None,
            principal: None,
            server_name: None,
            namespace,
            limits: OwnLimits::default(),
            known: Known::default(),
        })
    }

    /// Whether it is not believed what only a component or a proxy in front of the gateway could
    /// know. The cluster's own listeners have no others, and routes say which proxies they trust.
    pub(crate) fn is_outside(&self, source: Option<&ClientSource>) -> bool {
        !self.is_inside() && !source.is_some_and(|source| trusts(source, self.peer.address))
    }

    /// Whether it is one of the cluster's own.
    pub(crate) fn is_inside(&self) -> bool {
        self.entry.is_cluster_local() || self.namespace.is_some()
    }
}

/// Bytes and time spent on what a client still sends after it got its answer, so that closing
/// does not destroy the answer on its way (RFC 9112 §9.6).
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    /// The client may still be sending.
    Linger,
    Close,
    /// The client must not take its answer for complete.
    Reset,
    Http2,
    /// The client has been silent for a while.
    Park(Pause),
}

/// A silence between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    since: Instant,
    /// No request came before it.
    is_first: bool,
}

/// Serves a connection until it ends.
pub(crate) fn serve(
    guard: ConnectionGuard,
    stream: Transport,
    client: Rc<Client>,
) -> impl Future<Output = ()> {
    run(guard, stream, client, true)
}

/// Goes on with a connection that was parked.
pub(crate) fn resume(
    guard: ConnectionGuard,
    stream: TcpStream,
    client: Rc<Client>,
    is_first: bool,
) -> impl Future<Output = ()> {
    run(guard, Transport::Plain(stream), client, is_first)
}

fn run(
    guard: ConnectionGuard,
    mut stream: Transport,
    client: Rc<Client>,
    is_first: bool,
) -> impl Future<Output = ()> {
    async move {
        let buffer = Buffer::new(Rc::clone(&guard.worker.buffers));
        let (read, write) = stream.split();
        let mut source = Http1Source::new(read, buffer);
        let mut sink = Http1Sink::new(write, Rc::clone(&guard.worker.buffers));
        let end = requests(&guard, &client, is_first, &mut source, &mut sink).await;
        match end {
            Next::Http2 if client.entry.refuses.is_some() => {
                drop((source, sink));
                rare(overload::go_away(stream)).await;
            }
            Next::Http2 => {
                let prefix = source.buffer.filled().to_vec();
                drop((source, sink));
                rare(http2::server::serve(guard, stream, prefix, client)).await;
            }
            Next::Linger => rare(linger(&mut source, &mut sink)).await,
            Next::Reset => {
                drop((source, sink));
                // Without this the client of a body that ends with the connection sees a clean end.
                stream.reset_on_close();
            }
            Next::Park(pause) => {
                drop((source, sink));
                park(guard, stream, client, pause);
            }
            Next::Request | Next::Close => {
                drop((source, sink));
                stream.end();
            }
        }
    }
}

fn park(guard: ConnectionGuard, stream: Transport, client: Rc<Client>, pause: Pause) {
    let Transport::Plain(stream) = stream else {
        return;
    };
    client.known.forget();
    let worker = Rc::clone(&guard.worker);
    let silent = Silent {
        count: guard.park(),
        client,
        since: pause.since,
        is_first: pause.is_first,
    };
    worker.parked.add(stream, silent);
}

fn requests<'s>(
    guard: &ConnectionGuard,
    client: &Client,
    mut is_first: bool,
    source: &mut Http1Source<'s>,
    sink: &mut Http1Sink<'s>,
) -> impl Future<Output = Next> {
    async move {
        let worker = &guard.worker;
        let mut timer = Timer::default();
        let mut recent = Recent::default();
        // What `idle` counts from.
        worker.clock.now();
        loop {
            if source.buffer.is_empty() {
                match idle(guard, source, &mut timer).await {
                    Idle::Over => {}
                    Idle::Ended => return Next::Close,
                    Idle::Rested(since) => return Next::Park(Pause { since, is_first }),
                }
            }
            if is_first
                && PREFACE.starts_with(
                    &source.buffer.filled()[..source.buffer.filled().len().min(PREFACE.len())],
                )
            {
                match rare(preface(worker, source, &mut timer)).await {
                    Ok(true) => return Next::Http2,
                    Ok(false) => {}
                    Err(_) => return Next::Close,
                }
            }
            is_first = false;
            let mut workspace = worker.workspace();
            let tools = (&mut *workspace, &mut timer, &mut recent);
            let next = one(worker, client, tools, source, sink).await;
            worker.recycle(workspace);
            match next {
                Next::Request => source.finish(),
                end => return end,
            }
        }
    }
}

/// One request, from the first byte of its head.
fn one<'s>(
    worker: &Rc<Worker>,
    client: &Client,
    (workspace, timer, recent): (&mut Workspace, &mut Timer, &mut Recent),
    source: &mut Http1Source<'s>,
    sink: &mut Http1Sink<'s>,
) -> impl Future<Output = Next> {
    async move {
        let Workspace {
            request: head,
            scratch,
            ..
        } = workspace;
        let read = read_head(worker, (head, recent), source, timer).await;
        let head = match &read {
            Ok(Read::Again(known)) => known,
            _ => &*head,
        };
        let sent = sink.written;
        let speaks_http = read.is_ok() || names_http(source.buffer.filled());
        let mut downstream = Http1Downstream::new(worker, head, source, sink);
        downstream.responder.persistent &= !client.entry.is_closed();
        #[cfg(feature = "http3")]
        {
            downstream.responder.alternative = crate::http3::alternative::of(client);
        }
        match &read {
            Ok(Read::New | Read::Again(_)) => {
                request::handle(worker, client, (scratch, timer), &mut downstream).await
            }
            Ok(Read::Ended) => return Next::Close,
            // An answer would be as meaningless to it as it is to us: TLS, a preface that is none.
            Err(_) if !speaks_http => return Next::Close,
            Err(failure) => {
                worker.counters.failures.add(1);
                downstream.responder.persistent = false;
                let reply = reply::of_failure(failure, false);
                rare(downstream.reply(reply)).await;
            }
        }
        let (persistent, is_broken) = (
            downstream.responder.persistent,
            downstream.responder.is_broken,
        );
        worker.counters.sent_bytes.add(sink.written - sent);
        sink.clear();
        match (persistent, source.is_done()) {
            _ if is_broken => Next::Reset,
            (true, true) => Next::Request,
            // An answer that came early: the rest of the body is still on its way.
            (true, false) if rare(discard(source)).await => Next::Request,
            (false, true) if source.is_drained() => Next::Close,
            (_, false) | (false, true) => Next::Linger,
        }
    }
}

/// How the wait for a request went.
enum Idle {
    /// Something came.
    Over,
    Ended,
    /// Nothing came for a while, since then.
    Rested(Instant),
}

/// Waits for the next request.
async fn idle(guard: &ConnectionGuard, source: &mut Http1Source<'_>, timer: &mut Timer) -> Idle {
    source.finish();
    let worker = &guard.worker;
    if source.is_plain() && worker.parked.is_open() {
        guard.begin_rest();
    }
    let since = worker.clock.recent();
    let mut waiting = pin!(source.wait(SMALL));
    let over = poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Ready(Ok(true)) => Poll::Ready(Idle::Over),
        Poll::Ready(Ok(false) | Err(_)) => Poll::Ready(Idle::Ended),
        Poll::Pending if guard.poll_drain(cx) => Poll::Ready(Idle::Ended),
        Poll::Pending if guard.is_rested() => Poll::Ready(Idle::Rested(since)),
        Poll::Pending => Poll::Pending,
    });
    let over = timer.limit(|| Some(since + worker.limits.keep_alive), over);
    let over = over.await.unwrap_or(Idle::Ended);
    guard.end_rest();
    over
}

/// Reads on while what came may still be the preface of HTTP/2.
async fn preface(
    worker: &Worker,
    source: &mut Http1Source<'_>,
    timer: &mut Timer,
) -> io::Result<bool> {
    let deadline = once_pending(worker.limits.head);
    loop {
        let filled = source.buffer.filled();
        let len = filled.len().min(PREFACE.len());
        if filled[..len] != PREFACE[..len] {
            return Ok(false);
        }
        if len == PREFACE.len() {
            return Ok(true);
        }
        let read = timer
            .limit(&deadline, source.buffer.read(&mut source.read, SMALL))
            .await;
        if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// How a head was read.
enum Read {
    /// Into the memory that was there.
    New,
    /// It is the one before, byte for byte.
    Again(Rc<RequestHead>),
    /// The client went away before it was complete.
    Ended,
}

/// Reads a head.
async fn read_head(
    worker: &Worker,
    (head, recent): (&mut RequestHead, &mut Recent),
    source: &mut Http1Source<'_>,
    timer: &mut Timer,
) -> Result<Read, Box<Failure>> {
    let limit = worker.limits.head_bytes;
    let deadline = once_pending(worker.limits.head);
    loop {
        match timer.limit(&deadline, source.fill_head(limit)).await {
            Ok(Ok(Input::Some)) => {}
            Ok(Ok(Input::TooLong)) => return Err(Failure::HeadTooLarge.into()),
            Ok(Ok(Input::Ended) | Err(_)) => return Ok(Read::Ended),
            Err(_) => return Err(Failure::HeadTimeout.into()),
        }
        let blank = leading_blank(source.buffer.filled());
        if blank > 0 {
            source.skip(blank);
            continue;
        }
        let filled = source.buffer.filled();
        if let Some(known) = recent.recall(filled) {
            return Ok(Read::Again(known));
        }
        if head.parse(filled).map_err(Failure::from)? {
            if head.len > limit {
                return Err(Failure::HeadTooLarge.into());
            }
            recent.remember(filled, head);
            return Ok(Read::New);
        }
    }
}

/// Whether what came begins with the first line of an HTTP request, of any version but 0.9.
fn names_http(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next();
    line.is_some_and(|line| line.windows(6).any(|part| part == b" HTTP/") || line == bytes)
}

/// Reads the rest of a body that nobody wants. `false` if it is too much or takes too long.
async fn discard(source: &mut Http1Source<'_>) -> bool {
    let rest = async {
        let mut left = LINGER_BYTES;
        while !source.is_done() {
            match source.next().await {
                Ok(chunk) if chunk.data.len() <= left => left -= chunk.data.len(),
                Ok(_) | Err(_) => return false,
            }
        }
        true
    };
    tokio::time::timeout(LINGER, rest).await.unwrap_or(false)
}

/// Ends our direction and reads until the client ends its own, within bounds.
async fn linger(source: &mut Http1Source<'_>, sink: &mut Http1Sink<'_>) {
    if sink.shutdown().await.is_err() {
        return;
    }
    let rest = async {
        source.begin_body(0, crate::http1::body::Framing::Close);
        let mut left = LINGER_BYTES;
        while let Ok(chunk) = source.next().await {
            if chunk.last || chunk.data.len() > left {
                return;
            }
            left -= chunk.data.len();
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an async function returns, without calling it.
    fn size<F, A, B, C>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_costs_less_than_a_page() {
        let size = size(serve);
        // What answers say of HTTP/3 has its room.
        let most = 3824 + 16 * usize::from(cfg!(feature = "http3"));
        assert!(size <= most, "the future of a connection has {size} bytes");
    }
}
