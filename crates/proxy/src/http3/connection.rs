//! A client's HTTP/3 connection: its handshake, its requests, its end.
//!
//! It ends in two steps (RFC 9114 §5.2): first the client learns that we are leaving, and only
//! when it must have read that, which requests are the last ones. So none is lost on the way.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::http3::{Code, Incoming, Receiver, Sender, StreamId};
use routing::CompiledTls;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::stream;
use crate::connection::Client;
use crate::entry::Entry;
use crate::forwarded::Peer;
use crate::http2::flood::Flood;
use crate::open::ConnectionGuard;
use crate::timeout::Timer;
use crate::tls::principal_of;
use crate::worker::Worker;

/// How long a client may take to notice that we are leaving, in round trips and at most.
const ROUND_TRIPS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(5);
/// What a round trip takes at least: clients need not acknowledge at once (RFC 9000 §13.2.1).
const SHORTEST: Duration = Duration::from_millis(25);
/// How often other tasks have a turn before a closed connection is forgotten, so that its client
/// is told.
const TURNS: usize = 4;

/// What a connection's requests share.
pub(super) struct Shared {
    pub(super) worker: Rc<Worker>,
    quic: ::http3::Connection,
    /// Requests that are being served.
    open: Cell<usize>,
    /// One less is.
    closed: Notify,
    flood: RefCell<Flood>,
    has_failed: Cell<bool>,
}

impl Shared {
    /// Ends the connection, whose client does not speak HTTP/3.
    pub(super) fn fail(&self, code: Code) {
        if self.has_failed.replace(true) {
            return;
        }
        self.worker.counters.http3_errors.add(1);
        tracing::debug!(peer = %self.quic.peer(), %code, "HTTP/3 connection refused");
        self.quic.close(code);
    }

    /// A client has given a request up before it was answered.
    pub(super) fn given_up(&self) {
        if self.flood.borrow_mut().reset().is_err() {
            self.fail(Code::EXCESSIVE_LOAD);
        }
    }
}

/// Counts a request as long as it lives.
struct Open(Rc<Shared>);

impl Open {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.open.set(shared.open.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        // One permit is kept if nobody waits yet, so the wake-up cannot be missed.
        self.0.closed.notify_one();
    }
}

