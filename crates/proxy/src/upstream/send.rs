//! One request over one upstream connection.
//!
//! Both directions run at once: a server may answer before it has read the request, and a stream
//! may go both ways for hours. The request's side ends with a failure or not at all; the
//! answer's side decides when the exchange is over.

use std::pin::{Pin, pin};

use futures::future::Either;
use scaling::Slot;

use crate::buffer::Buffer;
use crate::downstream::{Answer, Carrier, Responder};
use crate::failure::Failure;
use crate::first::first;
use crate::http1::body::Framing;
use crate::http1::head::ResponseHead;
use crate::http1::sink::Http1Sink;
use crate::http1::source::{Http1Source, Input};
use crate::message::{Chunk, Sink, SinkError, Source, SourceError};
use crate::rare::rare;
use crate::timeout::{Deadlines, Timer};
use crate::upgrade;
use crate::upstream::exchange::{Done, Exchange};
use crate::upstream::pool::Http1Connection;
use crate::upstream::remake::{self, Remade};
use crate::worker::{Scratch, Worker};

/// Where answers come from.
pub(crate) trait Answers: Source {
    /// The next head: interim ones first, then the final one.
    async fn head(&mut self) -> Result<Answer<'_>, Box<Failure>>;
    /// Goes on to the next head.
    fn skip_head(&mut self);
    /// Goes on to the body.
    fn begin_body(&mut self);
}

/// An upstream HTTP/1.1 connection during one exchange.
pub(crate) struct Http1Upstream<'s> {
    pub(crate) sink: Http1Sink<'s>,
    pub(crate) answers: Http1Answers<'s>,
}

/// Reads answers of an HTTP/1.1 server.
pub(crate) struct Http1Answers<'s> {
    pub(crate) source: Http1Source<'s>,
    pub(crate) head: Lent<'s>,
    slot: &'s Slot,
    to_head: bool,
    limit: usize,
}

/// The head of an answer, in memory that is borrowed once it has come.
pub(crate) struct Lent<'s> {
    worker: &'s Worker,
    head: Option<Box<ResponseHead>>,
}

impl<'s> Lent<'s> {
    fn of(worker: &'s Worker) -> Self {
        Self { worker, head: None }
    }

    fn get(&mut self) -> &mut ResponseHead {
        self.head.get_or_insert_with(|| self.worker.answer())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(head) = self.head.take() {
            self.worker.recycle_answer(head);
        }
    }
}

/// Sends the head in `scratch`, then the body, and passes the answer on. The connection goes
/// back to the pool if both sides agree that it is clean.
pub(crate) fn over_http1<D: Carrier>(
    exchange: &Exchange<'_>,
    mut connection: Box<Http1Connection>,
    (scratch, timer): (&mut Scratch, &mut Timer),
    downstream: &mut D,
    framing: Framing,
) -> impl Future<Output = Result<(), Box<Failure>>> {
    async move {
        let worker = exchange.worker;
        let (read, write) = connection.stream.split();
        let mut upstream = Http1Upstream {
            sink: Http1Sink::new(write, worker.buffers.clone()),
            answers: Http1Answers {
                source: Http1Source::new(read, Buffer::new(worker.buffers.clone())),
                head: Lent::of(worker),
                slot: exchange.slot,
                to_head: exchange.to_head,
                limit: worker.limits.head_bytes,
            },
        };
        upstream.sink.out().extend_from_slice(scratch.head());
        upstream.sink.begin_body(framing);
        let result = relay(
            exchange,
            timer,
            downstream,
            &mut upstream.sink,
            &mut upstream.answers,
        )
        .await;
        let result = match result {
            Ok(Done::Switching) => tunnel(exchange, timer, downstream, &mut upstream)
                .await
                .map(|()| false),
            Ok(Done::Complete) => Ok(upstream.is_reusable(exchange)),
            Err(failure) => Err(failure),
        };
        let ResponseHead {
            status, keep_alive, ..
        } = *upstream.answers.head.get();
        scratch.status = status;
        upstream.sink.clear();
        drop(upstream);
        if result? {
            let now = worker.clock.recent();
            worker
                .pool
                .put(exchange.endpoint(), connection, keep_alive, now);
        }
        Ok(())
    }
}

/// Moves both directions until the answer is complete or one side fails.
pub(crate) fn relay<D: Carrier>(
    exchange: &Exchange<'_>,
    timer: &mut Timer,
    downstream: &mut D,
    sink: &mut impl Sink,
    answers: &mut impl Answers,
) -> impl Future<Output = Result<Done, Box<Failure>>> {
    async move {
        let (body, responder) = downstream.parts();
        let deadlines = exchange.deadlines;
        let download = pin!(download(exchange, answers, responder));
        let upload = pin!(upload(exchange, body, sink));
        // An answer that has come makes looking after the client unnecessary.
        let both = first(download, upload);
        match timer.limit(|| deadlines.next(), both).await {
            Ok(Either::Left(done)) => done,
            Ok(Either::Right(failure)) => Err(failure),
            Err(_) => Err(deadlines.passed().into()),
        }
    }
}

