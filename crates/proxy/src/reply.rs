//! The answers that the gateway gives itself: a route's own, to Knative's probes, of failures.

use routing::Backend;
use routing::model::Respond;

use crate::downstream::Reply;
use crate::edits::Edits;
use crate::failure::Failure;
use crate::message::View;

/// Says in a log that a probe was answered for a revision.
pub(crate) const PROBE: &str = "probe";

/// What a route answers by itself.
pub(crate) fn of_route(respond: &Respond) -> Reply {
    let headers = respond
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Reply {
        status: respond.status,
        headers: headers.collect(),
        body: respond.body.as_bytes().to_vec(),
        ..Reply::default()
    }
}

/// Knative's probes of a revision's data path are answered by whatever stands for activator and
/// queue-proxy, which is us (knative/networking, `pkg/http/probe/handler.go`).
pub(crate) fn to_probe(view: View<'_>, backend: &Backend, edits: &Edits<'_>) -> Option<Reply> {
    backend.activation.as_ref()?;
    if !view.head.fields.has_internal {
        return None;
    }
    let probe = view.field("k-network-probe")?;
    let hash = edits
        .value("k-network-hash", view.field("k-network-hash"))
        .unwrap_or_default();
    let text = |status, body: &str| Reply {
        status,
        body: body.into(),
        flag: PROBE,
        ..Reply::default()
    };
    Some(match probe {
        b"activator" => text(200, "activator"),
        b"queue" => text(200, "queue"),
        b"probe" if !hash.is_empty() => {
            let hash = String::from_utf8_lossy(hash).into_owned();
            Reply {
                status: 200,
                headers: vec![("K-Network-Hash".into(), hash)],
                flag: PROBE,
                ..Reply::default()
            }
        }
        b"probe" => text(
            400,
            "a probe request must contain a non-empty \"K-Network-Hash\" header",
        ),
        _ => text(400, "unexpected probe header value"),
    })
}

/// The answer that tells of a failure.
pub(crate) fn of_failure(failure: &Failure, is_grpc: bool) -> Reply {
    let kind = ("Content-Type", "text/plain; charset=utf-8");
    let fields = [kind].into_iter().chain(failure.field());
    Reply {
        status: failure.status(),
        headers: fields
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        body: format!("{failure}\n").into(),
        grpc: is_grpc.then(|| failure.grpc_status()),
        close: failure.closes_connection(),
        flag: "",
    }
}
