//! XTelemetryPolicy: what is told of the requests of a Gateway.
//!
//! Traces are the whole gateway's matter here: a policy that would change them for one Gateway is
//! refused, and says where they are set up.

use api::gateway::reason;
use api::gateway::v1alpha1::TelemetryPolicy;

use super::plan::Finding;
use super::policies::PolicyOutcome;

/// What a policy's fields come to.
pub(super) fn judge(policy: &TelemetryPolicy) -> PolicyOutcome {
    let mode = policy.spec.tracing.mode.as_deref().unwrap_or_default();
    let refused = match mode {
        "" | "ImplementationDefault" => None,
        other => {
            let text = format!(
                "tracing.mode {other} is not supported for one Gateway: traces are set up for all \
                 requests of the gateway, with tracing-protocol, tracing-endpoint and \
                 tracing-sampling-rate in the ConfigMap knative-serving/config-observability"
            );
            Some(Finding::new(reason::INVALID, text))
        }
    };
    PolicyOutcome {
        refused,
        unresolved: None,
    }
}
