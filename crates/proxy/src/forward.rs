//! A request that is planned and ready to be sent.

use std::cell::RefCell;
use std::sync::Arc;

use routing::Backend;
use routing::model::{Connect, Timeouts};

use crate::downstream::Answer;
use crate::filter::Effects;
use crate::filter::mirror::Copies;
use crate::filter::retry::Tries;
use crate::http1::body::Framing;
use crate::message::View;
use crate::traffic::Traffic;
use crate::websocket::Handshake;

/// See the module.
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

    /// What the route's CORS policy says of an answer: without it, no page may read why a request
    /// failed.
    pub(crate) fn for_pages(&self) -> Vec<(String, String)> {
        let added = self.effects.iter().flat_map(|it| it.answer.added());
        let is_cors = |name: &str| name == "vary" || name.starts_with("access-control-");
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        added
            .filter(|(name, _)| is_cors(&name.to_ascii_lowercase()))
            .map(|(name, value)| (name.to_owned(), text(value)))
            .collect()
    }

    /// What the route says about tries, if it says anything.
    pub(crate) fn tries(&self) -> Option<&Tries> {
        let tries = &self.effects.as_deref()?.tries;
        (tries.limit.is_some() || tries.retry.is_some()).then_some(tries)
    }
}
