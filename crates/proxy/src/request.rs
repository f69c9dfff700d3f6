//! One HTTP request, from route to answer.
//!
//! The snapshot is loaded once and only while the request is planned: a second load could route
//! by one generation and edit by another. The slot is held until the answer's last byte.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use routing::model::{Protocol, Respond, Timeouts};
use routing::{
    Backend, CompiledAction, CompiledArm, CompiledInstead, CompiledRoute, CompiledSplit,
    CompiledTls, CompiledTlsAction, RequestView, Snapshot,
};
use tokio::time::Instant;

use crate::backend;
use crate::connection::Client;
use crate::downstream::{Downstream, Reply, Responder};
use crate::edits::Edits;
use crate::entry::Entry;
use crate::failure::Failure;
use crate::filter::mirror::{self, Copies, Original};
use crate::filter::retry::{Tries, Withheld};
use crate::filter::{Effects, Pair, cors, redirect};
use crate::guard::{self, Guarded, Passage};
use crate::http1::body::Framing;
use crate::http1::edit;
use crate::http2::client::over_http2;
use crate::http2::encode;
use crate::http2::frame::Reason;
use crate::message::View;
use crate::rare::rare;
use crate::record::{End, Record};
use crate::seen::Seen;
use crate::session;
use crate::target;
use crate::timeout::{Deadlines, Timer};
use crate::traffic::Traffic;
use crate::upstream::send::{Exchange, Progress, over_http1};
use crate::upstream::{Connection, Freshness};
use crate::worker::{Scratch, Worker};

/// Says in a log that a probe was answered for a revision.
pub(crate) const PROBE: &str = "probe";
/// Times a request that was not acted on is sent again.
const MAX_REPEATS: u32 = 2;

/// What becomes of a request.
pub(crate) enum Plan {
    Reply(Reply),
    Forward(Forward),
    /// Its route asks more of it first.
    Guarded(Guarded),
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
    backend: Arc<Backend>,
    /// Of the request as it is sent.
    framing: Framing,
    is_idempotent: bool,
    to_head: bool,
    wants_upgrade: bool,
    /// What the route's filters do from here on; most routes have none.
    pub(crate) effects: Option<Box<Effects>>,
    /// What the backend's policy wants; most have none.
    traffic: Option<Box<Traffic>>,
    /// Copies that wait for the body.
    copies: Option<Box<RefCell<Copies>>>,
}

impl Forward {
    fn timeouts(&self) -> Timeouts {
        let effects = self.effects.as_deref();
        effects.map_or(self.backend.timeouts, |effects| effects.timeouts)
    }

