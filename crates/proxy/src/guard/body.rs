//! The size of a request's body, and requests to change the protocol.

use routing::model::Guards;

use super::{Held, Kind, Passage, Refusal};
use crate::downstream::Downstream;
use crate::message::View;

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
    if guards.no_upgrade && downstream.wants_upgrade() {
        return Err(Refusal::new(Kind::Upgrade, 403, "upgrade failed").into());
    }
    Ok(())
}

/// The length that the client says its body has.
fn announced(view: View<'_>) -> Option<u64> {
    let length = view.field("content-length")?;
    std::str::from_utf8(length).ok()?.trim().parse().ok()
}
