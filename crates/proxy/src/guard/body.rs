//! The size of a request's body, what of it is held back, and requests to change the protocol.

use routing::model::{AskedBody, Guards};

use super::{Held, Kind, Passage, Refusal};
use crate::downstream::Downstream;
use crate::failure::Failure;
use crate::held::{HoldError, Room};
use crate::message::{SourceError, View};
use crate::timeout::{Limit, Patience};
use crate::worker::Worker;

/// Refuses what can be seen in the head; the rest is counted while it is sent.
pub(super) fn check(
    guards: &Guards,
    downstream: &impl Downstream,
    passage: &mut Passage,
) -> Result<(), Held> {
    if let Some(most) = guards.max_body {
        if announced(downstream.view()).is_some_and(|length| length > most) {
            return Err(Refusal::new(Kind::Body, 413, "Payload Too Large").into());
        }
        let held = passage.after.max_body;
        passage.after.max_body = Some(held.map_or(most, |held| held.min(most)));
    }
    if guards.no_upgrade && downstream.view().head.upgrade.is_some() {
        return Err(Refusal::new(Kind::Upgrade, 403, "upgrade failed").into());
    }
    Ok(())
}

/// Reads as much of the body as somebody is to be shown. What changes the protocol has none.
pub(super) async fn hold<D: Downstream>(
    asked: &AskedBody,
    worker: &Worker,
    downstream: &mut D,
    passage: &mut Passage,
) -> Result<(), Held> {
    if !downstream.has_body() || downstream.wants_tunnel() {
        return Ok(());
    }
    let too_large = || Held::from(Refusal::new(Kind::Body, 413, "Payload Too Large"));
    let length = announced(downstream.view());
    if !asked.partial && length.is_some_and(|length| length > asked.most.into()) {
        return Err(too_large());
    }
    let most = asked.most as usize;
    // The byte that is too much tells a body that is too long.
    let wanted = most.saturating_add(usize::from(!asked.partial));
    let room = Room {
        account: &worker.guards.bodies,
        patience: Patience {
            limits: &worker.limits,
            is_grpc: downstream.view().is_grpc(),
        },
    };
    let held = downstream.hold_body(wanted, &room).await;
    held.map_err(|error| match error {
        HoldError::Source(SourceError::Malformed(why)) => Held::Failed(Failure::BadRequest(why)),
        HoldError::Source(SourceError::Gone | SourceError::Reset(_)) => {
            Held::Failed(Failure::ClientGone)
        }
        HoldError::Stalled => Held::Failed(Limit::ClientStalled.into()),
        HoldError::NoRoom => Refusal::new(Kind::Body, 503, "too many bodies are held").into(),
    })?;
    let is_over = |bytes: usize| !asked.partial && bytes > most;
    if downstream
        .held()
        .is_some_and(|held| is_over(held.bytes.len()))
    {
        return Err(too_large());
    }
    // The client was told to go on.
    passage.extra.first.remove.push("expect".into());
    Ok(())
}

/// The length that the client says its body has.
fn announced(view: View<'_>) -> Option<u64> {
    let length = view.field("content-length")?;
    std::str::from_utf8(length).ok()?.trim().parse().ok()
}
