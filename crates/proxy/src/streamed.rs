//! A client's request on a stream of its own, as HTTP/2 and HTTP/3 have it: nothing follows it there.

use crate::downstream::{Answer, Carrier, Downstream, Reply, Responder};
use crate::filter::answer::AnswerEdits;
use crate::held::{Held, HoldError, Holding, Room};
use crate::http1::body::Framing;
use crate::http1::head::RequestHead;
use crate::http2::frame::Reason;
use crate::message::{SinkError, Source, SourceError, View};
use crate::upgrade::Outlet;
use crate::upstream::exchange::Exchange;

/// See the module.
pub(crate) struct Streamed<'w, S, R> {
    pub(crate) head: &'w RequestHead,
    pub(crate) bytes: &'w [u8],
    pub(crate) body: Holding<S>,
    pub(crate) responder: R,
}

/// What a protocol has of its own.
pub(crate) trait OnStream<S>: Responder {
    /// Tells a client that waits for it to send its body.
    async fn proceed(&mut self) -> Result<(), SinkError>;
    /// Sends an answer of the gateway's own.
    async fn reply(&mut self, reply: Reply) -> Result<(), SinkError>;
    /// Ends both directions.
    fn abort(&mut self, source: &mut S, reason: Reason);
    /// See [`Carrier::switch`].
    async fn switch(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
    ) -> Result<(), SinkError>;
    /// See [`Carrier::tunnel`].
    async fn tunnel(
        &mut self,
        source: &mut S,
        server: (&mut impl Source, &mut impl Outlet),
        exchange: &Exchange<'_>,
    ) -> Result<(), SinkError>;
}

impl<S: Source, R: OnStream<S>> Carrier for Streamed<'_, S, R> {
    type Body = Holding<S>;
    type Responder = R;

    fn has_body(&self) -> bool {
        self.head.framing != Framing::None
    }

    fn parts(&mut self) -> (&mut Self::Body, &mut Self::Responder) {
        (&mut self.body, &mut self.responder)
    }

    async fn gone(&mut self) {
        self.responder.gone().await;
    }

    async fn switch(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
    ) -> Result<(), SinkError> {
        self.responder.switch(answer, edits).await
    }

    async fn tunnel(
        &mut self,
        server: (&mut impl Source, &mut impl Outlet),
        exchange: &Exchange<'_>,
    ) -> Result<(), SinkError> {
        let source = &mut self.body.source;
        self.responder.tunnel(source, server, exchange).await
    }
}

impl<S: Source, R: OnStream<S>> Downstream for Streamed<'_, S, R> {
    fn view(&self) -> View<'_> {
        View {
            head: self.head,
            bytes: self.bytes,
        }
    }

    fn begin_body(&mut self) {}

    async fn hold_body(&mut self, most: usize, room: &Room<'_>) -> Result<(), HoldError> {
        let waits = self.view().field("expect");
        let waits = waits.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        if waits && self.body.held.is_none() && !self.body.source.has_input() {
            let told = self.responder.proceed().await;
            told.map_err(|_| HoldError::Source(SourceError::Gone))?;
        }
        self.body.hold(most, room).await
    }

    fn held(&self) -> Option<&Held> {
        self.body.held.as_deref()
    }

    async fn reply(&mut self, reply: Reply) {
        // Fails only if the client is gone.
        let _ = self.responder.reply(reply).await;
    }

    fn abort(&mut self, reason: Reason) {
        self.responder.abort(&mut self.body.source, reason);
    }
}
