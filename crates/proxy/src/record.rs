//! The access record: one line per request at `debug`, nothing at all otherwise.

use std::time::Duration;

use crate::message::View;

/// What is remembered of a request until it ends; `None` unless somebody reads it.
#[derive(Debug)]
pub(crate) struct Record(Option<Box<Seen>>);

#[derive(Debug)]
struct Seen {
    method: String,
    authority: String,
    target: String,
    backend: Option<String>,
    endpoint: Option<std::net::SocketAddr>,
}

impl Record {
    pub(crate) fn start(view: View<'_>) -> Self {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Self(None);
        }
        Self(Some(Box::new(Seen {
            method: view.method().to_owned(),
            authority: view.authority().to_owned(),
            target: view.target().to_owned(),
            backend: None,
            endpoint: None,
        })))
    }

    /// The request goes to this backend.
    pub(crate) fn routed(&mut self, backend: &routing::BackendId) {
        if let Some(seen) = &mut self.0 {
            seen.backend = Some(backend.to_string());
        }
    }

    /// The request was sent here.
    pub(crate) fn sent(&mut self, endpoint: std::net::SocketAddr) {
        if let Some(seen) = &mut self.0 {
            seen.endpoint = Some(endpoint);
        }
    }

    /// Writes the line. `flag` says why the gateway answered instead of the backend.
    pub(crate) fn finish(self, peer: &str, status: u16, flag: &str, took: Duration) {
        let Some(seen) = self.0 else { return };
        tracing::debug!(
            target: "proxy::access",
            peer,
            method = seen.method,
            authority = seen.authority,
            target = seen.target,
            backend = seen.backend,
            endpoint = seen.endpoint.map(tracing::field::display),
            status,
            flag,
            took_us = took.as_micros() as u64,
        );
    }
}
