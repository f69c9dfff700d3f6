//! For which servers' connections a match of `tls` and `tcp` is: what the two have in common
//! (Istio's L4MatchAttributes).

use super::place::{Place, gateway_name};
use crate::fields::Fields;
use crate::foreign::Object;

/// What a match says beside names.
pub(super) struct Reach {
    gateways: Option<Vec<String>>,
    port: Option<u16>,
    is_served: bool,
}

impl Reach {
    /// Of a rule without `match`.
    pub(super) fn everything() -> Self {
        Self {
            gateways: None,
            port: None,
            is_served: true,
        }
    }

    /// Reads it, and reports what cannot be matched: such a match is not served, because without
    /// the condition it would take connections that are not meant.
    pub(super) fn read(fields: &Fields<'_>, object: &Object) -> Self {
        let namespace = &object.name.namespace;
        let gateways = fields.has("gateways").then(|| {
            let names = fields.strings("gateways").into_iter();
            names.map(|name| gateway_name(name, namespace)).collect()
        });
        let mut is_served = true;
        for key in [
            "destinationSubnets",
            "sourceSubnet",
            "sourceLabels",
            "sourceNamespace",
        ] {
            is_served &= !fields.has(key);
            fields.unsupported(key, "the match is not served with it; remove it");
        }
        Self {
            gateways,
            port: fields.number("port"),
            is_served,
        }
    }

    /// Whether connections of this server are meant.
    pub(super) fn has(&self, place: &Place) -> bool {
        let gateways = self.gateways.as_ref();
        self.is_served
            && gateways.is_none_or(|names| names.contains(&place.gateway))
            && self.port.is_none_or(|port| place.port == Some(port))
    }
}
