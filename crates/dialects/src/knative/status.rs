//! What an Ingress reports: whether its current generation is live, and what is wrong with it.
//!
//! `NetworkConfigured` is about the Ingress and what it names, `LoadBalancerReady` about its place
//! at the gateway (whether it got its hosts). Ready is True only after the snapshot that holds the
//! generation has been published.

use api::condition::{Conditions, Truth};
use api::networking::v1alpha1::{IngressStatus, LoadBalancerIngress, LoadBalancerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::diagnostic::{Diagnostic, Effect};

const NETWORK_CONFIGURED: &str = "NetworkConfigured";
const LOAD_BALANCER_READY: &str = "LoadBalancerReady";
/// `Ready` takes the reason of the first that is not True.
const DEPENDENTS: &[&str] = &[NETWORK_CONFIGURED, LOAD_BALANCER_READY];
/// More findings than this are counted, not listed.
const LISTED: usize = 5;

/// Names under which the gateway is reached inside the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancers {
    pub public: String,
    pub private: String,
}

/// What the publisher did with one generation of an Ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The generation that was translated.
    pub generation: i64,
    /// The generation that requests meet now; `None` if none is served.
    pub live: Option<i64>,
    pub diagnostics: Vec<Diagnostic>,
}

/// The status after `outcome`. Equal to `stored` if there is nothing to tell.
pub fn status(
    stored: Option<&IngressStatus>,
    outcome: &Outcome,
    names: &LoadBalancers,
    now: Time,
) -> IngressStatus {
    let stored = stored.cloned().unwrap_or_default();
    let mut conditions = Conditions::new(&stored.conditions, DEPENDENTS, now);
    let is_live = outcome.live == Some(outcome.generation);
    let waiting = findings(outcome, |effect| {
        effect == Effect::Waiting || (effect == Effect::Starting && !is_live)
    });
    let refused = findings(outcome, |effect| effect == Effect::Refused);
    let conflicts = findings(outcome, |effect| effect == Effect::Conflict);
    match (refused, waiting) {
        (Some((reason, message)), _) => conditions.mark_false(NETWORK_CONFIGURED, reason, &message),
        (None, Some((reason, message))) => {
            let message = match outcome.live {
                Some(live) if !is_live => {
                    format!("{message}; generation {live} stays live until then")
                }
                Some(_) | None => message,
            };
            conditions.mark_unknown(NETWORK_CONFIGURED, reason, &message);
        }
        (None, None) => conditions.mark_true(NETWORK_CONFIGURED),
    }
    match conflicts {
        Some((reason, message)) => conditions.mark_false(LOAD_BALANCER_READY, reason, &message),
        None if is_live => conditions.mark_true(LOAD_BALANCER_READY),
        None => conditions.mark_unknown(
            LOAD_BALANCER_READY,
            "NotLive",
            "The gateway does not serve this generation yet.",
        ),
    }
    IngressStatus {
        observed_generation: Some(outcome.generation),
        conditions: conditions.into_vec(),
        public_load_balancer: Some(load_balancer(&names.public)),
        private_load_balancer: Some(load_balancer(&names.private)),
        ..stored
    }
}

/// Whether a stored status says that the Ingress got its hosts.
pub(super) fn has_hosts(stored: Option<&IngressStatus>) -> bool {
    let conditions = stored.map_or(&[][..], |status| &status.conditions);
    api::condition::find(conditions, LOAD_BALANCER_READY).is_some_and(|it| it.is(Truth::True))
}

/// Reason and message of the diagnostics with such an effect, if there are any.
fn findings(outcome: &Outcome, wanted: impl Fn(Effect) -> bool) -> Option<(&'static str, String)> {
    let found: Vec<_> = outcome
        .diagnostics
        .iter()
        .filter(|it| wanted(it.effect))
        .collect();
    let first = found.first()?;
    let mut texts: Vec<_> = found
        .iter()
        .take(LISTED)
        .map(|it| format!("{}: {}", it.field, it.message))
        .collect();
    if found.len() > LISTED {
        texts.push(format!("and {} more", found.len() - LISTED));
    }
    Some((first.reason, texts.join("; ")))
}

fn load_balancer(domain_internal: &str) -> LoadBalancerStatus {
    let ingress = LoadBalancerIngress {
        domain_internal: Some(domain_internal.to_owned()),
        ..Default::default()
    };
    LoadBalancerStatus {
        ingress: vec![ingress],
    }
}
