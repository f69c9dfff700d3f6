//! What is known of one request while it is sent, and how far it has come.

use std::cell::Cell;
use std::net::SocketAddr;

use scaling::Slot;

use crate::downstream::Answer;
use crate::filter::answer::AnswerEdits;
use crate::filter::retry::Withheld;
use crate::forward::Forward;
use crate::log_service::Heard;
use crate::message::Chunk;
use crate::timeout::Deadlines;
use crate::worker::Worker;

/// What is known of a request while it is sent.
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) slot: &'a Slot,
    pub(crate) deadlines: &'a Deadlines<'a>,
    pub(crate) progress: &'a Progress,
    /// The request is HEAD: its answer has no body.
    pub(crate) to_head: bool,
    pub(crate) wants_upgrade: bool,
    /// Changes to the final answer's head.
    pub(crate) edits: Option<&'a AnswerEdits>,
    /// Answers that are not passed on: the request is sent again.
    pub(crate) withheld: Withheld<'a>,
    /// How much of the request's body may come, and who takes it too.
    pub(crate) forward: &'a Forward,
    /// Wants to know of the answer.
    pub(crate) heard: Option<&'a Heard>,
}

impl Exchange<'_> {
    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.slot.endpoint().address
    }

    /// Whether an answer is dropped, because the request can be sent again.
    pub(crate) fn withholds(&self, answer: &Answer<'_>) -> bool {
        !self.progress.body_taken.get() && self.withheld.contains(answer)
    }

    /// Notes the answer's trailers, if anybody wants to know of them.
    pub(crate) fn hear(&self, chunk: &Chunk<'_>) {
        if let (Some(heard), Some(trailers)) = (self.heard, &chunk.trailers) {
            heard.trailers(trailers);
        }
    }

    /// Whether the request is a CONNECT, so that success makes a tunnel.
    pub(crate) fn connects(&self) -> bool {
        self.forward.connect.is_some()
    }

    /// The most bytes of the body: what its route allows, and what every request is.
    pub(crate) fn most_bytes(&self) -> Option<u64> {
        let all = self.worker.limits.body_bytes;
        let effects = self.forward.effects.as_deref();
        let own = effects.and_then(|effects| effects.after.max_body);
        own.map_or(all, |own| Some(all.map_or(own, |all| all.min(own))))
    }
}

/// How far a request has come; decides whether it may be sent again.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Body bytes were taken from the client, who will not send them again.
    pub(crate) body_taken: Cell<bool>,
    /// The whole request was handed to the kernel.
    pub(crate) sent: Cell<bool>,
    /// A head came back.
    pub(crate) answered: Cell<bool>,
    /// The upstream's socket took bytes of the request.
    pub(crate) accepted: Cell<bool>,
    /// Nothing was sent, or the server said that it did not act on what was sent.
    pub(crate) refused: Cell<bool>,
    /// The status of the final answer, as the backend gave it.
    pub(crate) status: Cell<u16>,
    /// The one that the client is told in its place.
    pub(crate) new_status: Cell<Option<u16>>,
    /// Of the answer's body, or of what the server sent through a tunnel.
    pub(crate) answer_bytes: Cell<u64>,
    /// What the client sent through a tunnel.
    pub(crate) tunneled: Cell<u64>,
}

impl Progress {
    /// Whether a request without an answer may be sent again: because nobody acted on it, or
    /// because it went out on a connection that its server was probably closing, and either
    /// repeating it changes nothing or its body was held back.
    pub(crate) fn is_repeatable(
        &self,
        is_reused: bool,
        is_idempotent: bool,
        has_body: bool,
    ) -> bool {
        let is_held = if has_body {
            !self.body_taken.get()
        } else {
            is_idempotent
        };
        !self.answered.get()
            && (self.refused.get() && !self.body_taken.get() || is_reused && is_held)
    }
}

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Complete,
    Switching,
}
