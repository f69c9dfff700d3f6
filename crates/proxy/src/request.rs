//! One HTTP request, from route to answer.
//!
//! The snapshot is loaded once and only while the request is planned: a second load could route
//! by one generation and edit by another. The slot is held until the answer's last byte.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use routing::model::{ClientSource, Protocol, Timeouts};
use routing::{
    Backend, CompiledAction, CompiledArm, CompiledInstead, CompiledRoute, CompiledSplit,
    CompiledTls, CompiledTlsAction, RequestView, Snapshot,
};
use tokio::time::Instant;

use crate::attempt;
use crate::connection::Client;
use crate::downstream::{Answer, Downstream, Reply, Responder};
use crate::edits::Edits;
use crate::entry::Entry;
use crate::failure::Failure;
use crate::filter::mirror::{self, Copies, Original};
use crate::filter::retry::{Tries, Withheld};
use crate::filter::template::Sender;
use crate::filter::{Effects, Pair, cors, redirect};
use crate::grpc_web;
use crate::guard::{self, Gated, Guarded, Passage};
use crate::http1::body::Framing;
use crate::http1::edit;
use crate::http2::encode;
use crate::http2::frame::Reason;
use crate::message::View;
use crate::overload::{self, InFlight};
use crate::panics::{Panicked, poll_caught};
use crate::rare::rare;
use crate::record::{End, Record};
use crate::reply;
use crate::seen::Seen;
use crate::session;
use crate::spans::Open;
use crate::target;
use crate::telemetry;
use crate::timeout::{Deadlines, Timer};
use crate::traffic::Traffic;
use crate::websocket::{self, Handshake};
use crate::worker::{Scratch, Worker};

/// What becomes of a request.
pub(crate) enum Plan {
    Reply(Reply),
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

/// Serves one request, whatever happens.
pub(crate) async fn handle<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    (scratch, timer): (&mut Scratch, &mut Timer),
    downstream: &mut D,
) {
    let start = worker.clock.now();
    let _in_flight = InFlight::new(worker);
    client.entry.counts.requests.add(1);
    scratch.span = Open::start(worker, client, downstream.view());
    let mut record = Record::start(
        &worker.logs,
        client,
        downstream.view(),
        scratch.span.as_deref(),
    );
    scratch.series = None;
    scratch.client = None;
    scratch.told = None;
    scratch.answer_bytes = 0;
    scratch.new_status = None;
    scratch.is_told = false;
    let is_grpc = downstream.view().is_grpc();
    scratch.is_grpc = is_grpc;
    scratch.web = match is_grpc {
        true => grpc_web::Form::of(downstream.view()),
        false => None,
    };
    let to_head = downstream.view().has_method("HEAD");
    let sent = {
        let tools = (&mut *scratch, timer);
        let rest = (&mut record, start);
        // Pinned by name, so that it is made where it stays.
        let mut serving = pin!(serve(worker, client, tools, downstream, rest));
        poll_fn(|cx| poll_caught(serving.as_mut(), cx)).await
    };
    let Served {
        result,
        answered,
        ends_late,
    } = sent.unwrap_or_else(|Panicked| {
        worker.counters.panics.add(1);
        Served::of(Err(Failure::Panicked))
    });
    let (status, flag) = match &result {
        Ok(status) => (*status, answered),
        Err(failure) => (failure.status(), failure.flag()),
    };
    if let Err(failure) = result {
        worker.counters.failures.add(1);
        let is_ending = ends_late && !is_grpc;
        let how = (is_grpc, is_ending, to_head);
        if !scratch.is_told {
            let web = scratch.web.take();
            scratch.answer_bytes += rare(fail(worker, downstream, &failure, how, web)).await;
        }
    }
    let took = worker.clock.now() - start;
    let series = scratch.series.take();
    worker.counters.answered(status, took);
    let told = scratch.told.take();
    if let Some(series) = &series
        && told.is_none_or(|told| !told.without_counters)
    {
        series.answered(worker.thread, status, took);
    }
    let end = End {
        status,
        flag,
        bytes: scratch.answer_bytes,
        took,
        client: scratch.client,
    };
    if let Some(span) = scratch.span.take() {
        span.finish(series.as_deref(), &end);
    }
    record.finish(worker, series.as_deref(), &end);
}

/// How a request was served.
struct Served {
    result: Result<u16, Failure>,
    /// The flag of an answer of the gateway's own.
    answered: &'static str,
    /// A limit that is hit ends the answer rather than break it off.
    ends_late: bool,
}

impl Served {
    fn of(result: Result<u16, Failure>) -> Self {
        Self {
            result,
            answered: "",
            ends_late: false,
        }
    }
}

