//! The question as an HTTP request: the head of the one that is asked about, and what of its body
//! the service sees. A
//! 2xx allows, a 5xx is a failure of the service, anything else is the answer to the client.

use std::rc::Rc;
use std::sync::Arc;

use routing::Backend;
use routing::model::{AuthorizationProtocol, ExternalAuthorization};

use super::{Question, Refused, Verdict, auth_request};
use crate::backend;
use crate::guard::ask::{self, Answer, Bounds};
use crate::http1::field::is_framing;
use crate::rare::rare;
use crate::upstream::{Connection, Freshness};
use crate::worker::Worker;

/// Bytes of a refusal's body.
const LARGEST: usize = 64 * 1024;
/// Of a refusal, these reach the client whatever the route says, as in Envoy.
const ALWAYS: [&str; 3] = ["content-type", "location", "www-authenticate"];

pub(super) async fn ask(
    worker: &Rc<Worker>,
    backend: &Arc<Backend>,
    external: &ExternalAuthorization,
    question: &Question,
) -> Result<Verdict, String> {
    let (request, to_head) = message(external, question);
    let mut answer = once(worker, backend, &request, to_head, Freshness::Checked).await;
    if let Err(Failed { is_stale: true, .. }) = answer {
        // Its server was just closing the connection.
        answer = once(worker, backend, &request, to_head, Freshness::Fresh).await;
    }
    let answer = answer.map_err(|failed| failed.why)?;
    if let AuthorizationProtocol::AuthRequest(asked) = &external.protocol {
        return auth_request::verdict(asked, external, question, &answer);
    }
    match answer.status {
        200..=299 => Ok(allowed(external, &answer)),
        500.. => Err(format!("the answer has status {}", answer.status)),
        _ => Ok(refused(external, answer)),
    }
}

struct Failed {
    is_stale: bool,
    why: String,
}

async fn once(
    worker: &Rc<Worker>,
    backend: &Arc<Backend>,
    request: &[u8],
    to_head: bool,
    freshness: Freshness,
) -> Result<Answer, Failed> {
    let failed = |is_stale, why: String| Failed { is_stale, why };
    let reached = backend::reach(worker, backend, freshness).await;
    let reached = reached.map_err(|failure| failed(false, failure.to_string()))?;
    let endpoint = reached.slot.endpoint().address;
    let Connection::Http1(mut connection) = reached.connection else {
        return Err(failed(false, "the backend speaks HTTP/2 only".to_owned()));
    };
    let bounds = Bounds {
        head: worker.limits.head_bytes,
        body: LARGEST,
    };
    let asking = ask::exchange(&mut connection.stream, request, to_head, bounds);
    match rare(asking).await {
        Ok(answer) => {
            if answer.is_reusable {
                let now = worker.clock.now();
                worker.pool.put(endpoint, connection, None, now);
            }
            Ok(answer)
        }
        Err(error) => Err(failed(connection.is_reused, error.to_string())),
    }
}

/// The request, and whether it is HEAD.
fn message(external: &ExternalAuthorization, question: &Question) -> (Vec<u8>, bool) {
    let Question {
        method,
        target,
        host,
        body,
        ..
    } = question;
    if let AuthorizationProtocol::AuthRequest(asked) = &external.protocol {
        return auth_request::message(asked, question);
    }
    let length = body.len();
    let (mut head, to_head) = match &external.protocol {
        AuthorizationProtocol::HttpAt {
            method: own,
            host: service,
            target: place,
        } => {
            let head = format!(
                "{own} {place} HTTP/1.1\r\nHost: {service}\r\nContent-Length: {length}\r\n\
                 X-Forwarded-Proto: {}\r\nX-Forwarded-Method: {method}\r\n\
                 X-Forwarded-Host: {host}\r\nX-Forwarded-Uri: {target}\r\n\
                 X-Forwarded-For: {}\r\n",
                question.scheme, question.peer
            );
            (head, &**own == "HEAD")
        }
        other => {
            let prefix = match other {
                AuthorizationProtocol::Http { path_prefix } => &**path_prefix,
                _ => "",
            };
            let head = format!(
                "{method} {prefix}{target} HTTP/1.1\r\nHost: {host}\r\n\
                 Content-Length: {length}\r\n"
            );
            (head, method == "HEAD")
        }
    };
    let context = external.context.iter();
    let context = context.map(|(name, value)| (&**name, &**value));
    let headers = question.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in headers.chain(context) {
        let splits = value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        let is_own = is_framing(name.as_bytes()) || name.eq_ignore_ascii_case("content-length");
        if !splits && !is_own && !name.starts_with(':') {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    let mut message = head.into_bytes();
    message.extend_from_slice(body);
    (message, to_head)
}

fn allowed(external: &ExternalAuthorization, answer: &Answer) -> Verdict {
    let wanted = |name: &str| {
        let mut names = external.upstream_headers.iter();
        names.any(|wanted| match &**wanted {
            "*" => !is_about_itself(name),
            wanted => wanted.eq_ignore_ascii_case(name),
        })
    };
    let set = answer.headers.iter().filter(|(name, _)| wanted(name));
    Verdict {
        set: set.cloned().collect(),
        ..Verdict::default()
    }
}

/// Whether a header speaks of the answer that it is in, or of whom it was asked for.
fn is_about_itself(name: &str) -> bool {
    let own = [
        "authority",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "host",
        "server",
    ];
    is_framing(name.as_bytes()) || own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn refused(external: &ExternalAuthorization, answer: Answer) -> Verdict {
    let passes = |name: &str| {
        let mut names = external.client_headers.iter();
        let is_always = ALWAYS.iter().any(|known| known.eq_ignore_ascii_case(name));
        is_always
            || names.any(|known| match &**known {
                "*" => !is_about_itself(name),
                known => known.eq_ignore_ascii_case(name),
            })
    };
    let mut headers = answer.headers;
    headers.retain(|(name, _)| !is_framing(name.as_bytes()) && passes(name));
    Verdict {
        refusal: Some(Refused {
            status: answer.status,
            headers,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        }),
        ..Verdict::default()
    }
}
