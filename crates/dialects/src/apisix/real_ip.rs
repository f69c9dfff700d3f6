//! `real-ip`: where the client's address is. As in APISIX it is taken after a rule was matched, so
//! `remoteAddrs` of a rule compare the address at the other end of the connection.

use std::sync::Arc;

use routing::model::{ClientPlace, ClientSource, Network, TrustedProxies};

use super::plugin::Effects;
use crate::fields::Fields;
use crate::shared::headers;

pub(super) fn read(config: &Fields<'_>, effects: &mut Effects) {
    let place = config.parse("source", place);
    let mut networks = Vec::new();
    let mut is_readable = true;
    for text in config.strings("trusted_addresses") {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => {
                is_readable = false;
                let message =
                    format!("{text:?} is no address or network: no proxy is trusted until it is");
                config.refuse("trusted_addresses", "NetworkInvalid", message);
            }
        }
    }
    let is_recursive = config.bool("recursive").unwrap_or(false);
    let Some(place) = place else {
        if !config.has("source") {
            let message = "source says where the address is, for example http_x_forwarded_for";
            config.refuse("source", "FieldMissing", message);
        }
        return;
    };
    // Without what was left out everybody would be trusted.
    if is_readable {
        effects.filters.client = Some(Arc::new(ClientSource {
            place,
            trust: TrustedProxies::Networks {
                networks: networks.into(),
                is_recursive,
            },
        }));
    }
}

/// A variable of nginx that holds an address.
fn place(text: &str) -> Result<ClientPlace, String> {
    if let Some(name) = text.strip_prefix("http_") {
        return headers::name(&name.replace('_', "-")).map(ClientPlace::Header);
    }
    match text.strip_prefix("arg_") {
        Some(name) if !name.is_empty() => Ok(ClientPlace::Query(name.into())),
        _ => Err(format!(
            "{text:?} is not supported, write http_NAME for a header or arg_NAME for a parameter"
        )),
    }
}