/// From the route to the end of the answer, or to what there is to tell instead.
async fn serve<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    (scratch, timer): (&mut Scratch, &mut Timer),
    downstream: &mut D,
    (record, start): (&mut Record, Instant),
) -> Served {
    let to_head = downstream.view().has_method("HEAD");
    let planned = match overload::is_over(worker, &client.entry) {
        None => plan(worker, client, scratch, downstream),
        Some(shed) => overload::plan(worker, client, downstream.view(), shed),
    };
    let planned = match planned {
        Ok(Plan::Guarded(guarded)) => {
            rare(guard::pass(worker, client, scratch, downstream, guarded)).await
        }
        Ok(Plan::Gated(gated)) => {
            rare(guard::enter(worker, client, scratch, downstream, gated)).await
        }
        other => other,
    };
    if let Some(told) = &scratch.told {
        let rest = (scratch.span.as_deref(), worker.clock.now() - start);
        record.steer(worker, client, downstream.view(), told, rest);
    }
    downstream.begin_body();
    let mut answered = "";
    let mut ends_late = false;
    let result = match planned {
        Ok(Plan::Reply(reply)) => {
            let status = reply.status;
            answered = reply.flag;
            let reply = grpc_web::told(scratch.web.as_deref(), reply);
            scratch.answer_bytes = reply.body_bytes(to_head);
            if let Some(heard) = record.heard() {
                heard.own(&reply.headers);
            }
            rare(answer(worker, downstream, reply)).await;
            Ok(status)
        }
        // Passed its guards above.
        Ok(Plan::Guarded(_) | Plan::Gated(_)) => Ok(0),
        // Not moved: what is moved counts twice in the future.
        Ok(Plan::Forward(ref forward)) => {
            ends_late = forward.backend.timeouts.ends_answer && !forward.wants_upgrade;
            let mut tools = (&mut *scratch, &mut *timer);
            let sent = match forward.tries() {
                _ if forward.is_web => {
                    let rest = (start, record);
                    rare(grpc_web::send(
                        worker, forward, &mut tools, downstream, rest,
                    ))
                    .await
                }
                None => {
                    let deadlines =
                        Deadlines::new(start, forward.timeouts(), worker.patience(tools.0));
                    let rest = (record, &deadlines, Withheld::default());
                    let sent = attempt::send(worker, forward, &mut tools, downstream, rest).await;
                    sent.map_err(|lost| lost.failure)
                }
                Some(tries) => {
                    let rest = (start, record, tries);
                    rare(attempt::try_often(
                        worker, forward, &mut tools, downstream, rest,
                    ))
                    .await
                }
            };
            let sent = sent.map(|()| scratch.response.status);
            if let Some(effects) = &forward.effects {
                let status = sent.as_ref().map_or_else(Failure::status, |status| *status);
                effects.after.ended(worker, status);
            }
            sent.map(|status| scratch.new_status.unwrap_or(status))
        }
        Err(failure) => Err(failure),
    };
    Served {
        result,
        answered,
        ends_late,
    }
}

/// Tells the client, as far as it can still be told, and says how many bytes of a body it took.
/// If `is_ending`, an answer that a limit cuts is ended rather than broken off.
async fn fail<D: Downstream>(
    worker: &Worker,
    downstream: &mut D,
    failure: &Failure,
    (is_grpc, is_ending, to_head): (bool, bool, bool),
    web: Option<Box<grpc_web::Form>>,
) -> u64 {
    if matches!(failure, Failure::ClientGone) {
        downstream.abort(Reason::CANCEL);
        return 0;
    }
    if downstream.parts().1.has_begun() {
        if is_ending && matches!(failure, Failure::RequestTimeout | Failure::IdleTimeout) {
            let text = failure.to_string();
            let ending = downstream.parts().1.end_with(text.as_bytes());
            let ended = tokio::time::timeout(worker.limits.stall, ending).await;
            if matches!(ended, Ok(true)) {
                return text.len() as u64;
            }
        }
        let reason = match failure {
            Failure::Reset { reason, .. } => *reason,
            _ => Reason::INTERNAL_ERROR,
        };
        downstream.abort(reason);
        return 0;
    }
    let reply = grpc_web::told(web.as_deref(), reply::of_failure(failure, is_grpc));
    let bytes = reply.body_bytes(to_head);
    answer(worker, downstream, reply).await;
    bytes
}

/// Answers, as long as the client takes what it is told.
async fn answer<D: Downstream>(worker: &Worker, downstream: &mut D, reply: Reply) {
    let told = tokio::time::timeout(worker.limits.stall, downstream.reply(reply)).await;
    if told.is_err() {
        downstream.abort(Reason::CANCEL);
    }
}

