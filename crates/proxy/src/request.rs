//! One HTTP request, from route to answer.
//!
//! What becomes of it is decided in [`crate::plan`]. The slot is held until the answer's last byte.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use tokio::time::Instant;

use crate::attempt;
use crate::connection::Client;
use crate::downstream::{Downstream, Reply, Responder};
use crate::failure::Failure;
use crate::filter::cors;
use crate::filter::retry::Withheld;
use crate::grpc_web;
use crate::guard;
use crate::http2::frame::Reason;
use crate::overload::{self, InFlight};
use crate::panics::{Panicked, poll_caught};
use crate::plan::{Plan, plan};
use crate::rare::rare;
use crate::record::{End, Record};
use crate::reply;
use crate::rewrite;
use crate::spans::Open;
use crate::timeout::{Deadlines, Timer};
use crate::worker::{Scratch, Worker};

/// Times a request is turned to a backend that is reached another way since it was planned. Once
/// is enough, unless the backend does not come to rest.
const MOST_CHANGES: u32 = 8;

/// Serves one request, whatever happens.
pub(crate) fn handle<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    (scratch, timer): (&mut Scratch, &mut Timer),
    downstream: &mut D,
) -> impl Future<Output = ()> {
    async move {
        let start = worker.clock.now();
        let _in_flight = InFlight::new(worker);
        client.entry.counts.requests.add(1);
        scratch.span = Open::start(worker, client, downstream.view());
        let span = scratch.span.as_deref();
        let mut record = Record::start(worker, client, downstream.view(), span);
        scratch.series = None;
        scratch.client = None;
        scratch.is_trusted = false;
        scratch.told = None;
        scratch.answer_bytes = 0;
        scratch.new_status = None;
        scratch.is_told = false;
        scratch.for_pages.clear();
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
            Served::of(Err(Failure::Panicked.into()))
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
                let seen_by = (scratch.web.take(), std::mem::take(&mut scratch.for_pages));
                scratch.answer_bytes +=
                    rare(fail(worker, downstream, &failure, how, seen_by)).await;
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
}

/// How a request was served.
struct Served {
    result: Result<u16, Box<Failure>>,
    /// The flag of an answer of the gateway's own.
    answered: &'static str,
    /// A limit that is hit ends the answer rather than break it off.
    ends_late: bool,
}

impl Served {
    fn of(result: Result<u16, Box<Failure>>) -> Self {
        Self {
            result,
            answered: "",
            ends_late: false,
        }
    }
}

/// From the route to the end of the answer, or to what there is to tell instead.
fn serve<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    (scratch, timer): (&mut Scratch, &mut Timer),
    downstream: &mut D,
    (record, start): (&mut Record, Instant),
) -> impl Future<Output = Served> {
    async move {
        let to_head = downstream.view().has_method("HEAD");
        let mut planned = match overload::is_over(worker, &client.entry) {
            None => plan(worker, client, scratch, downstream),
            Some(shed) => overload::plan(worker, client, downstream.view(), shed),
        };
        if let Ok(Plan::Guarded(_) | Plan::Gated(_)) = &planned {
            planned = rare(guarded(worker, client, scratch, downstream, planned)).await;
        }
        if let Some(told) = &scratch.told {
            let ago = worker.clock.now() - start;
            let rest = (scratch.span.as_deref(), scratch.is_trusted, ago);
            record.steer(worker, client, downstream.view(), told, rest);
        }
        downstream.begin_body();
        let mut answered = "";
        let mut ends_late = false;
        let result = match planned {
            Ok(Plan::Reply(mut reply)) => {
                cors::put(&mut reply.headers, std::mem::take(&mut scratch.for_pages));
                let status = reply.status;
                answered = reply.flag;
                let reply = grpc_web::told(scratch.web.as_deref(), *reply);
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
            Ok(Plan::Forward(ref mut forward)) => {
                let may_tunnel = forward.wants_upgrade || forward.connect.is_some();
                ends_late = forward.backend.timeouts.ends_answer && !may_tunnel;
                let mut left = MOST_CHANGES;
                let sent = loop {
                    let mut tools = (&mut *scratch, &mut *timer);
                    let sent = match forward.tries() {
                        _ if forward.is_web => {
                            let rest = (start, &mut *record);
                            let tools = &mut tools;
                            rare(grpc_web::send(worker, forward, tools, downstream, rest)).await
                        }
                        None => {
                            let deadlines =
                                Deadlines::new(start, forward.timeouts(), worker.patience(tools.0));
                            let rest = (&mut *record, &deadlines, Withheld::default());
                            let tools = &mut tools;
                            let sent =
                                attempt::send(worker, forward, tools, downstream, rest).await;
                            sent.map_err(|lost| lost.failure)
                        }
                        Some(tries) => {
                            let rest = (start, &mut *record, tries);
                            let tools = &mut tools;
                            rare(attempt::try_often(worker, forward, tools, downstream, rest)).await
                        }
                    };
                    match sent {
                        Err(failure) if left > 0 && failure.is_turned() => {
                            left -= 1;
                            if let Err(failure) = rewrite::rewrite(worker, scratch, forward) {
                                break Err(failure.into());
                            }
                        }
                        sent => break sent,
                    }
                };
                if sent.is_err() {
                    scratch.for_pages = forward.for_pages();
                }
                let sent = sent.map(|()| scratch.status);
                if let Some(effects) = &forward.effects {
                    let status = match &sent {
                        // To those who measure, a tunnel is a tunnel, whatever began it.
                        Ok(200..=299) if forward.connect.is_some() => 101,
                        Ok(status) => *status,
                        Err(failure) => failure.status(),
                    };
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
}

/// Asks those who guard a request.
async fn guarded<D: Downstream>(
    worker: &Rc<Worker>,
    client: &Client,
    scratch: &mut Scratch,
    downstream: &mut D,
    planned: Result<Plan, Box<Failure>>,
) -> Result<Plan, Box<Failure>> {
    match planned {
        Ok(Plan::Guarded(guarded)) => {
            guard::pass(worker, client, scratch, downstream, guarded).await
        }
        Ok(Plan::Gated(gated)) => guard::enter(worker, client, scratch, downstream, gated).await,
        other => other,
    }
}

/// Tells the client, as far as it can still be told, and says how many bytes of a body it took.
/// If `is_ending`, an answer that a limit cuts is ended rather than broken off.
async fn fail<D: Downstream>(
    worker: &Worker,
    downstream: &mut D,
    failure: &Failure,
    (is_grpc, is_ending, to_head): (bool, bool, bool),
    (web, for_pages): (Option<Box<grpc_web::Form>>, Vec<(String, String)>),
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
    let mut reply = grpc_web::told(web.as_deref(), reply::of_failure(failure, is_grpc));
    cors::put(&mut reply.headers, for_pages);
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