/// Serves a client until its connection ends.
pub(super) async fn serve(mut guard: ConnectionGuard, incoming: Incoming, entry: Rc<Entry>) {
    let worker = Rc::clone(&guard.worker);
    guard.came_by(&entry);
    let peer = incoming.peer();
    let own = incoming.own_ip().map(|ip| SocketAddr::new(ip, entry.port));
    let accepted = {
        // Never closed; there was a place when the client was let in.
        let _place = worker.handshakes.acquire().await;
        tokio::time::timeout(worker.limits.handshake, incoming.accept()).await
    };
    let quic = match accepted {
        Ok(Ok(quic)) => quic,
        Ok(Err(error)) => {
            worker.counters.tls_failures.add(1);
            entry.counts.tls_failures.add(1);
            return tracing::debug!(%peer, %error, "QUIC handshake failed");
        }
        Err(_) => {
            worker.counters.tls_failures.add(1);
            entry.counts.tls_failures.add(1);
            return tracing::debug!(%peer, "QUIC handshake took too long");
        }
    };
    worker.counters.tls_handshakes.add(1);
    // Only now the client has shown that this is its address.
    let belongs = guard.belongs_to(peer.ip());
    let context = Arc::clone(&quic.agreed().context);
    match context.downcast::<CompiledTls>() {
        Ok(tls) if belongs => {
            let client = client(&worker, &quic, tls, (peer, own, entry));
            run(&guard, quic, Rc::new(client)).await;
        }
        Ok(_) | Err(_) => quic.close(Code::EXCESSIVE_LOAD),
    }
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

fn client(
    worker: &Worker,
    quic: &::http3::Connection,
    tls: Arc<CompiledTls>,
    (peer, own, entry): (SocketAddr, Option<SocketAddr>, Rc<Entry>),
) -> Client {
    let agreed = quic.agreed();
    Client {
        principal: principal_of(&tls, agreed.certificates.first()),
        server_name: agreed.server_name.clone(),
        namespace: worker.namespace_of(peer.ip()).filter(|_| entry.is_strict()),
        peer: Peer::of(peer, own, true),
        entry,
        tls: Some(tls),
        limits: Default::default(),
        known: Default::default(),
    }
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    None,
    /// The client was told, and has until then to read that.
    Announced(Instant),
    /// The last request was named.
    Said,
}

/// What a connection waits for.
enum Event {
    Request(Box<(Receiver, Sender)>),
    /// A request is over.
    Closed,
    Drain,
    Broken(Code),
    Gone,
}

async fn run(guard: &ConnectionGuard, quic: ::http3::Connection, client: Rc<Client>) {
    let worker = &guard.worker;
    let limits = &worker.limits;
    let shared = Rc::new(Shared {
        worker: Rc::clone(worker),
        quic,
        open: Cell::new(0),
        closed: Notify::new(),
        flood: RefCell::new(Flood::new(limits.idle_frames, limits.stream_resets)),
        has_failed: Cell::new(false),
    });
    let quic = &shared.quic;
    let mut conversation = pin!(quic.converse());
    let (mut timer, mut idle_since) = (Timer::default(), Instant::now());
    let (mut farewell, mut next) = (Farewell::None, StreamId::FIRST);
    loop {
        if farewell == Farewell::Said && shared.open.get() == 0 {
            return quic.close(Code::NO_ERROR);
        }
        let deadline = match farewell {
            Farewell::None if shared.open.get() == 0 => Some(idle_since + limits.keep_alive),
            Farewell::None | Farewell::Said => None,
            Farewell::Announced(until) => Some(until),
        };
        let event = async {
            tokio::select! {
                request = quic.request() => match request {
                    Ok(request) => Event::Request(Box::new(request)),
                    Err(_) => Event::Gone,
                },
                code = conversation.as_mut() => code.map_or(Event::Gone, Event::Broken),
                () = shared.closed.notified() => Event::Closed,
                () = drain(guard), if farewell == Farewell::None => Event::Drain,
            }
        };
        match timer.limit(|| deadline, event).await {
            Ok(Event::Request(request)) => {
                let (receiver, sender) = *request;
                let id = receiver.id();
                if farewell == Farewell::Said && id >= next {
                    reject(receiver, sender);
                    continue;
                }
                next = next.max(id.next());
                let (open, client) = (Open::new(&shared), Rc::clone(&client));
                tokio::task::spawn_local(async move {
                    let shared = Rc::clone(&open.0);
                    stream::serve(shared, client, receiver, sender).await;
                    drop(open);
                });
            }
            Ok(Event::Closed) => idle_since = worker.clock.now(),
            Ok(Event::Drain) => farewell = announce(quic).await,
            Ok(Event::Broken(code)) => return shared.fail(code),
            Ok(Event::Gone) => return,
            Err(_) if farewell == Farewell::None => farewell = announce(quic).await,
            Err(_) => {
                farewell = Farewell::Said;
                quic.go_away(next).await;
            }
        }
    }
}

/// Resolves when the connection has to end.
async fn drain(guard: &ConnectionGuard) {
    poll_fn(|cx| match guard.poll_drain(cx) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

async fn announce(quic: &::http3::Connection) -> Farewell {
    quic.go_away(StreamId::LAST).await;
    let patience = quic.round_trip().max(SHORTEST) * ROUND_TRIPS;
    Farewell::Announced(Instant::now() + patience.min(PATIENCE))
}

/// The client may send it again, elsewhere.
fn reject(mut receiver: Receiver, mut sender: Sender) {
    sender.reset(Code::REQUEST_REJECTED);
    receiver.stop(Code::REQUEST_REJECTED);
}
