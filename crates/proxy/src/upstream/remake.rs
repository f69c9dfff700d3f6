//! Answers that go on with another status or body than their backend's.
//!
//! A new body is sent at once, whatever the backend still sends: that is read on for a while, so
//! that its connection can be used again, and then given up.

use std::pin::pin;
use std::time::Duration;

use routing::model::Bytes;

use super::exchange::{Done, Exchange};
use super::send::{Answers, broken, write};
use crate::downstream::{Answer, Responder};
use crate::failure::Failure;
use crate::filter::answer::{AnswerEdits, has_no_body};
use crate::http1::body::Framing;
use crate::http1::field::Kind;
use crate::http1::head::{ResponseHead, Version};
use crate::message::Chunk;

/// The most bytes of a body that nobody gets which are read for the sake of the connection.
const MOST_DRAINED: usize = 256 * 1024;
/// The longest that this takes; a client may wait for it with its next request.
const LONGEST_DRAIN: Duration = Duration::from_millis(200);

/// What is sent in place of an answer.
pub(crate) struct Remade {
    /// Its spans point into the bytes of the answer.
    pub(crate) head: ResponseHead,
    pub(crate) body: NewBody,
}

/// The body of a [`Remade`] answer.
pub(crate) enum NewBody {
    Whole(Bytes),
    /// The backend's, with something before and after it.
    Around(Option<Bytes>, Option<Bytes>),
}

/// `None` if status and body stay.
pub(crate) fn remade(
    answer: Answer<'_>,
    edits: Option<&AnswerEdits>,
    to_head: bool,
) -> Option<Box<Remade>> {
    let edits = edits?;
    if edits.status.is_none() && edits.body.is_empty() {
        return None;
    }
    let status = edits.status.unwrap_or(answer.head.status);
    let mut head = answer.head.clone();
    // Its line is still among the bytes, and must be known to be left out.
    for field in &mut head.fields.list {
        if field.kind == Kind::ContentLength {
            field.kind = Kind::HopByHop;
        }
    }
    head.fields.content_length = None;
    if head.status != status {
        // No phrase of its own, as over HTTP/2: the backend's belongs to the other status.
        head.version = Version::Http2;
    }
    head.status = status;
    let is_bare = has_no_body(status);
    head.framing = match length(answer, edits, to_head) {
        _ if is_bare => Framing::None,
        Some(length) => Framing::Length(length),
        None => head.framing,
    };
    let edit = &edits.body;
    let body = match &edit.replace {
        _ if is_bare => NewBody::Whole(Vec::new().into()),
        Some(new) if edit.before.is_none() && edit.after.is_none() => NewBody::Whole(new.clone()),
        Some(new) => {
            let parts = [edit.before.as_ref(), Some(new), edit.after.as_ref()];
            let parts: Vec<&[u8]> = parts.into_iter().flatten().map(|part| &*part.0).collect();
            NewBody::Whole(parts.concat().into())
        }
        None => NewBody::Around(edit.before.clone(), edit.after.clone()),
    };
    Some(Box::new(Remade { head, body }))
}

/// Bytes of the new body, as far as they are known now.
fn length(answer: Answer<'_>, edits: &AnswerEdits, to_head: bool) -> Option<u64> {
    let long = |part: &Option<Bytes>| part.as_ref().map_or(0, |part| part.0.len() as u64);
    let edit = &edits.body;
    let around = long(&edit.before) + long(&edit.after);
    let head = answer.head;
    let own = match head.framing {
        _ if edit.replace.is_some() => Some(long(&edit.replace)),
        Framing::Length(length) => Some(length),
        Framing::None if has_no_body(head.status) && !to_head => Some(0),
        // Empty, or of the body that another method would get.
        Framing::None => head.fields.content_length,
        Framing::Chunked | Framing::Close => None,
    };
    own.map(|own| own.saturating_add(around))
}

/// Sends the body and ends the exchange.
pub(crate) async fn pass(
    exchange: &Exchange<'_>,
    answers: &mut impl Answers,
    responder: &mut impl Responder,
    body: NewBody,
) -> Result<Done, Box<Failure>> {
    match body {
        NewBody::Whole(body) => {
            send(exchange, responder, chunk(&body.0, true)).await?;
            drain(answers).await;
        }
        NewBody::Around(before, after) => {
            if let Some(before) = before {
                send(exchange, responder, chunk(&before.0, false)).await?;
            }
            around(exchange, answers, responder, after.as_ref()).await?;
        }
    }
    Ok(Done::Complete)
}

fn chunk(data: &[u8], last: bool) -> Chunk<'_> {
    Chunk {
        data,
        last,
        trailers: None,
    }
}

/// Reads what nobody gets. If it is too much, the connection or the stream is given up.
async fn drain(answers: &mut impl Answers) {
    let drained = async {
        let mut left = MOST_DRAINED;
        while let Ok(chunk) = answers.next().await {
            match left.checked_sub(chunk.data.len()) {
                Some(rest) if !chunk.last => left = rest,
                _ => return,
            }
        }
    };
    let _ = tokio::time::timeout(LONGEST_DRAIN, drained).await;
}

/// Passes the backend's body on, and sends what comes after it before its trailers.
async fn around(
    exchange: &Exchange<'_>,
    answers: &mut impl Answers,
    responder: &mut impl Responder,
    after: Option<&Bytes>,
) -> Result<(), Box<Failure>> {
    loop {
        if !answers.has_input() {
            write(exchange.deadlines, pin!(responder.flush())).await?;
        }
        let part = tokio::select! {
            biased;
            part = answers.next() => part.map_err(|error| broken(exchange, error))?,
            () = responder.gone() => return Err(Failure::ClientGone.into()),
        };
        let last = part.last;
        exchange.hear(&part);
        match after {
            Some(after) if last => {
                send(exchange, responder, chunk(part.data, false)).await?;
                let end = Chunk {
                    trailers: part.trailers,
                    ..chunk(&after.0, true)
                };
                send(exchange, responder, end).await?;
            }
            _ => send(exchange, responder, part).await?,
        }
        if last {
            return Ok(());
        }
    }
}

async fn send(
    exchange: &Exchange<'_>,
    responder: &mut impl Responder,
    chunk: Chunk<'_>,
) -> Result<(), Box<Failure>> {
    if !exchange.to_head {
        let passed = &exchange.progress.answer_bytes;
        passed.set(passed.get() + chunk.data.len() as u64);
    }
    write(exchange.deadlines, pin!(responder.write(chunk))).await?;
    exchange.deadlines.progress();
    Ok(())
}
