//! What routes do besides forwarding: a file per filter, none of it touched by a route without.

pub(crate) mod answer;
pub(crate) mod cors;
pub(crate) mod mirror;
pub(crate) mod redirect;
pub(crate) mod retry;
pub(crate) mod template;

use std::borrow::Cow;
use std::time::Duration;

use routing::model::{Cors, Mirror, Timeouts};
use routing::{CompiledArm, CompiledFilters, CompiledRoute, RequestView};

use crate::edits::Extra;
use crate::filter::answer::AnswerEdits;
use crate::filter::retry::Tries;
use crate::filter::template::Sender;
use crate::guard::{After, Passage};
use crate::message::View;

/// What filters do after the request's head was written.
#[derive(Debug)]
pub(crate) struct Effects {
    pub(crate) timeouts: Timeouts,
    pub(crate) answer: AnswerEdits,
    pub(crate) tries: Tries,
    pub(crate) after: After,
}

/// The filters of a route and of the arm that was drawn.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'s> {
    route: Option<&'s CompiledFilters>,
    arm: Option<&'s CompiledFilters>,
}

impl<'s> Pair<'s> {
    pub(crate) fn new(route: &'s CompiledRoute, arm: &'s CompiledArm) -> Self {
        Self::drawn(route, Some(arm))
    }

    /// Before an arm is drawn, too.
    pub(crate) fn drawn(route: &'s CompiledRoute, arm: Option<&'s CompiledArm>) -> Self {
        Self {
            route: route.filters().map(|filters| &**filters),
            arm: arm.and_then(|arm| arm.filters()).map(|filters| &**filters),
        }
    }

    /// The arm's, or else the route's.
    fn inner<T>(&self, part: impl Fn(&'s CompiledFilters) -> Option<T>) -> Option<T> {
        let arm = self.arm.and_then(&part);
        arm.or_else(|| self.route.and_then(&part))
    }

    /// The authority to send.
    pub(crate) fn host(&self) -> Option<&'s str> {
        self.inner(|filters| filters.rewrite_host.as_deref())
    }

    /// The target to send, if not the client's: the edited path and the query as it came, without
    /// what guards hide.
    pub(crate) fn target(&self, view: View<'_>, passage: Option<&Passage>) -> Option<String> {
        let edit = self.inner(|filters| filters.path.as_ref());
        let hidden = passage.and_then(|passage| passage.hidden_query.as_deref());
        if edit.is_none() && hidden.is_none() {
            return None;
        }
        let mut target = match edit {
            Some(edit) => edit.apply(view.path()),
            None => view.path().to_owned(),
        };
        if let Some((_, query)) = view.target().split_once('?') {
            let is_kept = |pair: &&str| {
                let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
                hidden.is_none_or(|hidden| hidden != name)
            };
            let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
            if hidden.is_none() || !kept.is_empty() {
                target.push('?');
                target.push_str(&kept.join("&"));
            }
        }
        Some(target)
    }

    /// What guards and templates change in the request's head.
    pub(crate) fn extra<'p>(
        &self,
        passage: Option<&'p Passage>,
        sender: &Sender<'_>,
    ) -> Option<Cow<'p, Extra>> {
        let verified = passage.map(|passage| Cow::Borrowed(&passage.extra));
        let both = [self.route, self.arm].into_iter().flatten();
        let mut templates = both
            .flat_map(|filters| &filters.request_templates)
            .peekable();
        if templates.peek().is_none() {
            return verified;
        }
        let mut extra = verified.unwrap_or_default().into_owned();
        for template in templates {
            let value = template::request(&template.parts, sender);
            template::put(&mut extra.last, template, value);
        }
        Some(Cow::Owned(extra))
    }

    /// Backends that may get a copy.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = &'s Mirror> {
        let both = [self.route, self.arm].into_iter().flatten();
        both.flat_map(|filters| &filters.mirrors)
    }

    /// `None` if there are no filters at all, and the passage changes nothing of the answer.
    pub(crate) fn effects(
        &self,
        sender: &Sender<'_>,
        backend: Timeouts,
        passage: Option<&Passage>,
    ) -> Option<Box<Effects>> {
        let changes = passage.is_some_and(Passage::changes_answer);
        if self.route.is_none() && self.arm.is_none() && !changes {
            return None;
        }
        Some(Box::new(Effects {
            timeouts: self.timeouts(backend),
            answer: self.answer(sender),
            tries: Tries {
                limit: self.inner(|filters| filters.try_timeout),
                retry: self.inner(|filters| filters.retry.clone()),
            },
            after: After::default(),
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

    /// What pages of other origins need to read an answer that is the gateway's own: that a request
    /// was refused, too.
    pub(crate) fn for_pages(&self, view: View<'_>) -> Vec<(String, String)> {
        let Some((filters, cors)) = self.cors() else {
            return Vec::new();
        };
        let fields = cors::answer(filters, cors, view);
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value));
        fields.chain([("vary".into(), "Origin".into())]).collect()
    }

    fn cors(&self) -> Option<(&'s CompiledFilters, &'s Cors)> {
        self.inner(|filters| Some((filters, filters.cors.as_deref()?)))
    }

    /// What changes in the answer.
    fn answer(&self, sender: &Sender<'_>) -> AnswerEdits {
        let mut edits = AnswerEdits::default();
        if let Some((filters, cors)) = self.cors() {
            edits.extend(cors::answer(filters, cors, sender.view));
            // Caches must not give one origin's answer to another.
            edits.append("vary", "Origin");
        }
        for filters in [self.route, self.arm].into_iter().flatten() {
            edits.apply(&filters.response_headers);
            for template in &filters.response_templates {
                edits.template(template, |part| template::known(part, sender));
            }
            let seen = sender.seen();
            let rewrites = filters.rewrites.iter();
            for rewrite in rewrites.filter(|rewrite| rewrite.when.hold(&seen)) {
                edits.rewrite(rewrite, |part| template::known(part, sender));
            }
        }
        let cookies = |filters: Option<&'s CompiledFilters>| filters?.cookies.as_ref();
        edits.cookies(cookies(self.route), cookies(self.arm));
        edits
    }
}
