//! A route with everything that can be known before a request comes: its rules, its action, the
//! split of its backends and their arms.
//!
//! Immutable and shared: a snapshot that did not change a route has the same `Arc` as the one
//! before, so that the proxy's counters ([`Slot`]) outlive it.

use std::sync::Arc;

use crate::authority;
use crate::filters::{CompiledFilters, CompiledInstead, CompiledRedirect};
use crate::guards::{CompiledGuards, Slot};
use crate::model::{
    Action, Arm, BackendId, ClientSource, Filters, HeaderOps, Origin, Respond, Route, RouteId,
    Split,
};
use crate::rule::Rule;
use crate::view::RequestView;

/// A route as the proxy uses it.
#[derive(Debug)]
pub struct CompiledRoute {
    id: RouteId,
    source: Arc<Route>,
    /// Its alternatives; none if it is for every request of its hosts.
    rules: Box<[Rule]>,
    filters: Option<Arc<CompiledFilters>>,
    is_guarded: bool,
    /// What happens to a request that selected this route.
    pub action: CompiledAction,
    /// Where the proxy keeps its counters of the route.
    pub slot: Slot,
}

/// What happens to a matching request.
#[derive(Clone, Debug)]
pub enum CompiledAction {
    Forward(CompiledSplit),
    /// Answer here.
    Respond(Respond),
    Redirect(CompiledRedirect),
    /// See [`Action::ForwardSecure`].
    ForwardSecure(CompiledSplit),
}

/// Backends that one route sends to. Invariant: the weights do not sum to zero.
#[derive(Clone, Debug)]
pub struct CompiledSplit {
    /// Arms with a weight, and the sum of the weights up to and including each.
    arms: Box<[(u64, CompiledArm)]>,
}

/// One share of a split.
#[derive(Clone, Debug)]
pub struct CompiledArm {
    pub backend: BackendId,
    pub(crate) hash: u64,
    /// Happens in place of sending to the backend.
    pub instead: Option<Box<CompiledInstead>>,
    /// Changes to requests of this arm only, after the route's own.
    pub request_headers: HeaderOps,
    /// See [`Arm::grpc_web`].
    pub grpc_web: bool,
    filters: Option<Arc<CompiledFilters>>,
    /// Where the proxy keeps its counters of the arm.
    pub slot: Slot,
}

impl CompiledRoute {
    pub(crate) fn new(id: RouteId, source: Arc<Route>) -> Self {
        let action = match &source.action {
            Action::Forward(split) => CompiledAction::Forward(CompiledSplit::new(split)),
            Action::Respond(respond) => CompiledAction::Respond(respond.clone()),
            Action::Redirect(redirect) => CompiledAction::Redirect(CompiledRedirect::new(redirect)),
            Action::ForwardSecure(split) => {
                CompiledAction::ForwardSecure(CompiledSplit::new(split))
            }
        };
        let filters = filters(&source.filters);
        let asks = |filters: Option<&Arc<CompiledFilters>>| {
            filters.is_some_and(|filters| filters.guards.is_some())
        };
        let is_guarded = asks(filters.as_ref())
            || match &action {
                CompiledAction::Forward(split) | CompiledAction::ForwardSecure(split) => {
                    split.arms().any(|arm| asks(arm.filters()))
                }
                CompiledAction::Respond(_) | CompiledAction::Redirect(_) => false,
            };
        Self {
            id,
            rules: source.matches.iter().map(Rule::new).collect(),
            source,
            filters,
            is_guarded,
            action,
            slot: Slot::default(),
        }
    }

    /// The route's identity in the model.
    pub fn id(&self) -> &RouteId {
        &self.id
    }

