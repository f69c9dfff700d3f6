//! Envoy's words for what is tried again.
//!
//! Envoy does not look at the method: who says `reset`, `5xx` or `gateway-error` asks for what a
//! backend may have acted on to be sent once more.

use routing::model::{Retry, RetryWhen};

/// One word of Envoy's `retry-on`. Returns whether it is served.
pub(crate) fn add(word: &str, codes: &[u16], retry: &mut Retry) -> bool {
    let when = &mut retry.when;
    match word {
        "5xx" => {
            when.any_5xx = true;
            unanswered(when);
        }
        "gateway-error" => {
            retry.statuses.extend([502, 503, 504]);
            unanswered(when);
        }
        "reset" => unanswered(when),
        "connect-failure" => when.connect_failure = true,
        "reset-before-request" => (when.connect_failure, when.refused_stream) = (true, true),
        "refused-stream" => when.refused_stream = true,
        "retriable-4xx" => retry.statuses.push(409),
        "retriable-status-codes" => retry.statuses.extend(codes),
        "cancelled" => when.grpc.push(1),
        "deadline-exceeded" => when.grpc.push(4),
        "resource-exhausted" => when.grpc.push(8),
        "internal" => when.grpc.push(13),
        "unavailable" => when.grpc.push(14),
        _ => return false,
    }
    true
}

/// Envoy counts whatever ends without an answer as an error of the gateway's.
fn unanswered(when: &mut RetryWhen) {
    (when.connect_failure, when.refused_stream, when.reset) = (true, true, true);
}
