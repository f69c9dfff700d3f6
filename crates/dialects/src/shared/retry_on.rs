//! Envoy's words for what is tried again.

use routing::model::Retry;

/// One word of Envoy's `retry-on`. Returns whether it is served.
pub(crate) fn add(word: &str, codes: &[u16], retry: &mut Retry) -> bool {
    let when = &mut retry.when;
    match word {
        "5xx" => {
            // Envoy counts whatever ends without an answer as one of them.
            when.any_5xx = true;
            retry.on_failure = true;
        }
        "gateway-error" => retry.statuses.extend([502, 503, 504]),
        "reset" => when.reset = true,
        "connect-failure" | "reset-before-request" => when.connect_failure = true,
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