    /// The record it was made from.
    pub fn source(&self) -> &Arc<Route> {
        &self.source
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a request of one of its hosts is for it, as far as the request says.
    pub(crate) fn applies(&self, request: &impl RequestView) -> bool {
        self.rules.is_empty() && !request.is_connect()
            || self.rules.iter().any(|rule| rule.holds(request))
    }

    /// The user's object and field.
    pub fn origin(&self) -> &Origin {
        &self.source.origin
    }

    /// Changes to the request before the arm's own.
    pub fn request_headers(&self) -> &HeaderOps {
        &self.source.request_headers
    }

    /// The authority sent upstream, if not the client's.
    pub fn rewrite_host(&self) -> Option<&Arc<str>> {
        self.source.rewrite_host.as_ref()
    }

    /// What else the route changes or limits; most have nothing.
    pub fn filters(&self) -> Option<&Arc<CompiledFilters>> {
        self.filters.as_ref()
    }

    /// Where the client's address is, if not at the other end of the connection.
    pub fn client(&self) -> Option<&ClientSource> {
        self.filters.as_ref()?.client.as_deref()
    }

    /// Whether the route or one of its arms asks anything of a request.
    pub fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// What is asked of a request before it is forwarded; most routes ask nothing.
    pub fn guards(&self) -> Option<&Arc<CompiledGuards>> {
        self.filters.as_ref()?.guards.as_ref()
    }
}

fn filters(filters: &Filters) -> Option<Arc<CompiledFilters>> {
    (!filters.is_empty()).then(|| Arc::new(CompiledFilters::new(filters)))
}

impl CompiledSplit {
    pub(crate) fn new(split: &Split) -> Self {
        let mut upto = 0;
        let weighted = split.arms().iter().filter(|arm| arm.weight > 0);
        let arms = weighted.map(|arm: &Arm| {
            upto += u64::from(arm.weight);
            (upto, CompiledArm::new(arm))
        });
        Self {
            arms: arms.collect(),
        }
    }

    /// Whether some share goes to this backend.
    pub fn leads_to(&self, backend: &BackendId) -> bool {
        let mut arms = self.arms.iter().map(|(_, arm)| arm);
        arms.any(|arm| arm.instead.is_none() && arm.backend == *backend)
    }

    /// The sum of all weights; never zero. One arm alone needs no draw.
    pub fn total(&self) -> u64 {
        self.arms.last().map_or(1, |(upto, _)| *upto)
    }

    /// The arm at `point`, drawn by the caller from `0..total()`. A point past the total gives the
    /// last arm.
    pub fn at(&self, point: u64) -> &CompiledArm {
        let at = if self.arms.len() == 1 {
            0
        } else {
            self.arms.partition_point(|(upto, _)| *upto <= point)
        };
        // `Split::new` refuses weights that sum to zero, so there is at least one arm.
        &self.arms[at.min(self.arms.len() - 1)].1
    }

    /// The arms with their weights; none is zero.
    pub fn weighted(&self) -> impl Iterator<Item = (u64, &CompiledArm)> {
        let mut before = 0;
        self.arms.iter().map(move |(upto, arm)| {
            let weight = upto - before;
            before = *upto;
            (weight, arm)
        })
    }

    /// The arms with a weight.
    pub fn arms(&self) -> impl ExactSizeIterator<Item = &CompiledArm> {
        self.arms.iter().map(|(_, arm)| arm)
    }
}

impl CompiledArm {
    fn new(arm: &Arm) -> Self {
        let hash = authority::hash(&arm.backend.0);
        Self {
            backend: arm.backend.clone(),
            hash,
            instead: arm
                .instead
                .as_deref()
                .map(CompiledInstead::new)
                .map(Box::new),
            request_headers: arm.request_headers.clone(),
            grpc_web: arm.grpc_web,
            filters: filters(&arm.filters),
            slot: Slot::default(),
        }
    }

    /// The arm's own filters, if it has any.
    pub fn filters(&self) -> Option<&Arc<CompiledFilters>> {
        self.filters.as_ref()
    }

    /// What is asked of the requests of this arm, after what its route asks.
    pub fn guards(&self) -> Option<&Arc<CompiledGuards>> {
        self.filters.as_ref()?.guards.as_ref()
    }
}
