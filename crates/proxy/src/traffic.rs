//! What a backend's policy wants of one request: which part of it decides where it goes, what was
//! tried already, and what outlier detection is told of its end.
//!
//! A request to a backend without a policy has none of this, unless its route wants further tries
//! elsewhere.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use routing::model::{BackendPolicy, Balancer, HashKey};
use routing::{Backend, RequestView};
use scaling::{Outcome, Preference, Slot};

use crate::failure::Failure;
use crate::filter::Effects;
use crate::filter::answer::AnswerEdits;
use crate::filter::template::Sender;
use crate::session::Kept;
use crate::upstream::proxy_protocol;
use crate::worker::Worker;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    hash: Option<u64>,
    session: Option<Kept>,
    /// What the connection begins with, if the backend wants to know whom it is for.
    pub(crate) opening: Option<Vec<u8>>,
    /// A cookie to set, where no filter writes into the answer.
    answer: Option<AnswerEdits>,
    /// Further tries go elsewhere.
    avoids_tried: bool,
    tried: RefCell<Vec<SocketAddr>>,
    is_retry: Cell<bool>,
}

/// Endpoints that a request remembers.
const MOST_TRIED: usize = 16;

impl Traffic {
    /// For a request to this backend; `None` if there is nothing to keep.
    pub(crate) fn plan(
        worker: &Worker,
        backend: &Backend,
        sender: &Sender<'_>,
        effects: Option<&mut Effects>,
    ) -> Option<Box<Self>> {
        let retry = effects
            .as_ref()
            .and_then(|effects| effects.tries.retry.as_ref());
        let avoids_tried = retry.is_some_and(|retry| retry.avoid_tried);
        let Some(policy) = &backend.policy else {
            return avoids_tried.then(|| {
                Box::new(Self {
                    avoids_tried,
                    ..Self::default()
                })
            });
        };
        let mut traffic = Self {
            avoids_tried,
            opening: policy
                .proxy_protocol
                .map(|version| proxy_protocol::header(version, sender.client.peer.ends())),
            ..Self::default()
        };
        if !policy.hash.is_empty() {
            traffic.session = Kept::plan(worker, policy, sender.view);
        }
        if matches!(
            policy.balancer,
            Balancer::RingHash { .. } | Balancer::Maglev { .. }
        ) {
            traffic.decide(worker, policy, sender, effects);
        }
        Some(Box::new(traffic))
    }

    /// The first key that the request has decides; a cookie that the gateway sets is always had.
    fn decide(
        &mut self,
        worker: &Worker,
        policy: &BackendPolicy,
        sender: &Sender<'_>,
        effects: Option<&mut Effects>,
    ) {
        let (view, address) = (sender.view, sender.address());
        for key in &policy.hash {
            let value = match key {
                HashKey::Header(name) => {
                    let name = name.to_ascii_lowercase();
                    view.field(&name).filter(|_| !sender.seen().hides(&name))
                }
                HashKey::Query(name) => parameter(view.query(), name).map(str::as_bytes),
                HashKey::Client => Some(address.as_bytes()),
                HashKey::Cookie { name, .. } => {
                    view.field("cookie").and_then(|field| cookie(field, name))
                }
                HashKey::Session(_) => None,
            };
            if let Some(value) = value {
                self.hash = Some(scaling::hash(value));
                return;
            }
            if let Some((value, field)) = new_cookie(worker, key) {
                self.hash = Some(scaling::hash(value.as_bytes()));
                match effects {
                    Some(effects) => effects.answer.append("set-cookie", &field),
                    None => {
                        let answer = self.answer.get_or_insert_default();
                        answer.append("set-cookie", &field);
                    }
                }
                return;
            }
        }
    }

    /// What changes in the answer where no filter changes anything.
    pub(crate) fn answer(&self) -> Option<&AnswerEdits> {
        self.answer.as_ref()
    }

    /// The same with what a session's client is told now that its request goes to this endpoint;
    /// `None` if it knows.
    pub(crate) fn told(
        &self,
        worker: &Worker,
        endpoint: SocketAddr,
        others: Option<&AnswerEdits>,
    ) -> Option<Box<AnswerEdits>> {
        self.session.as_ref()?.told(worker, endpoint, others)
    }