/// Sends the request, then watches the client. Resolves only when the client fails.
/// A client that ends its sending direction counts as gone, as it does for Go's server in Knative's
/// own data path: nothing tells it from one that closed.
fn upload(
    exchange: &Exchange<'_>,
    body: &mut impl Source,
    sink: &mut impl Sink,
) -> impl Future<Output = Box<Failure>> {
    async move {
        let Exchange {
            deadlines,
            progress,
            ..
        } = exchange;
        // The head does not wait for a body that is not there yet; the server may want to say
        // whether it wants it (100-continue).
        let waits = exchange.connects() || !body.has_input();
        if waits && !send(exchange, sink.flush().await) {
            return std::future::pending().await;
        }
        if exchange.connects() {
            // What comes now waits for the tunnel.
            progress.sent.set(true);
            body.gone().await;
            return Failure::ClientGone.into();
        }
        let (mut taken, most) = (0, exchange.most_bytes());
        loop {
            deadlines.reading();
            let chunk = match body.next().await {
                Ok(chunk) => chunk,
                Err(SourceError::Malformed(reason)) => return Failure::BadRequest(reason).into(),
                Err(SourceError::Gone | SourceError::Reset(_)) => {
                    return Failure::ClientGone.into();
                }
            };
            deadlines.took(chunk.data.len());
            let last = chunk.last;
            taken += chunk.data.len() as u64;
            if let Some(limit) = most.filter(|limit| taken > *limit) {
                return Failure::BodyTooLarge { limit }.into();
            }
            progress.body_taken.set(taken > 0);
            if let Some(copies) = &exchange.forward.copies {
                copies.borrow_mut().write(chunk.data, last);
            }
            if !send(exchange, sink.write(chunk).await) {
                // The server stopped reading. Its answer, if it gave one, is still to be read.
                return std::future::pending().await;
            }
            deadlines.progress();
            if last {
                progress.sent.set(true);
                break;
            }
        }
        body.gone().await;
        Failure::ClientGone.into()
    }
}

/// Notes that something was accepted by the upstream, or that it was not.
fn send(exchange: &Exchange<'_>, result: Result<(), SinkError>) -> bool {
    exchange
        .progress
        .refused
        .set(result.is_err() && !exchange.progress.accepted.get());
    exchange
        .progress
        .accepted
        .set(exchange.progress.accepted.get() || result.is_ok());
    result.is_ok()
}

/// Passes the answer on: interim heads, the final head, the body.
fn download(
    exchange: &Exchange<'_>,
    answers: &mut impl Answers,
    responder: &mut impl Responder,
) -> impl Future<Output = Result<Done, Box<Failure>>> {
    async move {
        let deadlines = exchange.deadlines;
        let remade = loop {
            let answer = match first(pin!(answers.head()), pin!(responder.gone())).await {
                Either::Left(answer) => answer?,
                Either::Right(()) => return Err(Failure::ClientGone.into()),
            };
            deadlines.answered();
            exchange.progress.answered.set(true);
            match answer.head.status {
                _ if exchange.forward.misses_websocket(&answer) => {
                    return Err(Failure::BadAnswer {
                        endpoint: exchange.endpoint(),
                        reason: "it did not become a WebSocket",
                    }
                    .into());
                }
                101 if exchange.wants_upgrade => return Ok(Done::Switching),
                200..=299 if exchange.connects() => {
                    note(exchange, &answer);
                    return Ok(Done::Switching);
                }
                101 => {
                    return Err(Failure::BadAnswer {
                        endpoint: exchange.endpoint(),
                        reason: "101 that nobody asked for",
                    }
                    .into());
                }
                100..=199 => responder
                    .inform(answer)
                    .await
                    .map_err(|_| Failure::ClientGone)?,
                status if exchange.withholds(&answer) => {
                    return Err(Failure::Withheld { status }.into());
                }
                _ => break begin(exchange, answer, responder)?,
            }
            answers.skip_head();
        };
        answers.begin_body();
        if let Some(remade) = remade {
            return rare(remake::pass(exchange, answers, responder, remade.body)).await;
        }
        loop {
            if !answers.has_input() {
                write(deadlines, pin!(responder.flush())).await?;
            }
            let chunk = match first(pin!(answers.next()), pin!(responder.gone())).await {
                Either::Left(chunk) => chunk.map_err(|error| broken(exchange, error))?,
                Either::Right(()) => return Err(Failure::ClientGone.into()),
            };
            let last = chunk.last;
            let passed = &exchange.progress.answer_bytes;
            passed.set(passed.get() + chunk.data.len() as u64);
            exchange.hear(&chunk);
            write(deadlines, pin!(responder.write(chunk))).await?;
            deadlines.progress();
            if last {
                return Ok(Done::Complete);
            }
        }
    }
}

/// Tells whom it concerns of the final answer.
fn note(exchange: &Exchange<'_>, answer: &Answer<'_>) {
    exchange.progress.status.set(answer.status());
    #[cfg(test)]
    crate::panics::faults::answer(answer, "answer");
    exchange.slot.answered();
    if let Some(heard) = exchange.heard {
        heard.head(answer);
    }
}

