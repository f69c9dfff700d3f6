//! Another service decides: it is asked with the head of a request, and with its body where the
//! route says so, and what it answers counts.
//!
//! When it cannot be asked, the route says whether requests pass.

mod auth_request;
mod grpc;
mod http;
mod wire;

use std::rc::Rc;
use std::sync::Arc;

use routing::model::{AuthorizationProtocol, ExternalAuthorization};
use routing::predicate::Predicates;
use routing::{RequestView, Snapshot};

use super::{Held, Kind, Passage, Refusal};
use crate::held::Held as HeldBody;
use crate::seen::Seen;
use crate::target;
use crate::worker::Worker;

/// What the service is told, taken from the request: nothing of it is borrowed while we wait.
#[derive(Debug)]
struct Question {
    method: String,
    /// With the query.
    target: String,
    /// As sent, with its port if it has one.
    host: String,
    /// In lower case, without a port.
    host_name: String,
    scheme: &'static str,
    protocol: &'static str,
    peer: String,
    port: u16,
    /// Lower-case names.
    headers: Vec<(String, String)>,
    /// What the service sees of the body.
    body: Vec<u8>,
    as_bytes: bool,
}

/// Tells the service whether it sees all of the body.
const PARTIAL: &str = "x-envoy-auth-partial-body";

/// What the service says.
#[derive(Debug, Default)]
struct Verdict {
    /// `None` allows.
    refusal: Option<Refused>,
    /// Set on the request.
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
    /// Added to the answer.
    answer: Vec<(String, String)>,
}

#[derive(Debug)]
struct Refused {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Asks about a request. Dropping the future gives the question up.
pub(super) async fn check(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    external: &ExternalAuthorization,
    seen: Asking,
) -> Result<Allowed, Held> {
    let Asking(question) = seen;
    let asking = async {
        let backend = snapshot
            .backend(&external.backend)
            .ok_or_else(|| format!("backend {} is not known", external.backend))?;
        match &external.protocol {
            AuthorizationProtocol::Http { .. }
            | AuthorizationProtocol::HttpAt { .. }
            | AuthorizationProtocol::AuthRequest(_) => {
                http::ask(worker, backend, external, &question).await
            }
            AuthorizationProtocol::Grpc => grpc::ask(worker, backend, external, &question).await,
        }
    };
    let asked = match tokio::time::timeout(external.timeout, asking).await {
        Ok(asked) => asked,
        Err(_) => Err("no answer in time".to_owned()),
    };
    let verdict = match asked {
        Ok(verdict) => verdict,
        Err(error) => {
            worker.counters.external_failures.add(1);
            tracing::debug!(backend = %external.backend, error, "cannot ask for authorization");
            if external.fail_open {
                return Ok(allowed(external, Verdict::default()));
            }
            return Err(Refusal::new(Kind::External, external.status_on_error, "").into());
        }
    };
    match verdict.refusal {
        None => Ok(allowed(external, verdict)),
        Some(refused) => {
            let mut refusal = Refusal::new(Kind::External, refused.status, &refused.body);
            for (name, value) in refused.headers {
                refusal = refusal.header(&name, value);
            }
            Err(refusal.into())
        }
    }
}

/// What is reserved for the service comes from it or not at all.
fn allowed(external: &ExternalAuthorization, mut verdict: Verdict) -> Allowed {
    let reserved = external.reserved_headers.iter().map(ToString::to_string);
    verdict.remove.extend(reserved);
    Allowed(verdict)
}

/// A question that was put together.
pub(super) struct Asking(Question);

/// Takes from a request what the service is told; `held` is what was read of its body.
pub(super) fn question(
    external: &ExternalAuthorization,
    seen: &Seen<'_>,
    held: Option<&HeldBody>,
) -> Asking {
    let lists_all = matches!(
        external.protocol,
        AuthorizationProtocol::Grpc | AuthorizationProtocol::AuthRequest(_)
    );
    let is_own = matches!(external.protocol, AuthorizationProtocol::HttpAt { .. });
    let only_login = !lists_all && !is_own && external.request_headers.is_empty();
    let mut names: Vec<&str> = external
        .request_headers
        .iter()
        .map(|name| &**name)
        .collect();
    if only_login {
        names.push("authorization");
    }
    let value = |name: &str| {
        let value = routing::predicate::joined(seen, name)?;
        Some((
            name.to_owned(),
            String::from_utf8_lossy(&value).into_owned(),
        ))
    };
    let mut headers = if names.is_empty() && lists_all {
        seen.fields()
    } else {
        names.into_iter().filter_map(value).collect()
    };
    let is_reserved = |name: &str| {
        let mut reserved = external.reserved_headers.iter();
        reserved.any(|own| own.eq_ignore_ascii_case(name))
    };
    headers.retain(|(name, _): &(String, String)| !is_reserved(name));
    let mut body = Vec::new();
    if let (Some(asked), Some(held)) = (&external.body, held) {
        let most = held.bytes.len().min(asked.most as usize);
        body.extend_from_slice(&held.bytes[..most]);
        let is_partial = !held.is_whole || most < held.bytes.len();
        // Not what the client says of it.
        headers.retain(|(name, _)| name != PARTIAL);
        headers.push((PARTIAL.to_owned(), is_partial.to_string()));
    }
    Asking(Question {
        method: RequestView::method(seen).to_owned(),
        target: seen.view.target().to_owned(),
        host: seen.view.authority().to_owned(),
        host_name: routing::predicate::host(seen).into_owned(),
        scheme: if seen.client.peer.is_secure {
            "https"
        } else {
            "http"
        },
        protocol: seen.view.protocol(),
        peer: match seen.address {
            None => seen.client.peer.text.clone(),
            Some(address) => address.to_string(),
        },
        port: seen.client.entry.port,
        headers,
        body,
        as_bytes: external.body.is_some_and(|body| body.as_bytes),
    })
}

/// The request may pass, with changes.
pub(super) struct Allowed(Verdict);

impl Allowed {
    /// Makes the changes.
    pub(super) fn apply(self, passage: &mut Passage) {
        let lower = |name: String| Arc::from(name.to_ascii_lowercase());
        for name in self.0.remove {
            passage.extra.first.remove.push(lower(name));
        }
        for (name, value) in self.0.set {
            passage.set(lower(name), value.into());
        }
        let add = self.0.add.into_iter();
        let add = add.map(|(name, value)| (lower(name), Arc::from(value)));
        passage.extra.first.add.extend(add);
        let answer = self.0.answer.into_iter();
        let answer = answer.map(|(name, value)| (lower(name), Arc::from(value)));
        passage.answer.add.extend(answer);
    }
}

/// Whether one of the conditions holds, if there are any, for the path as it was sent or for what
/// a backend may take it for: no spelling is a way around who is asked.
pub(super) fn is_asked(when: &[Predicates], seen: &Seen<'_>) -> bool {
    let holds = |seen: &Seen<'_>| when.iter().any(|when| when.hold(seen));
    when.is_empty()
        || holds(seen)
        || target::resolved(seen.view.path()).is_some_and(|path| {
            holds(&Seen {
                path: Some(&path),
                ..*seen
            })
        })
}
