//! Filters of listeners: who is asked about a request before its route is looked for.
//!
//! A filter is never skipped: a listener with one that is not supported is not accepted, and one
//! whose service is not there refuses all its requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::Listener;
use routing::model::{ExternalAuthorization, Gate};

use super::backends::Resolver;
use super::filters;
use super::plan::{Finding, ListenerPlan, Protocol};
use super::secure::Owner;
use crate::backend::BackendRef;
use crate::objects::{Name, Reader};

/// What a listener's filters come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatePlan {
    /// `None` without filters.
    pub(super) gate: Option<Arc<Gate>>,
    /// The services that are asked.
    pub(super) backends: BTreeSet<BackendRef>,
    /// Services among them that policies name.
    pub(super) governed: BTreeSet<Name>,
}

/// Finds out who is asked and says in the plan what is wrong.
pub(super) fn judge(
    owner: Owner<'_>,
    listener: &Listener,
    plan: &mut ListenerPlan,
    reader: &Reader<'_>,
) {
    let Some(written) = listener
        .filters
        .as_ref()
        .filter(|it| !it.requests.is_empty())
    else {
        return;
    };
    if !matches!(plan.protocol, Some(Protocol::Http | Protocol::Https)) {
        let text = "filters are for listeners of protocol HTTP and HTTPS";
        let finding = Finding::new(reason::INVALID_LISTENER_FILTER, text);
        plan.refused.get_or_insert(finding);
        return;
    }
    let mut resolver = Resolver::of_listener(reader, owner);
    let mut asks: Vec<ExternalAuthorization> = Vec::new();
    for (at, filter) in written.requests.iter().enumerate() {
        let field = format!("filters.requests[{at}]");
        let found = match (filter.type_.as_str(), &filter.external_auth) {
            ("ExternalAuth", Some(auth)) => filters::external_auth(auth, &mut resolver, &field),
            (other, _) => {
                let text = format!("{field}: a filter of type {other} is not supported here");
                Err(Finding::new(reason::UNSUPPORTED_VALUE, text))
            }
        };
        match found {
            Ok(external) => asks.push(external),
            Err(finding) => drop(plan.refused.get_or_insert(finding)),
        }
    }
    if let Some(mut finding) = resolver.finding() {
        if finding.reason != reason::REF_NOT_PERMITTED {
            finding.reason = reason::INVALID_LISTENER_FILTER_REF;
        }
        plan.unresolved.get_or_insert(finding);
    }
    let host = plan.host.clone();
    plan.gate = GatePlan {
        gate: Some(Arc::new(Gate { host, asks })),
        governed: resolver.governed().clone(),
        backends: resolver.into_backends(),
    };
}
