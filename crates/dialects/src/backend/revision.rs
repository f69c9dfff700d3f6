//! What a revision says about its pods as a backend: who keeps to which pod, what limits there are
//! and who wakes it.

use std::sync::Arc;
use std::time::Duration;

use api::names::label;
use routing::model::{Activation, Backend, BackendPolicy, Balancer, HashKey, RevisionId, Timeouts};

use crate::lean::RevisionView;

/// Puts it on a backend in this namespace.
pub(super) fn apply(namespace: &Arc<str>, revision: &RevisionView, backend: &mut Backend) {
    let limit = revision.container_concurrency.unwrap_or(0);
    backend.concurrency = u32::try_from(limit.max(0)).unwrap_or(u32::MAX);
    backend.timeouts = Timeouts {
        request: seconds(revision.timeout_seconds),
        response_start: seconds(revision.response_start_timeout_seconds),
        idle: seconds(revision.idle_timeout_seconds),
        ends_answer: true,
    };
    backend.activation = Some(activation(namespace, revision));
    backend.policy = affinity(revision).map(Arc::new);
}

/// What an annotation of the revision's template asks for. A pod that is full or gone is no
/// reason to refuse a request: then another pod has it.
fn affinity(revision: &RevisionView) -> Option<BackendPolicy> {
    /// Large enough that each of a few hundred pods has its share.
    const TABLE: u64 = 65_537;
    let key = match revision.session_affinity.as_deref()? {
        "Cookie" => HashKey::Cookie {
            name: "suimon-affinity".into(),
            path: Some("/".into()),
            set_for: Some(Duration::ZERO),
            attributes: Vec::new(),
        },
        "ClientIP" => HashKey::Client,
        // Past admission: as if it were not there.
        _ => return None,
    };
    Some(BackendPolicy {
        balancer: Balancer::Maglev { size: TABLE },
        hash: vec![key],
        ..BackendPolicy::default()
    })
}

/// Zero means no limit, as in Knative's queue-proxy; defaults are filled in at admission.
fn seconds(value: Option<i64>) -> Option<Duration> {
    value
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

fn activation(namespace: &Arc<str>, revision: &RevisionView) -> Activation {
    let label = |key: &str| -> Arc<str> {
        let value = revision.labels.get(key);
        value.map_or("", String::as_str).into()
    };
    Activation {
        revision: RevisionId {
            namespace: Arc::clone(namespace),
            name: (*revision.name).into(),
        },
        service: label(label::SERVICE),
        configuration: label(label::CONFIGURATION),
    }
}
