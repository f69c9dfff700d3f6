//! Sessions: requests of one client that keep to one endpoint while that takes requests.
//!
//! The client is told what to send with its next request, in a cookie or a header: which endpoint
//! it was, and until when. Nothing is kept here, so it holds over restarts and between gateways.

use std::net::SocketAddr;

use routing::model::{BackendPolicy, HashKey, Session, SessionPlace};
use routing::{CompiledSplit, Snapshot};

use crate::filter::answer::AnswerEdits;
use crate::message::View;
use crate::traffic::cookie;
use crate::worker::Worker;

/// What a request's session wants.
#[derive(Debug)]
pub(crate) struct Kept {
    session: Session,
    shown: Option<Token>,
}

/// What a client is told, as text: which endpoint, and when that ends (seconds since 1970; 0 is
/// never).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    endpoint: u64,
    ends: u64,
}

impl Token {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (endpoint, ends) = text.split_once('.')?;
        Some(Self {
            endpoint: u64::from_str_radix(endpoint, 16).ok()?,
            ends: ends.parse().ok()?,
        })
    }

    fn text(self) -> String {
        format!("{:016x}.{}", self.endpoint, self.ends)
    }
}

impl Kept {
    /// For a request to a backend with this policy; `None` if it keeps no sessions.
    pub(crate) fn plan(worker: &Worker, policy: &BackendPolicy, view: View<'_>) -> Option<Self> {
        let session = of(policy)?;
        Some(Self {
            session: session.clone(),
            shown: shown(worker, session, view),
        })
    }

    /// The endpoint that the session is at.
    pub(crate) fn endpoint(&self) -> Option<u64> {
        self.shown.map(|token| token.endpoint)
    }

    /// What the client is told now that its request went to this endpoint, beside the other
    /// changes to its answer; `None` if it knows.
    pub(crate) fn told(
        &self,
        worker: &Worker,
        endpoint: SocketAddr,
        others: Option<&AnswerEdits>,
    ) -> Option<Box<AnswerEdits>> {
        let endpoint = scaling::endpoint_key(endpoint);
        if self.endpoint() == Some(endpoint) {
            return None;
        }
        let ends = self.session.lifetime.map(|lifetime| {
            let now = worker.guards.wall_clock() as u64;
            now.saturating_add(lifetime.as_secs().max(1))
        });
        let token = Token {
            endpoint,
            ends: ends.unwrap_or_default(),
        };
        let mut edits = others.cloned().unwrap_or_default();
        match &self.session.place {
            SessionPlace::Header(name) => edits.set(name, token.text()),
            SessionPlace::Cookie {
                name,
                path,
                is_permanent,
                attributes,
            } => {
                let mut field = format!("{name}={}; Path={path}", token.text());
                if let Some(lifetime) = self.session.lifetime.filter(|_| *is_permanent) {
                    field.push_str(&format!("; Max-Age={}", lifetime.as_secs().max(1)));
                }
                field.push_str("; HttpOnly");
                for (name, value) in attributes {
                    field.push_str(&format!("; {name}"));
                    if !value.is_empty() {
                        field.push_str(&format!("={value}"));
                    }
                }
                edits.append("set-cookie", &field);
            }
        }
        Some(Box::new(edits))
    }
}

fn of(policy: &BackendPolicy) -> Option<&Session> {
    policy.hash.iter().find_map(|key| match key {
        HashKey::Session(session) => Some(session),
        _ => None,
    })
}

/// What the client shows, if it has not ended.
fn shown(worker: &Worker, session: &Session, view: View<'_>) -> Option<Token> {
    let text = match &session.place {
        SessionPlace::Header(name) => view.field(&name.to_ascii_lowercase())?,
        SessionPlace::Cookie { name, .. } => cookie(view.field("cookie")?, name)?,
    };
    let token = Token::parse(text)?;
    let is_over = token.ends != 0 && worker.guards.wall_clock() >= token.ends as f64;
    (!is_over).then_some(token)
}

/// Where a split is cut for a request: at the arm that its session is in, else by chance.
pub(crate) fn point(
    worker: &Worker,
    snapshot: &Snapshot,
    split: &CompiledSplit,
    view: View<'_>,
) -> u64 {
    kept_point(worker, snapshot, split, view).unwrap_or_else(|| worker.draw(split.total()))
}

fn kept_point(
    worker: &Worker,
    snapshot: &Snapshot,
    split: &CompiledSplit,
    view: View<'_>,
) -> Option<u64> {
    let mut arms = split.arms();
    // Sessions are a rule's: all arms have them, or none.
    if arms.len() < 2 {
        return None;
    }
    let policy = snapshot.backend_of(arms.next()?)?.policy.as_ref()?;
    let token = shown(worker, of(policy)?, view)?;
    let mut before = 0;
    for (weight, arm) in split.weighted() {
        let backend = snapshot.backend_of(arm);
        let mut endpoints = backend.into_iter().flat_map(|backend| &backend.endpoints);
        if endpoints.any(|endpoint| scaling::endpoint_key(endpoint.address) == token.endpoint) {
            return Some(before);
        }
        before += weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_told_is_what_it_shows() {
        let token = Token {
            endpoint: 0x12,
            ends: 7,
        };
        assert_eq!(Token::parse(token.text().as_bytes()), Some(token));
        for text in ["", ".", "12", "x.1", "12.-1", "12.99999999999999999999999"] {
            assert_eq!(Token::parse(text.as_bytes()), None, "{text}");
        }
    }
}