    /// What the choice of an endpoint goes by; `tried` is [`Self::tried`].
    pub(crate) fn preference<'t>(&self, tried: &'t [SocketAddr]) -> Preference<'t> {
        Preference {
            hash: self.hash,
            keep: self.session.as_ref().and_then(Kept::endpoint),
            avoid: tried,
            is_retry: self.is_retry.get(),
        }
    }

    /// Endpoints that are used again only if there is no other.
    pub(crate) fn tried(&self) -> Vec<SocketAddr> {
        self.tried.borrow().clone()
    }

    /// Another try follows.
    pub(crate) fn again(&self) {
        self.is_retry.set(true);
    }

    /// The exchange with an endpoint is over: it answered with this status (0 if it did not), and
    /// then this failed.
    pub(crate) fn ended(&self, slot: &Slot, status: u16, failure: Option<&Failure>) {
        if self.avoids_tried {
            let mut tried = self.tried.borrow_mut();
            let address = slot.endpoint().address;
            if tried.len() < MOST_TRIED && !tried.contains(&address) {
                tried.push(address);
            }
        }
        if let Some(outcome) = outcome(status, failure) {
            slot.report(outcome);
        }
    }
}

/// What an endpoint is to blame for; `None` if it is not known.
fn outcome(status: u16, failure: Option<&Failure>) -> Option<Outcome> {
    match failure {
        None => (status != 0).then_some(Outcome::Answered(status)),
        Some(Failure::Withheld { status }) => Some(Outcome::Answered(*status)),
        Some(
            Failure::Unanswered { .. }
            | Failure::BadAnswer { .. }
            | Failure::AnswerCut { .. }
            | Failure::Reset { .. },
        ) => Some(Outcome::Reset),
        Some(Failure::RequestTimeout | Failure::ResponseStartTimeout | Failure::IdleTimeout) => {
            Some(Outcome::TimedOut)
        }
        // The client's doing, or ours; what it had answered before counts.
        Some(_) => (status != 0).then_some(Outcome::Answered(status)),
    }
}

/// The value of a query parameter, as sent.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The value of one cookie in a `Cookie` field (RFC 6265 §4.2).
pub(crate) fn cookie<'f>(field: &'f [u8], name: &str) -> Option<&'f [u8]> {
    field.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair
            .trim_ascii()
            .strip_prefix(name.as_bytes())?
            .strip_prefix(b"=")?;
        Some(
            value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value),
        )
    })
}

/// A new value for a cookie that the gateway sets, and the field that sets it.
fn new_cookie(worker: &Worker, key: &HashKey) -> Option<(String, String)> {
    let HashKey::Cookie {
        name,
        path,
        set_for: Some(lifetime),
        attributes,
    } = key
    else {
        return None;
    };
    let value = format!("{:016x}", worker.draw(u64::MAX));
    let mut field = format!("{name}={value}");
    if !lifetime.is_zero() {
        field.push_str(&format!("; Max-Age={}", lifetime.as_secs()));
    }
    if let Some(path) = path {
        field.push_str(&format!("; Path={path}"));
    }
    for (name, value) in attributes {
        field.push_str(&format!("; {name}"));
        if !value.is_empty() {
            field.push_str(&format!("={value}"));
        }
    }
    field.push_str("; HttpOnly");
    Some((value, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_are() {
        assert_eq!(parameter("a=1&user=x%20y&user=z", "user"), Some("x%20y"));
        assert_eq!(parameter("user", "user"), Some(""));
        assert_eq!(parameter("", "user"), None);
        let field = b"a=1; session=\"q r\";t=";
        assert_eq!(cookie(field, "session"), Some(&b"q r"[..]));
        assert_eq!(cookie(field, "t"), Some(&b""[..]));
        assert_eq!(cookie(field, "sess"), None);
    }

    #[test]
    fn clients_are_not_blamed_on_endpoints() {
        assert_eq!(outcome(0, Some(&Failure::ClientGone)), None);
        assert_eq!(
            outcome(200, Some(&Failure::ClientGone)),
            Some(Outcome::Answered(200))
        );
        assert_eq!(
            outcome(0, Some(&Failure::RequestTimeout)),
            Some(Outcome::TimedOut)
        );
        let withheld = Failure::Withheld { status: 503 };
        assert_eq!(outcome(0, Some(&withheld)), Some(Outcome::Answered(503)));
    }
}
