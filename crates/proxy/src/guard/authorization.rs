//! Rules about who may: those that deny, those that allow, and those that only tell the log.

use routing::{CompiledGuards, RequestView};

use super::{Asked, Held, Kind, Passage, Refusal};
use crate::message::View;
use crate::seen::Seen;
use crate::target;

impl Asked<'_> {
    pub(super) fn authorize(
        &self,
        guards: &CompiledGuards,
        view: View<'_>,
        passage: &Passage,
    ) -> Result<(), Held> {
        let Some(rules) = &guards.authorization else {
            return Ok(());
        };
        let seen = self.seen(view, passage);
        for rule in rules.audit.iter().filter(|rule| rule.holds(&seen)) {
            tracing::info!(
                target: "proxy::audit",
                policy = %rule.policy,
                peer = self.client.peer.text,
                method = view.method(),
                authority = view.authority(),
                target = view.target(),
            );
        }
        let resolved = target::resolved(view.path());
        // However the path is written, what a backend may take it for must be allowed too.
        let judged = rules.judge(&seen).and_then(|()| match &resolved {
            None => Ok(()),
            Some(path) => rules.judge(&Seen {
                path: Some(path),
                ..seen
            }),
        });
        let Err(policy) = judged else {
            return Ok(());
        };
        let policy = policy.map_or("no policy allows it", |policy| policy);
        tracing::debug!(policy, route = %self.route.id(), "denied");
        let authorization = guards.source.authorization.as_ref();
        let denied = authorization.and_then(|authorization| authorization.denied.as_ref());
        Err(match denied {
            Some(respond) => Refusal::with(Kind::Authorization, respond),
            None => Refusal::new(Kind::Authorization, 403, "RBAC: access denied"),
        }
        .into())
    }
}