    /// What the route says about tries, if it says anything.
    fn tries(&self) -> Option<&Tries> {
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
    let start = Instant::now();
    worker.counters.requests_open.add(1);
    let mut record = Record::start(&worker.logs, client, downstream.view());
    scratch.series = None;
    scratch.answer_bytes = 0;
    let is_grpc = downstream.view().is_grpc();
    let planned = match plan(worker, client, scratch, downstream) {
        Ok(Plan::Guarded(guarded)) => {
            rare(guard::pass(worker, client, scratch, downstream, guarded)).await
        }
        other => other,
    };
    downstream.begin_body();
    let mut answered = "";
    let result = match planned {
        Ok(Plan::Reply(reply)) => {
            let status = reply.status;
            answered = reply.flag;
            scratch.answer_bytes = reply.body.len() as u64;
            rare(downstream.reply(reply)).await;
            Ok(status)
        }
        // Passed its guards above.
        Ok(Plan::Guarded(_)) => Ok(0),
        // Not moved: what is moved counts twice in the future.
        Ok(Plan::Forward(ref forward)) => {
            let mut tools = (&mut *scratch, &mut *timer);
            let sent = match forward.tries() {
                None => {
                    let deadlines = Deadlines::new(start, forward.timeouts(), worker.limits.stall);
                    let rest = (&mut record, &deadlines, Withheld::default());
                    let sent = send(worker, forward, &mut tools, downstream, rest).await;
                    sent.map_err(|(failure, _)| failure)
                }
                Some(tries) => {
                    let rest = (start, &mut record, tries);
                    rare(try_often(worker, forward, &mut tools, downstream, rest)).await
                }
            };
            let sent = sent.map(|()| scratch.response.status);
            if let Some(effects) = &forward.effects {
                let status = sent.as_ref().map_or_else(Failure::status, |status| *status);
                effects.after.ended(worker, status);
            }
            sent
        }
        Err(failure) => Err(failure),
    };
    let (status, flag) = match &result {
        Ok(status) => (*status, answered),
        Err(failure) => (failure.status(), failure.flag()),
    };
    if let Err(failure) = result {
        worker.counters.failures.add(1);
        rare(fail(downstream, &failure, is_grpc)).await;
    }
    let took = start.elapsed();
    let series = scratch.series.take();
    worker.counters.answered(status, took);
    if let Some(series) = &series {
        series.answered(worker.thread, status, took);
    }
    worker.counters.requests_open.sub(1);
    let end = End {
        status,
        flag,
        bytes: scratch.answer_bytes,
        took,
    };
    record.finish(worker, series.as_deref(), &end);
}

/// Tells the client, as far as it can still be told.
async fn fail<D: Downstream>(downstream: &mut D, failure: &Failure, is_grpc: bool) {
    if matches!(failure, Failure::ClientGone) {
        return downstream.abort(Reason::CANCEL);
    }
    if downstream.parts().1.has_begun() {
        let reason = match failure {
            Failure::Reset { reason, .. } => *reason,
            _ => Reason::INTERNAL_ERROR,
        };
        return downstream.abort(reason);
    }
    downstream.reply(failure_reply(failure, is_grpc)).await;
}

/// The answer that tells of a failure.
pub(crate) fn failure_reply(failure: &Failure, is_grpc: bool) -> Reply {
    let kind = ("Content-Type", "text/plain; charset=utf-8");
    let fields = [kind].into_iter().chain(failure.field());
    Reply {
        status: failure.status(),
        headers: fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        body: format!("{failure}\n"),
        grpc: is_grpc.then(|| failure.grpc_status()),
        close: failure.closes_connection(),
        flag: "",
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
    if view.method() == "CONNECT" {
        return Err(Failure::ConnectMethod);
    }
    if target::has_dot_segment(view.target().as_bytes()) {
        return Err(Failure::DotSegment);
    }
    let framing = view.head.framing;
    if let (Framing::Length(length), Some(limit)) = (framing, worker.limits.body_bytes)
        && length > limit
    {
        return Err(Failure::BodyTooLarge { limit });
    }
    let snapshot = worker.snapshots.current();
    if let Some(tls) = &client.tls
        && is_misdirected(&snapshot, &client.entry, tls, view.authority())
    {
        return Err(Failure::Misdirected);
    }
    let Some(route) = client.entry.select(&snapshot, &Seen::new(view, client)) else {
        return Err(Failure::NoRoute {
            method: view.method().to_owned(),
            host: view.authority().to_owned(),
            path: view.path().to_owned(),
        });
    };
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
            return Ok(Plan::Reply(reply(respond)));
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
    match &arm.instead {
        None => {}
        Some(CompiledInstead::Respond(respond)) => return Ok(Plan::Reply(reply(respond))),
        Some(CompiledInstead::Redirect(to)) => {
            return Ok(Plan::Reply(redirect::reply(to, view, client)));
        }
    }
    let backend = snapshot.backend_of(arm);
    scratch.series = worker
        .series
        .of_arm(route, arm, backend.map(|backend| &**backend));
    let Some(backend) = backend else {
        return Err(Failure::NoBackend {
            backend: arm.backend.clone(),
        });
    };
    // Dropping the request to switch would leave the client with an answer to something else.
    if backend.protocol == Protocol::H2c && downstream.wants_upgrade() && wants_websocket(view) {
        return Err(Failure::WebSocketToHttp2 {
            backend: arm.backend.clone(),
        });
    }
    let filters = Pair::new(route, arm);
    let extra = filters.extra(chosen.passage, view, client);
    let target = filters.target(view, chosen.passage);
    let edits = Edits {
        extra: extra.as_deref(),
        ..edits(route, arm, backend, client, target.as_deref())
    };
    if let Some(reply) = probe(view, backend, &edits) {
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
    let mut effects = filters.effects(view, client, backend.timeouts);
    let traffic = Traffic::plan(worker, backend, (view, client), effects.as_deref_mut());
    Ok(Plan::Forward(Forward {
        backend: Arc::clone(backend),
        framing: view.head.framing,
        is_idempotent: view.is_idempotent(),
        to_head: view.method() == "HEAD",
        wants_upgrade: downstream.wants_upgrade() && backend.protocol == Protocol::Http1,
        effects,
        traffic,
        copies: (!copies.is_empty()).then(|| Box::new(RefCell::new(copies))),
    }))
}

fn wants_websocket(view: View<'_>) -> bool {
    view.field("upgrade")
        .is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
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
        (CompiledTlsAction::Passthrough(_) | CompiledTlsAction::Relay(..), _) => true,
        (
            CompiledTlsAction::Terminate(_),
            CompiledTlsAction::Passthrough(_) | CompiledTlsAction::Relay(..),
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
        peer: &client.peer,
    }
}

/// Sends a request as often as its route says.
async fn try_often<D: Downstream>(
    worker: &Rc<Worker>,
    forward: &Forward,
    tools: &mut (&mut Scratch, &mut Timer),
    downstream: &mut D,
    (start, record, tries): (Instant, &mut Record, &Tries),
) -> Result<(), Failure> {
    let timeouts = forward.timeouts();
    let mut made = 0;
    loop {
        let limits = tries.limits(timeouts, start);
        let deadlines = Deadlines::new(start, limits, worker.limits.stall);
        let rest = (&mut *record, &deadlines, tries.withheld(made));
        let Err((failure, body_taken)) = send(worker, forward, tools, downstream, rest).await
        else {
            return Ok(());
        };
        let is_over = timeouts
            .request
            .is_some_and(|total| start.elapsed() >= total);
        let is_spared = !body_taken && !is_over && !downstream.parts().1.has_begun();
        let Some(pause) = tries
            .pause(&failure, made, worker.fraction())
            .filter(|_| is_spared)
        else {
            return Err(exhausted(failure, made));
        };
        made += 1;
        if let Some(traffic) = &forward.traffic {
            traffic.again();
        }
        worker.counters.upstream_retries.add(1);
        let end = timeouts.request.map(|total| start + total);
        let pausing = tokio::time::sleep(pause);
        if tools.1.limit(|| end, pin!(pausing)).await.is_err() {
            return Err(Failure::RequestTimeout);
        }
    }
}

/// What is told after the last try.
fn exhausted(failure: Failure, made: u32) -> Failure {
    match failure {
        Failure::Unanswered { .. } | Failure::Reset { .. } | Failure::Connect { .. }
            if made > 0 =>
        {
            Failure::Exhausted {
                tries: made + 1,
                last: Box::new(failure),
            }
        }
        other => other,
    }
}

/// Sends a request until one connection has taken it. A failure comes with whether some of the
/// client's body is gone.
async fn send<D: Downstream>(
    worker: &Rc<Worker>,
    forward: &Forward,
    (scratch, timer): &mut (&mut Scratch, &mut Timer),
    downstream: &mut D,
    (record, deadlines, withheld): (&mut Record, &Deadlines, Withheld<'_>),
) -> Result<(), (Failure, bool)> {
    let effects = forward.effects.as_deref();
    let traffic = forward.traffic.as_deref();
    let is_repeatable = forward.is_idempotent && !downstream.has_body();
    let mut freshness = if is_repeatable {
        Freshness::Pooled
    } else {
        Freshness::Checked
    };
    let mut repeats = 0;
    loop {
        let reached = async {
            tokio::select! {
                biased;
                reached = backend::reach_for(worker, &forward.backend, freshness, traffic) => reached,
                () = downstream.gone() => Err(Failure::ClientGone),
            }
        };
        let reached = timer.limit(|| deadlines.next(), pin!(reached)).await;
        let reached = reached.unwrap_or_else(|_| Err(deadlines.passed().into()));
        let reached = reached.map_err(|failure| (failure, false))?;
        let progress = Progress::default();
        let endpoint = reached.slot.endpoint().address;
        let edits = match effects {
            Some(effects) => Some(&effects.answer),
            None => traffic.and_then(Traffic::answer),
        };
        let told = traffic.and_then(|traffic| traffic.told(worker, endpoint, edits));
        let exchange = Exchange {
            worker,
            endpoint,
            deadlines,
            progress: &progress,
            to_head: forward.to_head,
            wants_upgrade: forward.wants_upgrade,
            edits: told.as_deref().or(edits),
            withheld,
            max_body: effects.and_then(|effects| effects.after.max_body),
            copies: forward.copies.as_deref(),
        };
        record.sent(reached.slot.endpoint());
        let is_reused = reached.connection.is_reused();
        let result = match reached.connection {
            Connection::Http1(connection) => {
                over_http1(
                    &exchange,
                    connection,
                    (scratch, timer),
                    downstream,
                    forward.framing,
                )
                .await
            }
            Connection::Http2(sender) => {
                let head = (&*scratch.upstream_head, &mut **timer);
                let result = rare(over_http2(&exchange, sender, head, downstream)).await;
                scratch.response.status = progress.status.get();
                result
            }
        };
        scratch.answer_bytes = progress.answer_bytes.get();
        if let Some(traffic) = traffic {
            traffic.ended(&reached.slot, progress.status.get(), result.as_ref().err());
        }
        let Err(failure) = result else { return Ok(()) };
        if !matches!(failure, Failure::Unanswered { .. }) {
            return Err((failure, progress.body_taken.get()));
        }
        if repeats == MAX_REPEATS
            || !progress.is_repeatable(is_reused, forward.is_idempotent, downstream.has_body())
        {
            return Err((failure, progress.body_taken.get()));
        }
        repeats += 1;
        worker.counters.upstream_retries.add(1);
        freshness = Freshness::Fresh;
    }
}

fn reply(respond: &Respond) -> Reply {
    let headers = respond
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Reply {
        status: respond.status,
        headers: headers.collect(),
        body: respond.body.to_string(),
        ..Reply::default()
    }
}

/// Knative's probes of a revision's data path are answered by whatever stands for activator and
/// queue-proxy, which is us (knative/networking, `pkg/http/probe/handler.go`).
fn probe(view: View<'_>, backend: &Backend, edits: &Edits<'_>) -> Option<Reply> {
    backend.activation.as_ref()?;
    if !view.head.fields.has_internal {
        return None;
    }
    let probe = view.field("k-network-probe")?;
    let hash = edits
        .value("k-network-hash", view.field("k-network-hash"))
        .unwrap_or_default();
    let text = |status, body: &str| Reply {
        status,
        body: body.into(),
        flag: PROBE,
        ..Reply::default()
    };
    Some(match probe {
        b"activator" => text(200, "activator"),
        b"queue" => text(200, "queue"),
        b"probe" if !hash.is_empty() => {
            let hash = String::from_utf8_lossy(hash).into_owned();
            Reply {
                status: 200,
                headers: vec![("K-Network-Hash".into(), hash)],
                flag: PROBE,
                ..Reply::default()
            }
        }
        b"probe" => text(
            400,
            "a probe request must contain a non-empty \"K-Network-Hash\" header",
        ),
        _ => text(400, "unexpected probe header value"),
    })
}
