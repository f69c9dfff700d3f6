//! What becomes of a request, and the head that its backend gets. Nothing here waits.
//!
//! The snapshot is loaded once and only while the request is planned: a second load could route
//! by one generation and edit by another.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use routing::model::{ClientSource, Connect, Protocol, Timeouts};
use routing::{
    Backend, CompiledAction, CompiledArm, CompiledInstead, CompiledRoute, CompiledSplit,
    CompiledTls, CompiledTlsAction, Snapshot,
};

use crate::connection::Client;
use crate::downstream::{Answer, Downstream, Reply};
use crate::edits::Edits;
use crate::entry::Entry;
use crate::failure::Failure;
use crate::filter::mirror::{self, Copies, Original};
use crate::filter::retry::Tries;
use crate::filter::template::Sender;
use crate::filter::{Effects, Pair, cors, redirect};
use crate::guard::{Gated, Guarded, Passage};
use crate::http1::body::Framing;
use crate::http1::edit;
use crate::http2::encode;
use crate::message::View;
use crate::reply;
use crate::seen::Seen;
use crate::session;
use crate::target;
use crate::telemetry;
use crate::traffic::Traffic;
use crate::websocket::{self, Handshake};
use crate::worker::{Scratch, Worker};

/// What becomes of a request.
pub(crate) enum Plan {
    Reply(Box<Reply>),
    Forward(Forward),
    /// Its route asks more of it first.
    Guarded(Guarded),
    /// Its listener does, before a route is looked for.
    Gated(Gated),
}

/// A request's route, and what its guards found out if it has any.
pub(crate) struct Chosen<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) route: &'a CompiledRoute,
    pub(crate) passage: Option<&'a Passage>,
}

impl Chosen<'_> {
    /// Where the split is cut for this request: where its guards have cut it, if they have.
    fn point(&self, worker: &Worker, split: &CompiledSplit, view: View<'_>) -> u64 {
        let drawn = self.passage.and_then(|passage| passage.point);
        drawn.unwrap_or_else(|| session::point(worker, self.snapshot, split, view))
    }
}

/// A request that is ready to be sent.
pub(crate) struct Forward {
    pub(crate) backend: Arc<Backend>,
    /// Of the request as it is sent.
    pub(crate) framing: Framing,
    pub(crate) is_idempotent: bool,
    pub(crate) to_head: bool,
    pub(crate) wants_upgrade: bool,
    /// How the request becomes a tunnel, if it is a CONNECT.
    pub(crate) connect: Option<Connect>,
    /// The client speaks gRPC-Web, and is translated for a backend that does not.
    pub(crate) is_web: bool,
    /// What the route's filters do from here on; most routes have none.
    pub(crate) effects: Option<Box<Effects>>,
    /// What the backend's policy wants; most have none.
    pub(crate) traffic: Option<Box<Traffic>>,
    /// Copies that wait for the body.
    pub(crate) copies: Option<Box<RefCell<Copies>>>,
    /// What makes the backend's answer a WebSocket; `None` leaves that to the client.
    pub(crate) websocket: Option<Box<Handshake>>,
}

impl Forward {
    /// Of a request with which nothing else is done.
    pub(crate) fn plain(
        backend: &Arc<Backend>,
        view: View<'_>,
        traffic: Option<Box<Traffic>>,
    ) -> Self {
        Self {
            backend: Arc::clone(backend),
            framing: view.head.framing,
            is_idempotent: view.is_idempotent(),
            to_head: view.has_method("HEAD"),
            wants_upgrade: false,
            connect: None,
            is_web: false,
            effects: None,
            traffic,
            copies: None,
            websocket: None,
        }
    }

    /// Whether nothing else is done with the request.
    pub(crate) fn is_plain(&self) -> bool {
        !self.wants_upgrade
            && self.connect.is_none()
            && !self.is_web
            && self.effects.is_none()
            && self.copies.is_none()
            && self.websocket.is_none()
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        let effects = self.effects.as_deref();
        effects.map_or(self.backend.timeouts, |effects| effects.timeouts)
    }

    /// Whether an answer says success to a client that wants a WebSocket, and is none.
    pub(crate) fn misses_websocket(&self, answer: &Answer<'_>) -> bool {
        let websocket = self.websocket.as_ref();
        websocket.is_some_and(|it| it.is_missed_by(answer))
    }

    /// What the route says about tries, if it says anything.
    pub(crate) fn tries(&self) -> Option<&Tries> {
        let tries = &self.effects.as_deref()?.tries;
        (tries.limit.is_some() || tries.retry.is_some()).then_some(tries)
    }
}

