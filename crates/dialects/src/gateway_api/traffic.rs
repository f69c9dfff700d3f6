//! XBackendTrafficPolicy: how requests are sent to a Service whatever route they come by.

use std::sync::Arc;
use std::time::Duration;

use api::gateway::reason;
use api::gateway::v1alpha1::{BackendTrafficPolicy, RetryConstraint};
use routing::model::{BackendPolicy, RetryBudget, Session};

use super::plan::Finding;
use super::policies::PolicyOutcome;
use super::session;
use crate::foreign::BackendSpec;
use crate::objects::Name;

/// What a policy's fields come to, whoever else names the same Service.
pub(super) fn judge(policy: &BackendTrafficPolicy) -> PolicyOutcome {
    let constraint = policy.spec.retry_constraint.as_ref();
    let wrong = constraint.and_then(|constraint| budget(constraint).err());
    let kept = kept(policy).and_then(Result::err);
    PolicyOutcome {
        refused: wrong.or(kept),
        unresolved: None,
    }
}

fn kept(policy: &BackendTrafficPolicy) -> Option<Result<Session, Finding>> {
    let persistence = policy.spec.session_persistence.as_ref()?;
    let name = Name::of(&policy.metadata);
    let session = session::translate(persistence, (&name, "XBackendTrafficPolicy"));
    Some(session.map_err(|text| {
        let text = format!("sessionPersistence: {text}");
        Finding::new(reason::INVALID, text)
    }))
}

/// Puts what a policy says on a backend.
pub(super) fn apply(policy: &BackendTrafficPolicy, spec: &mut BackendSpec) {
    if let Some(Ok(session)) = kept(policy) {
        session::apply(session, spec);
    }
    let constraint = policy.spec.retry_constraint.as_ref();
    let Some(Ok(budget)) = constraint.map(budget) else {
        return;
    };
    let mut own: BackendPolicy = spec.policy.as_deref().cloned().unwrap_or_default();
    own.limits.retry_budget = Some(budget);
    spec.policy = Some(Arc::new(own));
}

fn budget(constraint: &RetryConstraint) -> Result<RetryBudget, Finding> {
    let interval = |text: &str, field: &str| {
        let parsed = api::duration::parse(text).map_err(|error| error.to_string());
        let parsed = parsed.and_then(|interval| {
            if interval < Duration::from_millis(1) {
                return Err("an interval must not be empty".to_owned());
            }
            Ok(interval)
        });
        parsed.map_err(|error| {
            let text = format!("retryConstraint.{field}.interval: {error}");
            Finding::new(reason::INVALID, text)
        })
    };
    let (share, least) = (&constraint.budget, &constraint.min_retry_rate);
    Ok(RetryBudget::Recent {
        percent: u32::try_from(share.percent).unwrap_or_default().min(100),
        interval: interval(&share.interval, "budget")?,
        least: u32::try_from(least.count).unwrap_or_default(),
        least_interval: interval(&least.interval, "minRetryRate")?,
    })
}
