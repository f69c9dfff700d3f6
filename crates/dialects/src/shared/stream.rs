//! What is passed on as it is, and policies that are made for requests.

use routing::model::{Arm, Guards, Instead, Respond};

/// Whether guards say who may call a backend. They cannot be asked of what is no HTTP, and passing
/// it on must not be a way around them.
pub(crate) fn protects(guards: &Guards) -> bool {
    guards.authorization.is_some()
        || guards.tokens.is_some()
        || guards.credentials.is_some()
        || guards.external.is_some()
}

/// Makes an arm close its share of the connections.
pub(crate) fn close(arm: &mut Arm) {
    // Nobody reads it: there is no HTTP.
    arm.instead = Some(Box::new(Instead::Respond(Respond {
        status: 503,
        headers: Vec::new(),
        body: "".into(),
    })));
}