/// Decides what becomes of a request and writes its head for the next hop. Does not wait.
pub(crate) fn plan<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &D,
) -> Result<Plan, Box<Failure>> {
    let view = downstream.view();
    #[cfg(test)]
    crate::panics::faults::request(view, "plan");
    if let Some(forward) = client.known.recall(worker, client, scratch, view) {
        return Ok(Plan::Forward(forward));
    }
    websocket::check(view)?;
    if target::has_dot_segment(view.head.target.get(view.bytes)) {
        return Err(Failure::DotSegment.into());
    }
    let framing = view.head.framing;
    if let (Framing::Length(length), Some(limit)) = (framing, worker.limits.body_bytes)
        && length > limit
    {
        return Err(Failure::BodyTooLarge { limit }.into());
    }
    if let Some(answer) = worker.challenges.answer(view) {
        return Ok(Plan::Reply(Box::new(answer)));
    }
    let snapshot = worker.snapshots.current();
    if let Some(tls) = &client.tls
        && is_misdirected(&snapshot, &client.entry, tls, view.authority())
    {
        return Err(Failure::Misdirected.into());
    }
    if let Some(gate) = client.entry.gate(&snapshot, || view.authority()) {
        return Ok(Plan::Gated(Gated {
            gate: Arc::clone(gate),
            snapshot: Arc::clone(&snapshot),
        }));
    }
    let Some(route) = client.entry.select(&snapshot, &Seen::new(view, client)) else {
        return Err(Failure::no_route(view).into());
    };
    if let Some(source) = client_source(worker, client, route) {
        scratch.client = routing::client::address(source, &Seen::new(view, client));
    }
    telemetry::steer(worker, client, scratch, view, route.filters());
    if route.is_guarded() {
        // Should it be refused, nobody but the route is to be counted.
        scratch.series = worker.series.of_route(route);
        return Ok(Plan::Guarded(Guarded {
            snapshot: Arc::clone(&snapshot),
            route: Arc::clone(route),
        }));
    }
    let chosen = Chosen {
        snapshot: &snapshot,
        route,
        passage: None,
    };
    let planned = plan_route(worker, client, scratch, downstream, &chosen)?;
    if let Plan::Forward(forward) = &planned {
        let chosen = (&*snapshot, route);
        client.known.remember(scratch, chosen, forward, view);
    }
    Ok(planned)
}

/// The same for a request that may take its route.
pub(crate) fn plan_route<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &D,
    chosen: &Chosen<'_>,
) -> Result<Plan, Box<Failure>> {
    let Chosen {
        snapshot, route, ..
    } = *chosen;
    let view = downstream.view();
    if let Some(filters) = route.filters()
        && let Some(reply) = cors::preflight(filters, view)
    {
        return Ok(Plan::Reply(Box::new(reply)));
    }
    let arm = match &route.action {
        CompiledAction::Forward(split) => split.at(chosen.point(worker, split, view)),
        CompiledAction::Respond(respond) => {
            scratch.series = worker.series.of_route(route);
            return Ok(Plan::Reply(Box::new(reply::of_route(respond))));
        }
        CompiledAction::Redirect(to) => {
            scratch.series = worker.series.of_route(route);
            return Ok(Plan::Reply(Box::new(redirect::reply(to, view, client))));
        }
        CompiledAction::ForwardSecure(split)
            if client.tls.is_some() || client.entry.is_cluster_local() =>
        {
            split.at(chosen.point(worker, split, view))
        }
        CompiledAction::ForwardSecure(_) => {
            scratch.series = worker.series.of_route(route);
            return Ok(Plan::Reply(Box::new(redirect::to_https(
                view,
                worker.https_port,
            ))));
        }
    };
    let connect = connect(view, route)?;
    telemetry::steer(worker, client, scratch, view, arm.filters());
    match arm.instead.as_deref() {
        None => {}
        Some(CompiledInstead::Respond(respond)) => {
            return Ok(Plan::Reply(Box::new(reply::of_route(respond))));
        }
        Some(CompiledInstead::Redirect(to)) => {
            return Ok(Plan::Reply(Box::new(redirect::reply(to, view, client))));
        }
    }
    let backend = snapshot.backend_of(arm);
    let Some(backend) = backend else {
        scratch.series = worker.series.of_route(route);
        return Err(Failure::NoBackend {
            backend: arm.backend.clone(),
        }
        .into());
    };
    scratch.series = worker.series.of_arm(route, arm, backend);
    // Dropping the request to switch would leave the client with an answer to something else.
    if backend.protocol == Protocol::H2c && websocket::is_asked(view) {
        return Err(Failure::WebSocketToHttp2 {
            backend: arm.backend.clone(),
        }
        .into());
    }
    let filters = Pair::new(route, arm);
    let origin = Sender {
        view,
        client,
        address: scratch.client,
    };
    let mut extra = filters.extra(chosen.passage, &origin);
    if let Some(span) = &scratch.span {
        span.tell(&mut extra.get_or_insert_default().to_mut().last);
    }
    let target = match view.head.is_connect {
        true => None,
        false => filters.target(view, chosen.passage),
    };
    let websocket = Handshake::begin(worker, view, &mut extra);
    let translated = match scratch.web.as_deref() {
        Some(form) if arm.grpc_web => form.translated(backend, view, &mut extra),
        _ => None,
    };
    let view = View {
        head: translated.as_deref().unwrap_or(view.head),
        ..view
    };
    let edits = Edits {
        extra: extra.as_deref(),
        is_outside: client.is_outside(client_source(worker, client, route)),
        ..edits(route, arm, backend, client, target.as_deref())
    };
    if let Some(reply) = reply::to_probe(view, backend, &edits) {
        return Ok(Plan::Reply(Box::new(reply)));
    }
    let original = Original { view, edits };
    // A tunnel has no end that a copy could wait for.
    let mirrors = filters.mirrors().filter(|_| !downstream.wants_tunnel());
    let copies = mirror::begin(worker, snapshot, mirrors, &original);
    let edits = &original.edits;
    let out = &mut scratch.upstream_head;
    out.clear();
    match backend.protocol {
        Protocol::H2c => encode::request(out, view, edits, backend.tls.is_some()),
        Protocol::Http1 => edit::request(out, view.head, view.bytes, edits),
    }
    let mut effects = filters.effects(&origin, backend.timeouts, chosen.passage);
    let traffic = Traffic::plan(worker, backend, &origin, effects.as_deref_mut());
    Ok(Plan::Forward(Forward {
        wants_upgrade: view.head.upgrade.is_some() && backend.protocol == Protocol::Http1,
        connect,
        is_web: translated.is_some(),
        effects,
        copies: (!copies.is_empty()).then(|| Box::new(RefCell::new(copies))),
        websocket,
        ..Forward::plain(backend, view, traffic)
    }))
}

