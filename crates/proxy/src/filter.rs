//! What routes do besides forwarding: a file per filter, none of it touched by a route without.

pub(crate) mod answer;
pub(crate) mod cors;
pub(crate) mod mirror;
pub(crate) mod redirect;
pub(crate) mod retry;

use std::time::Duration;

use routing::model::{Filters, Mirror, PathEdit, Timeouts};
use routing::{CompiledArm, CompiledRoute, RequestView};

use crate::filter::answer::AnswerEdits;
use crate::filter::retry::Tries;
use crate::message::View;

/// What filters do after the request's head was written.
#[derive(Debug)]
pub(crate) struct Effects {
    pub(crate) timeouts: Timeouts,
    pub(crate) answer: AnswerEdits,
    pub(crate) tries: Tries,
}

/// The filters of a route and of the arm that was drawn.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'s> {
    route: Option<&'s Filters>,
    arm: Option<&'s Filters>,
}

impl<'s> Pair<'s> {
    pub(crate) fn new(route: &'s CompiledRoute, arm: &'s CompiledArm) -> Self {
        Self {
            route: route.filters().map(|filters| &**filters),
            arm: arm.filters().map(|filters| &**filters),
        }
    }

    /// The arm's, or else the route's.
    fn inner<T>(&self, part: impl Fn(&'s Filters) -> Option<T>) -> Option<T> {
        let arm = self.arm.and_then(&part);
        arm.or_else(|| self.route.and_then(&part))
    }

    /// The authority to send.
    pub(crate) fn host(&self) -> Option<&'s str> {
        self.inner(|filters| filters.rewrite_host.as_deref())
    }

    /// The target to send: the edited path and the query as it came.
    pub(crate) fn target(&self, view: View<'_>) -> Option<String> {
        let edit: &PathEdit = self.inner(|filters| filters.rewrite_path.as_ref())?;
        let mut target = edit.apply(view.path());
        if let Some((_, query)) = view.target().split_once('?') {
            target.push('?');
            target.push_str(query);
        }
        Some(target)
    }

    /// Backends that may get a copy.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = &'s Mirror> {
        let both = [self.route, self.arm].into_iter().flatten();
        both.flat_map(|filters| &filters.mirrors)
    }

    /// `None` if there are no filters at all.
    pub(crate) fn effects(&self, view: View<'_>, backend: Timeouts) -> Option<Box<Effects>> {
        if self.route.is_none() && self.arm.is_none() {
            return None;
        }
        Some(Box::new(Effects {
            timeouts: self.timeouts(backend),
            answer: self.answer(view),
            tries: Tries {
                limit: self.inner(|filters| filters.try_timeout),
                retry: self.inner(|filters| filters.retry.clone()),
            },
        }))
    }

    /// The backend's limits, and the shorter one for the whole request.
    fn timeouts(&self, backend: Timeouts) -> Timeouts {
        let own: Option<Duration> = self.inner(|filters| filters.request_timeout);
        let request = match (own, backend.request) {
            (Some(own), Some(limit)) => Some(own.min(limit)),
            (own, limit) => own.or(limit),
        };
        Timeouts { request, ..backend }
    }

    /// What changes in the answer.
    fn answer(&self, view: View<'_>) -> AnswerEdits {
        let mut edits = AnswerEdits::default();
        if let Some(cors) = self.inner(|filters| filters.cors.as_deref()) {
            edits.extend(cors::answer(cors, view));
            // Caches must not give one origin's answer to another.
            edits.append("vary", "Origin");
        }
        for filters in [self.route, self.arm].into_iter().flatten() {
            edits.apply(&filters.response_headers);
        }
        edits
    }
}
