//! `clientAddress`: which proxies may say who the client is.

use std::sync::Arc;

use routing::model::{ClientPlace, ClientSource, Network, TrustedProxies};

use crate::fields::Fields;
use crate::shared::{client, headers};

/// `None` if it cannot be read: then nobody is believed.
pub(super) fn read(fields: &Fields<'_>) -> Option<Arc<ClientSource>> {
    let header = match fields.text("header").map(headers::name) {
        None => client::FORWARDED_FOR.into(),
        Some(Ok(name)) => name,
        Some(Err(error)) => {
            fields.refuse("header", "HeaderInvalid", error);
            return None;
        }
    };
    let hops = fields.number::<u32>("trustedHops").filter(|hops| *hops > 0);
    let mut networks = Vec::new();
    for text in fields.strings("trustedNetworks") {
        let Some(network) = Network::parse(text) else {
            let message = format!("{text:?} is no address or network: nobody is believed");
            fields.refuse("trustedNetworks", "NetworkInvalid", message);
            return None;
        };
        networks.push(network);
    }
    let is_recursive = fields.bool("recursive").unwrap_or(true);
    let trust = match (hops, networks.is_empty()) {
        (Some(hops), true) => TrustedProxies::Hops(hops),
        (None, false) => TrustedProxies::Networks {
            networks: networks.into(),
            is_recursive,
        },
        _ => {
            let message = "write one of trustedHops and trustedNetworks: nobody is believed";
            fields
                .findings()
                .refuse("TrustInvalid", fields.path(), message);
            return None;
        }
    };
    Some(Arc::new(ClientSource {
        place: ClientPlace::Header(header),
        trust,
    }))
}
