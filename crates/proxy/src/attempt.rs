//! The tries of one request: each reaches an endpoint and streams both ways.
//!
//! What may have reached a backend is sent again only if the route asks for it. What was not
//! acted on is, a bounded number of times, whatever the route says.

use std::pin::pin;
use std::rc::Rc;

use futures::future::Either;
use routing::model::Connect;
use tokio::time::Instant;

use crate::backend;
use crate::connect;
use crate::downstream::{Carrier, Responder};
use crate::failure::Failure;
use crate::filter::retry::{Lost, Tries, Withheld};
use crate::first::first;
use crate::forward::Forward;
use crate::http2::client::over_http2;
use crate::rare::rare;
use crate::record::Record;
use crate::timeout::{Deadlines, Timer};
use crate::traffic::Traffic;
use crate::upstream::exchange::{Exchange, Progress};
use crate::upstream::send::over_http1;
use crate::upstream::{Connection, Freshness};
use crate::worker::{Scratch, Worker};

/// Times a request that was not acted on is sent again.
const MAX_REPEATS: u32 = 2;

/// Sends a request as often as its route says.
pub(crate) async fn try_often<D: Carrier>(
    worker: &Rc<Worker>,
    forward: &Forward,
    tools: &mut (&mut Scratch, &mut Timer),
    downstream: &mut D,
    (start, record, tries): (Instant, &mut Record, &Tries),
) -> Result<(), Box<Failure>> {
    let timeouts = forward.timeouts();
    let mut made = 0;
    loop {
        let limits = tries.limits(timeouts, start);
        let deadlines = Deadlines::new(start, limits, worker.patience(tools.0));
        let rest = (&mut *record, &deadlines, tries.withheld(made));
        let Err(lost) = send(worker, forward, tools, downstream, rest).await else {
            return Ok(());
        };
        let is_over = timeouts
            .request
            .is_some_and(|total| start.elapsed() >= total);
        let is_spared = !lost.body_taken && !is_over && !downstream.parts().1.has_begun();
        let Some(pause) = tries
            .pause(&lost, made, worker.fraction())
            .filter(|_| is_spared)
        else {
            return Err(exhausted(lost.failure, made));
        };
        made += 1;
        if let Some(traffic) = &forward.traffic {
            traffic.again();
        }
        worker.counters.upstream_retries.add(1);
        let end = timeouts.request.map(|total| start + total);
        let pausing = tokio::time::sleep(pause);
        if tools.1.limit(|| end, pin!(pausing)).await.is_err() {
            return Err(Failure::RequestTimeout.into());
        }
    }
}

/// What is told after the last try.
fn exhausted(failure: Box<Failure>, made: u32) -> Box<Failure> {
    match *failure {
        Failure::Unanswered { .. } | Failure::Reset { .. } | Failure::Connect { .. }
            if made > 0 =>
        {
            Failure::Exhausted {
                tries: made + 1,
                last: failure,
            }
            .into()
        }
        _ => failure,
    }
}

/// Sends a request until one connection has taken it.
pub(crate) fn send<D: Carrier>(
    worker: &Rc<Worker>,
    forward: &Forward,
    (scratch, timer): &mut (&mut Scratch, &mut Timer),
    downstream: &mut D,
    (record, deadlines, withheld): (&mut Record, &Deadlines<'_>, Withheld<'_>),
) -> impl Future<Output = Result<(), Lost>> {
    async move {
        let effects = forward.effects.as_deref();
        let traffic = forward.traffic.as_deref();
        let is_repeatable = forward.is_idempotent && !downstream.has_body();
        let is_terminated = forward.connect == Some(Connect::Terminate);
        let mut freshness = if is_terminated {
            Freshness::Bare
        } else if is_repeatable {
            Freshness::Pooled
        } else {
            Freshness::Checked
        };
        let mut repeats = 0;
        loop {
            let reached = {
                let reaching = backend::reach_for(worker, &forward.backend, freshness, traffic);
                let (reaching, gone) = (pin!(reaching), pin!(downstream.gone()));
                let deadline = || deadlines.next();
                match timer.limit(deadline, first(reaching, gone)).await {
                    Ok(Either::Left(reached)) => reached,
                    Ok(Either::Right(())) => Err(Failure::ClientGone.into()),
                    Err(_) => Err(deadlines.passed().into()),
                }
            };
            let lost = |failure, progress: &Progress| Lost {
                failure,
                body_taken: progress.body_taken.get(),
                was_refused: progress.refused.get(),
                is_idempotent: forward.is_idempotent,
            };
            let reached = reached.map_err(|failure| lost(failure, &Progress::default()))?;
            let progress = Progress::default();
            let edits = match effects {
                Some(effects) => Some(&effects.answer),
                None => traffic.and_then(Traffic::answer),
            };
            let told = traffic.and_then(|traffic| {
                let endpoint = reached.slot.endpoint().address;
                traffic.told(worker, endpoint, edits)
            });
            record.sent(reached.slot.endpoint());
            let exchange = Exchange {
                worker,
                slot: &reached.slot,
                deadlines,
                progress: &progress,
                to_head: forward.to_head,
                wants_upgrade: forward.wants_upgrade,
                edits: told.as_deref().or(edits),
                withheld,
                forward,
                heard: record.heard(),
            };
            if let Some(span) = &mut scratch.span {
                span.sent(reached.slot.endpoint());
            }
            let is_reused = reached.connection.is_reused();
            let result = match reached.connection {
                Connection::Http1(connection) if is_terminated => {
                    let ended = connect::terminate(&exchange, connection, timer, downstream);
                    let result = rare(ended).await;
                    scratch.status = progress.status.get();
                    result
                }
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
                    let head = (scratch.head(), &mut **timer);
                    let result = over_http2(&exchange, sender, head, downstream).await;
                    scratch.status = progress.status.get();
                    result
                }
            };
            scratch.answer_bytes = progress.answer_bytes.get();
            scratch.new_status = progress.new_status.get();
            record.tunneled(progress.tunneled.get());
            if let Some(traffic) = traffic {
                traffic.ended(
                    &reached.slot,
                    progress.status.get(),
                    result.as_ref().err().map(|it| &**it),
                );
            }
            let Err(failure) = result else { return Ok(()) };
            if !matches!(*failure, Failure::Unanswered { .. }) {
                return Err(lost(failure, &progress));
            }
            if repeats == MAX_REPEATS
                || !progress.is_repeatable(is_reused, forward.is_idempotent, downstream.has_body())
            {
                return Err(lost(failure, &progress));
            }
            repeats += 1;
            worker.counters.upstream_retries.add(1);
            freshness = Freshness::Fresh;
        }
    }
}
