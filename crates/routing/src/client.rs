//! Who a client is when proxies are in front of the gateway: the address that they say.
//!
//! What a request claims counts as far as the route trusts who passed it on; otherwise the client
//! is whoever is at the other end of the connection.

use std::net::{IpAddr, SocketAddr};

use crate::model::{ClientPlace, ClientSource, TrustedProxies};
use crate::query;
use crate::view::RequestView;

/// Addresses of a list that are looked at, from its end.
const MOST: usize = 64;

/// The client's address as `source` says.
pub fn address(source: &ClientSource, request: &impl RequestView) -> Option<IpAddr> {
    let peer = request.peer();
    let listed = |wanted: &mut dyn FnMut(&[Option<IpAddr>]) -> Option<IpAddr>| {
        let mut all = Vec::new();
        let mut read = |value: &[u8]| {
            let parts = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            all.extend(parts.filter(|part| !part.is_empty()).map(parse));
        };
        match &source.place {
            ClientPlace::Header(name) => request.each_value(name, &mut read),
            ClientPlace::Query(name) => {
                if let Some(value) = query::first(request.query(), name) {
                    read(&value);
                }
            }
        }
        let first = all.len().saturating_sub(MOST);
        wanted(&all[first..])
    };
    let said = match &source.trust {
        TrustedProxies::Hops(0) => None,
        // Envoy: the address so many places from the end; the peer's if there are fewer.
        TrustedProxies::Hops(hops) => listed(&mut |all| {
            let at = all.len().checked_sub(*hops as usize)?;
            *all.get(at)?
        }),
        TrustedProxies::Networks { is_recursive, .. } => {
            let trusts = |address| trusts(source, address);
            if !peer.is_some_and(trusts) {
                return peer;
            }
            listed(&mut |all| {
                if !is_recursive {
                    return *all.last()?;
                }
                let mut found = None;
                for address in all.iter().rev() {
                    // What cannot be read was not said by a trusted proxy.
                    let Some(address) = *address else { break };
                    found = Some(address);
                    if !trusts(address) {
                        break;
                    }
                }
                found
            })
        }
    };
    said.or(peer)
}

/// Whether whoever is at the other end of the connection is one of the proxies that are believed.
pub fn trusts(source: &ClientSource, peer: IpAddr) -> bool {
    match &source.trust {
        TrustedProxies::Hops(hops) => *hops > 0,
        TrustedProxies::Networks { networks, .. } => {
            networks.is_empty() || networks.iter().any(|one| one.contains(peer))
        }
    }
}

/// An address, perhaps with a port or in brackets.
fn parse(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;

    struct Sent(&'static [&'static str]);

    impl RequestView for Sent {
        fn host(&self) -> &str {
            "a"
        }
        fn path(&self) -> &str {
            "/"
        }
        fn header(&self, _: &str) -> Option<&[u8]> {
            self.0.first().map(|value| value.as_bytes())
        }
        fn method(&self) -> &str {
            "GET"
        }
        fn query(&self) -> &str {
            "realip=7.7.7.7&x=1"
        }
        fn each_value(&self, _: &str, each: &mut dyn FnMut(&[u8])) {
            self.0.iter().for_each(|value| each(value.as_bytes()));
        }
        fn peer(&self) -> Option<IpAddr> {
            Some([10, 0, 0, 1].into())
        }
    }

    fn check(trust: TrustedProxies, sent: &'static [&'static str], wanted: &str) {
        let source = ClientSource {
            place: ClientPlace::Header("x-forwarded-for".into()),
            trust,
        };
        let found = address(&source, &Sent(sent)).map(|address| address.to_string());
        assert_eq!(found.as_deref(), Some(wanted), "{sent:?}");
    }

    fn networks(texts: &[&str], is_recursive: bool) -> TrustedProxies {
        let networks = texts.iter().filter_map(|text| Network::parse(text));
        TrustedProxies::Networks {
            networks: networks.collect(),
            is_recursive,
        }
    }

    #[test]
    fn hops_count_from_the_end_and_too_few_addresses_are_no_claim() {
        let sent: &[&str] = &["1.1.1.1, 2.2.2.2", "3.3.3.3"];
        check(TrustedProxies::Hops(1), sent, "3.3.3.3");
        check(TrustedProxies::Hops(2), sent, "2.2.2.2");
        check(TrustedProxies::Hops(3), sent, "1.1.1.1");
        check(TrustedProxies::Hops(4), sent, "10.0.0.1");
        check(TrustedProxies::Hops(0), sent, "10.0.0.1");
        check(TrustedProxies::Hops(1), &[], "10.0.0.1");
        check(TrustedProxies::Hops(1), &["unknown"], "10.0.0.1");
    }

    #[test]
    fn ports_and_brackets_are_no_part_of_an_address() {
        check(TrustedProxies::Hops(1), &["1.1.1.1:80"], "1.1.1.1");
        check(
            TrustedProxies::Hops(1),
            &["[2001:db8::1]:80"],
            "2001:db8::1",
        );
        check(TrustedProxies::Hops(1), &["[2001:db8::1]"], "2001:db8::1");
        check(TrustedProxies::Hops(1), &["::ffff:1.2.3.4"], "1.2.3.4");
    }

    #[test]
    fn only_trusted_networks_may_speak_for_a_client() {
        let sent: &[&str] = &["1.1.1.1, 2.2.2.2, 10.0.0.2"];
        check(networks(&["192.168.0.0/16"], true), sent, "10.0.0.1");
        check(networks(&["10.0.0.0/8"], false), sent, "10.0.0.2");
        check(networks(&["10.0.0.0/8"], true), sent, "2.2.2.2");
        check(networks(&["0.0.0.0/0"], true), sent, "1.1.1.1");
        check(
            networks(&["10.0.0.0/8"], true),
            &["x, 10.0.0.2"],
            "10.0.0.2",
        );
        check(networks(&[], false), sent, "10.0.0.2");
    }

    #[test]
    fn a_parameter_may_name_the_client() {
        let source = ClientSource {
            place: ClientPlace::Query("realip".into()),
            trust: networks(&[], false),
        };
        let found = address(&source, &Sent(&[]));
        assert_eq!(found, Some([7, 7, 7, 7].into()));
    }
}