/// Queues the head of the final answer, changed if its route says so.
fn begin(
    exchange: &Exchange<'_>,
    answer: Answer<'_>,
    responder: &mut impl Responder,
) -> Result<Option<Box<Remade>>, Box<Failure>> {
    note(exchange, &answer);
    let late = exchange.edits.and_then(|edits| edits.with(&answer));
    let edits = late.as_ref().or(exchange.edits);
    let remade = remake::remade(answer, edits, exchange.to_head);
    let mut told = answer;
    if let Some(remade) = &remade {
        told.head = &remade.head;
        exchange.progress.new_status.set(Some(remade.head.status));
    }
    responder
        .respond(told, edits, exchange.progress.sent.get())
        .map_err(|_| Failure::ClientGone)?;
    #[cfg(test)]
    crate::panics::faults::answer(&answer, "told");
    Ok(remade)
}

/// Sends something that the client has to take in time. It comes pinned: an async function keeps
/// what it is given twice.
pub(crate) async fn write(
    deadlines: &Deadlines<'_>,
    writing: Pin<&mut impl Future<Output = Result<(), SinkError>>>,
) -> Result<(), Box<Failure>> {
    deadlines.writing(true);
    let written = writing.await;
    deadlines.writing(false);
    written.map_err(|_| Failure::ClientGone.into())
}

pub(crate) fn broken(exchange: &Exchange<'_>, error: SourceError) -> Failure {
    let endpoint = exchange.endpoint();
    match error {
        SourceError::Gone => Failure::AnswerCut { endpoint },
        SourceError::Malformed(reason) => Failure::BadAnswer { endpoint, reason },
        SourceError::Reset(reason) => Failure::Reset { endpoint, reason },
    }
}

/// Runs an upgraded connection, or a tunnel that the server agreed to.
async fn tunnel<D: Carrier>(
    exchange: &Exchange<'_>,
    timer: &mut Timer,
    downstream: &mut D,
    upstream: &mut Http1Upstream<'_>,
) -> Result<(), Box<Failure>> {
    let Http1Upstream { sink, answers } = upstream;
    let (source, head) = (&mut answers.source, answers.head.get());
    let edits = exchange.edits.filter(|_| exchange.connects());
    let tunnel = async {
        if exchange.connects() {
            // Whatever it says of a body (RFC 9112 §6.3).
            head.framing = Framing::Close;
        }
        let bytes = source.buffer.filled();
        downstream.switch(Answer { head, bytes }, edits).await?;
        source.begin_body(head.len, Framing::Close);
        downstream.tunnel((source, sink), exchange).await
    };
    upgrade::run(exchange, timer, tunnel).await
}

impl Http1Upstream<'_> {
    /// Whether the connection is at a message's end on both sides and stays open.
    fn is_reusable(&mut self, exchange: &Exchange<'_>) -> bool {
        let persistent = self.answers.head.get().persistent;
        let source = &self.answers.source;
        // A server that refuses a tunnel may have begun one all the same.
        !exchange.connects()
            && exchange.progress.sent.get()
            && persistent
            && source.is_done()
            // What came after the answer belongs to no request.
            && source.is_drained()
            && !exchange.worker.is_draining()
    }
}

impl Answers for Http1Answers<'_> {
    async fn head(&mut self) -> Result<Answer<'_>, Box<Failure>> {
        let slot = self.slot;
        let endpoint = || slot.endpoint().address;
        let bad = |reason| {
            let endpoint = endpoint();
            Box::new(Failure::BadAnswer { endpoint, reason })
        };
        loop {
            match self.source.fill_head(self.limit).await {
                Ok(Input::Some) => {}
                Ok(Input::TooLong) => return Err(bad("its head is too large")),
                // Some bytes, but no head: a request that may have been acted on.
                Ok(Input::Ended) | Err(_) if !self.source.buffer.is_empty() => {
                    return Err(bad("its head is cut"));
                }
                Ok(Input::Ended) | Err(_) => {
                    let endpoint = endpoint();
                    return Err(Failure::Unanswered { endpoint }.into());
                }
            }
            match self
                .head
                .get()
                .parse(self.source.buffer.filled(), self.to_head)
            {
                Ok(true) => break,
                Ok(false) => {}
                Err(crate::http1::head::HeadError::Malformed(reason)) => return Err(bad(reason)),
                Err(_) => return Err(bad("its head is not valid")),
            }
        }
        Ok(Answer {
            head: self.head.get(),
            bytes: self.source.buffer.filled(),
        })
    }

    fn skip_head(&mut self) {
        let len = self.head.get().len;
        self.source.begin_body(len, Framing::None);
    }

    fn begin_body(&mut self) {
        let ResponseHead { len, framing, .. } = *self.head.get();
        self.source.begin_body(len, framing);
    }
}

impl Source for Http1Answers<'_> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        self.source.next().await
    }

    fn has_input(&self) -> bool {
        self.source.has_input()
    }

    async fn gone(&mut self) {
        self.source.gone().await;
    }
}
