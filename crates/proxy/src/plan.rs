//! What becomes of a request, and the head that its backend gets. Nothing here waits.
//!
//! The snapshot is loaded once and only while the request is planned: a second load could route
//! by one generation and edit by another.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use routing::model::{ClientSource, Connect, Protocol};
use routing::{
    Backend, CompiledAction, CompiledArm, CompiledInstead, CompiledRoute, CompiledSplit,
    CompiledTls, CompiledTlsAction, Snapshot,
};

use crate::connection::Client;
use crate::downstream::{Downstream, Reply};
use crate::edits::Edits;
use crate::entry::Entry;
use crate::failure::Failure;
use crate::filter::mirror::{self, Original};
use crate::filter::template::Sender;
use crate::filter::{Pair, cors, redirect};
use crate::forward::Forward;
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
    check(worker, view)?;
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
    let Some(route) = client
        .entry
        .select(&snapshot, &Seen::unrouted(worker, view, client))
    else {
        return Err(Failure::no_route(view).into());
    };
    if let Some(source) = client_source(worker, client, route) {
        scratch.is_trusted = !client.is_outside(Some(source));
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

/// What no route takes.
fn check(worker: &Worker, view: View<'_>) -> Result<(), Failure> {
    websocket::check(view)?;
    if target::has_dot_segment(view.head.target.get(view.bytes)) {
        return Err(Failure::DotSegment);
    }
    match (view.head.framing, worker.limits.body_bytes) {
        (Framing::Length(length), Some(limit)) if length > limit => {
            Err(Failure::BodyTooLarge { limit })
        }
        _ => Ok(()),
    }
}

/// The same for a request that may take its route.
pub(crate) fn plan_route<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &D,
    chosen: &Chosen<'_>,
) -> Result<Plan, Box<Failure>> {
    let route = chosen.route;
    let view = downstream.view();
    if let Some(filters) = route.filters()
        && let Some(reply) = cors::preflight(filters, view)
    {
        return Ok(Plan::Reply(Box::new(reply)));
    }
    let arm = match draw(worker, client, view, chosen) {
        Ok(arm) => arm,
        Err(reply) => {
            scratch.series = worker.series.of_route(route);
            scratch.for_pages = Pair::drawn(route, None).for_pages(view);
            return Ok(Plan::Reply(reply));
        }
    };
    let planned = plan_arm(worker, client, scratch, downstream, (chosen, arm));
    if !matches!(planned, Ok(Plan::Forward(_))) {
        scratch.for_pages = Pair::new(route, arm).for_pages(view);
    }
    planned
}

/// The same for one whose arm is drawn.
fn plan_arm<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &D,
    (chosen, arm): (&Chosen<'_>, &CompiledArm),
) -> Result<Plan, Box<Failure>> {
    let (route, view) = (chosen.route, downstream.view());
    let connect = connect(view, route)?;
    telemetry::steer(worker, client, scratch, view, arm.filters());
    if let Some(instead) = arm.instead.as_deref() {
        return Ok(Plan::Reply(Box::new(match instead {
            CompiledInstead::Respond(respond) => reply::of_route(respond),
            CompiledInstead::Redirect(to) => redirect::reply(to, view, client),
        })));
    }
    let Some(backend) = chosen.snapshot.backend_of(arm) else {
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
    let to = (arm, backend, connect);
    Ok(forward(worker, client, scratch, downstream, chosen, to))
}

/// The arm of its route that a request takes, or what the route answers by itself.
fn draw<'c>(
    worker: &Worker,
    client: &Client,
    view: View<'_>,
    chosen: &Chosen<'c>,
) -> Result<&'c CompiledArm, Box<Reply>> {
    let is_secure = client.tls.is_some() || client.entry.is_cluster_local();
    let reply = match &chosen.route.action {
        CompiledAction::ForwardSecure(_) if !is_secure => {
            redirect::to_https(view, worker.https_port)
        }
        CompiledAction::Forward(split) | CompiledAction::ForwardSecure(split) => {
            return Ok(split.at(chosen.point(worker, split, view)));
        }
        CompiledAction::Respond(respond) => reply::of_route(respond),
        CompiledAction::Redirect(to) => redirect::reply(to, view, client),
    };
    Err(Box::new(reply))
}

/// Writes the head for an arm's backend, unless the request is a probe of it.
fn forward<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &D,
    chosen: &Chosen<'_>,
    (arm, backend, connect): (&CompiledArm, &Arc<Backend>, Option<Connect>),
) -> Plan {
    let (route, view) = (chosen.route, downstream.view());
    let filters = Pair::new(route, arm);
    let is_outside = client.is_outside(client_source(worker, client, route));
    let origin = Sender {
        view,
        client,
        address: scratch.client,
        is_outside,
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
        is_outside,
        ..edits(route, arm, backend, client, target.as_deref())
    };
    if let Some(reply) = reply::to_probe(view, backend, &edits) {
        return Plan::Reply(Box::new(reply));
    }
    let original = Original { view, edits };
    // A tunnel has no end that a copy could wait for.
    let mirrors = filters.mirrors().filter(|_| !downstream.wants_tunnel());
    let copies = mirror::begin(worker, chosen.snapshot, mirrors, &original);
    write(&mut scratch.upstream_head, backend, &original);
    let mut effects = filters.effects(&origin, backend.timeouts, chosen.passage);
    let traffic = Traffic::plan(worker, backend, &origin, effects.as_deref_mut());
    Plan::Forward(Forward {
        wants_upgrade: view.head.upgrade.is_some() && backend.protocol == Protocol::Http1,
        connect,
        is_web: translated.is_some(),
        effects,
        copies: (!copies.is_empty()).then(|| Box::new(RefCell::new(copies))),
        websocket,
        ..Forward::plain(backend, view, traffic)
    })
}

/// Writes the head for a backend, as it speaks.
fn write(out: &mut Vec<u8>, backend: &Backend, Original { view, edits }: &Original<'_>) {
    out.clear();
    match backend.protocol {
        Protocol::H2c => encode::request(out, *view, edits, backend.tls.is_some()),
        Protocol::Http1 => edit::request(out, view.head, view.bytes, edits),
    }
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
