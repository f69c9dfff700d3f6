//! `upgrades`, of listeners and of routes: what a route does not say, its listener does.
//!
//! A CONNECT has no path, so it takes only a route that has a `connectMatcher`. Where it leads, the
//! route's destinations say; what the client names is compared with the domains and nothing more.

use routing::model::Connect;

use super::matcher::{Matcher, flag};
use super::options::Options;
use crate::fields::Fields;

/// What a listener lets through where a route says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub(super) websocket: bool,
    pub(super) connect: bool,
}

impl Default for Allowed {
    /// WebSockets pass unless somebody says otherwise.
    fn default() -> Self {
        Self {
            websocket: true,
            connect: false,
        }
    }
}

impl Allowed {
    /// Of listeners that share a port: what one of them lets through.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            websocket: self.websocket || other.websocket,
            connect: self.connect || other.connect,
        }
    }
}

/// What one list says; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Upgrades {
    pub(super) websocket: Option<bool>,
    /// `Some(None)`: refused.
    connect: Option<Option<Connect>>,
}

impl Upgrades {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let mut out = Self::default();
        for entry in fields.objects("upgrades") {
            let enabled = |key: &str| {
                let spec = entry.object(key)?;
                Some(flag(&spec, "enabled").unwrap_or(true))
            };
            if let Some(is_enabled) = enabled("websocket") {
                out.websocket = Some(is_enabled);
            }
            let ways = [
                ("connect", Connect::Pass),
                ("connectTerminate", Connect::Terminate),
            ];
            for (key, how) in ways {
                let Some(is_enabled) = enabled(key) else {
                    continue;
                };
                if out.connect.is_none() {
                    out.connect = Some(is_enabled.then_some(how));
                } else {
                    out.connect = Some(None);
                    let text = "CONNECT is spoken of more than once; it is refused";
                    entry.refuse(key, "UpgradeNotUnique", text);
                }
            }
        }
        out
    }

    /// Those of a listener.
    pub(super) fn of_listener(fields: &Fields<'_>) -> Allowed {
        let read = Self::read(fields);
        let connect = read.connect.flatten();
        if connect == Some(Connect::Terminate) {
            let text = "connectTerminate is for routes: write connect here, and connectTerminate \
                        in the options of the route";
            fields.refuse("upgrades", "FieldInvalid", text);
        }
        let usual = Allowed::default();
        Allowed {
            websocket: read.websocket.unwrap_or(usual.websocket),
            connect: connect == Some(Connect::Pass),
        }
    }

    /// What becomes of a CONNECT on a route, and whether the route says itself that it is let
    /// through.
    pub(super) fn connect(self, allowed: Allowed) -> (Option<Connect>, bool) {
        let usual = allowed.connect.then_some(Connect::Pass);
        let own = self.connect.flatten().is_some();
        (self.connect.unwrap_or(usual), own)
    }
}

/// What becomes of CONNECT requests on a route that sends on: one takes it only if a matcher is for
/// that, and goes on only if an upgrade is. The text tells what will not happen.
pub(super) fn settle(matchers: &[Matcher], options: &mut Options) -> Option<&'static str> {
    let (how, is_own) = options.connect;
    if matchers.iter().any(Matcher::is_connect) {
        options.filters.connect = how;
        let refused = "neither the route's upgrades nor those of its listener enable CONNECT, so it \
                       is answered 403";
        return how.is_none().then_some(refused);
    }
    is_own.then_some("no matcher of the route is a connectMatcher, so no CONNECT takes it")
}