/// Decides what becomes of a request and writes its head for the next hop. Does not wait.
fn plan<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &D,
) -> Result<Plan, Failure> {
    let view = downstream.view();
    #[cfg(test)]
    crate::panics::faults::request(view, "plan");
    if view.has_method("CONNECT") {
        return Err(Failure::ConnectMethod);
    }
    websocket::check(view)?;
    if target::has_dot_segment(view.head.target.get(view.bytes)) {
        return Err(Failure::DotSegment);
    }
    let framing = view.head.framing;
    if let (Framing::Length(length), Some(limit)) = (framing, worker.limits.body_bytes)
        && length > limit
    {
        return Err(Failure::BodyTooLarge { limit });
    }
    if let Some(answer) = worker.challenges.answer(view) {
        return Ok(Plan::Reply(answer));
    }
    let snapshot = worker.snapshots.current();
    if let Some(tls) = &client.tls
        && is_misdirected(&snapshot, &client.entry, tls, view.authority())
    {
        return Err(Failure::Misdirected);
    }
    if let Some(gate) = client.entry.gate(&snapshot, || view.authority()) {
        return Ok(Plan::Gated(Gated {
            gate: Arc::clone(gate),
            snapshot: Arc::clone(&snapshot),
        }));
    }
    let Some(route) = client.entry.select(&snapshot, &Seen::new(view, client)) else {
        return Err(Failure::NoRoute {
            method: view.method().to_owned(),
            host: view.authority().to_owned(),
            path: view.path().to_owned(),
        });
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
    plan_route(worker, client, scratch, downstream, &chosen)
}

/// The same for a request that may take its route.
pub(crate) fn plan_route<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &D,
    chosen: &Chosen<'_>,
) -> Result<Plan, Failure> {
    let Chosen {
        snapshot, route, ..
    } = *chosen;
    let view = downstream.view();
    if let Some(filters) = route.filters()
        && let Some(reply) = cors::preflight(filters, view)
    {
        return Ok(Plan::Reply(reply));
    }
    let arm = match &route.action {
        CompiledAction::Forward(split) => split.at(chosen.point(worker, split, view)),
        CompiledAction::Respond(respond) => {
            scratch.series = worker.series.of_route(route);
            return Ok(Plan::Reply(reply::of_route(respond)));
        }
        CompiledAction::Redirect(to) => {
            scratch.series = worker.series.of_route(route);
            return Ok(Plan::Reply(redirect::reply(to, view, client)));
        }
        CompiledAction::ForwardSecure(split)
            if client.tls.is_some() || client.entry.is_cluster_local() =>
        {
            split.at(chosen.point(worker, split, view))
        }
        CompiledAction::ForwardSecure(_) => {
            scratch.series = worker.series.of_route(route);
            return Ok(Plan::Reply(redirect::to_https(view, worker.https_port)));
        }
    };
    telemetry::steer(worker, client, scratch, view, arm.filters());
    match arm.instead.as_deref() {
        None => {}
        Some(CompiledInstead::Respond(respond)) => {
            return Ok(Plan::Reply(reply::of_route(respond)));
        }
        Some(CompiledInstead::Redirect(to)) => {
            return Ok(Plan::Reply(redirect::reply(to, view, client)));
        }
    }
    let backend = snapshot.backend_of(arm);
    let Some(backend) = backend else {
        scratch.series = worker.series.of_route(route);
        return Err(Failure::NoBackend {
            backend: arm.backend.clone(),
        });
    };
    scratch.series = worker.series.of_arm(route, arm, backend);
    // Dropping the request to switch would leave the client with an answer to something else.
    if backend.protocol == Protocol::H2c && downstream.wants_upgrade() && websocket::is_asked(view)
    {
        return Err(Failure::WebSocketToHttp2 {
            backend: arm.backend.clone(),
        });
    }
    let filters = Pair::new(route, arm);
    let origin = Sender {
        view,
        client,
        address: scratch.client,
    };
    let extra = filters.extra(chosen.passage, &origin);
    let extra = match &scratch.span {
        None => extra,
        Some(span) => {
            let mut extra = extra.unwrap_or_default();
            span.tell(&mut extra.to_mut().last);
            Some(extra)
        }
    };
    let target = filters.target(view, chosen.passage);
    let mut extra = extra;
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
        return Ok(Plan::Reply(reply));
    }
    let original = Original { view, edits };
    // A tunnel has no end that a copy could wait for.
    let mirrors = filters.mirrors().filter(|_| !downstream.wants_upgrade());
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
        backend: Arc::clone(backend),
        framing: view.head.framing,
        is_idempotent: view.is_idempotent(),
        to_head: view.has_method("HEAD"),
        wants_upgrade: downstream.wants_upgrade() && backend.protocol == Protocol::Http1,
        is_web: translated.is_some(),
        effects,
        traffic,
        copies: (!copies.is_empty()).then(|| Box::new(RefCell::new(copies))),
        websocket,
    }))
}

/// Where the client's address is: as the route says, or else the gateway's settings, which are
/// about the proxies in front of it.
fn client_source<'a>(
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