/// How a CONNECT becomes a tunnel on this route; `None` if the request is none.
fn connect(view: View<'_>, route: &CompiledRoute) -> Result<Option<Connect>, Failure> {
    if !view.head.is_connect {
        return Ok(None);
    }
    let how = route.filters().and_then(|filters| filters.connect);
    how.map(Some).ok_or(Failure::ConnectRefused)
}

/// Where the client's address is: as the route says, or else the gateway's settings, which are
/// about the proxies in front of it.
pub(crate) fn client_source<'a>(
    worker: &'a Worker,
    client: &Client,
    route: &'a CompiledRoute,
) -> Option<&'a ClientSource> {
    let general = worker.client.as_ref().filter(|_| !client.is_inside());
    route.client().or(general)
}

/// Whether a connection was opened for another host than its request's: at a bind, whose listeners
/// are apart from each other, or elsewhere if their rules about client certificates differ. It
/// must not be a way around them.
fn is_misdirected(
    snapshot: &Snapshot,
    entry: &Entry,
    connection: &Arc<CompiledTls>,
    authority: &str,
) -> bool {
    let Some(wanted) = entry.tls(snapshot, Some(authority)) else {
        return false;
    };
    if Arc::ptr_eq(wanted, connection) {
        return false;
    }
    if entry.is_strict() {
        return wanted.pattern != connection.pattern;
    }
    match (&wanted.action, &connection.action) {
        (CompiledTlsAction::Terminate(wanted), CompiledTlsAction::Terminate(connection)) => {
            wanted.client != connection.client
        }
        // Its connections are no HTTP of ours.
        (
            CompiledTlsAction::Passthrough(_)
            | CompiledTlsAction::Relay(..)
            | CompiledTlsAction::Refuse,
            _,
        ) => true,
        (
            CompiledTlsAction::Terminate(_),
            CompiledTlsAction::Passthrough(_)
            | CompiledTlsAction::Relay(..)
            | CompiledTlsAction::Refuse,
        ) => false,
    }
}

fn edits<'a>(
    route: &'a CompiledRoute,
    arm: &'a CompiledArm,
    backend: &Backend,
    client: &'a Client,
    target: Option<&'a str>,
) -> Edits<'a> {
    let rewritten = Pair::new(route, arm).host();
    Edits {
        route: route.request_headers(),
        arm: &arm.request_headers,
        extra: None,
        host: rewritten.or_else(|| route.rewrite_host().map(|host| &**host)),
        target,
        strip_internal: backend.activation.is_some(),
        is_outside: true,
        peer: &client.peer,
    }
}
