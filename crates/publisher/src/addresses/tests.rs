//! Which addresses Gateways get, keep and are told about.

use super::*;
use serde_json::{Value, json};

fn gateway(addresses: Value, status: Value) -> Gateway {
    let object = json!({
        "metadata": {},
        "spec": {"gatewayClassName": "a", "listeners": [], "addresses": addresses},
        "status": {"addresses": status},
    });
    serde_json::from_value(object).expect("a gateway")
}

const CLUSTER_IPS: GatewayRange = GatewayRange {
    first: Ipv4Addr::new(10, 7, 0, 1),
    last: Ipv4Addr::new(10, 7, 0, 254),
};

const NONE: ClusterIps = ClusterIps::new();

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, 0, last)
}

fn texts(assigned: &Assigned) -> Vec<String> {
    assigned.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn a_gateway_keeps_its_address_and_a_free_one_is_given_again() {
    let mut addresses = Addresses::new(
        GatewayRange {
            first: Ipv4Addr::new(127, 64, 0, 1),
            last: Ipv4Addr::new(127, 64, 0, 2),
        },
        None,
    );
    let (a, b, c) = (
        Name::new("n", "a"),
        Name::new("n", "b"),
        Name::new("n", "c"),
    );
    let plain = gateway(json!([]), json!([]));
    let stored = gateway(json!([]), json!([{"value": "127.64.0.1"}]));
    addresses.keep(&a, &plain);
    addresses.keep(&b, &stored);
    assert_eq!(texts(&addresses.assign(&a, &plain, &NONE)), ["127.64.0.2"]);
    assert_eq!(texts(&addresses.assign(&b, &stored, &NONE)), ["127.64.0.1"]);
    assert_eq!(texts(&addresses.assign(&c, &plain, &NONE)), [""; 0]);
    addresses.release(&a);
    assert_eq!(texts(&addresses.assign(&c, &plain, &NONE)), ["127.64.0.2"]);
    assert_eq!(texts(&addresses.assign(&c, &plain, &NONE)), ["127.64.0.2"]);
}

#[test]
fn addresses_that_are_asked_for_are_had_or_told_about() {
    let mut addresses = Addresses::new(GatewayRange::default(), None);
    let name = Name::new("n", "a");
    let mut assign = |specs: Value| {
        let gateway = gateway(specs, json!([]));
        addresses.keep(&name, &gateway);
        addresses.assign(&name, &gateway, &NONE)
    };
    let own = assign(json!([{"type": "IPAddress", "value": "127.64.0.1"}]));
    assert_eq!(texts(&own), ["127.64.0.1"]);
    assert_eq!(
        texts(&assign(json!([{"type": "IPAddress"}]))),
        ["127.64.0.1"]
    );
    let bad = assign(json!([{"type": "IPAddress", "value": "x"}, {"type": "Other", "value": "x"}]));
    let reason = |finding: Option<Finding>| finding.map(|finding| finding.reason);
    assert_eq!(reason(bad.unusable), Some("AddressNotUsable"));
    assert_eq!(reason(bad.unsupported), Some("UnsupportedAddress"));
    let host = |value: &str| json!([{"type": "Hostname", "value": value}]);
    let behind = assign(host("ingress.istio-gateways.svc.cluster.local"));
    assert_eq!(
        (texts(&behind), behind.unsupported),
        (vec!["127.64.0.1".to_owned()], None)
    );
    assert!(behind.missed[0].starts_with("spec.addresses[0]: no Service stands before"));
    let elsewhere = assign(host("gateway.example.com"));
    assert_eq!(reason(elsewhere.unsupported), Some("UnsupportedAddress"));
}

#[test]
fn each_entry_gets_an_address_that_is_reached_from_where_it_says() {
    let name = Name::new("n", "a");
    let mut addresses = Addresses::new(GatewayRange::default(), Some(CLUSTER_IPS));
    let mut assign = |specs: Value, cluster_ips: &[(usize, u8)]| {
        let gateway = gateway(specs, json!([]));
        addresses.keep(&name, &gateway);
        let cluster_ips = cluster_ips.iter().map(|(at, last)| (*at, ip(*last)));
        addresses.assign(&name, &gateway, &cluster_ips.collect())
    };
    let both = json!([{"type": "IPAddress"}, {"type": "IPAddress", "routability": "Cluster"}]);
    let waiting = assign(both.clone(), &[]);
    assert_eq!(texts(&waiting), ["127.64.0.1"]);
    assert_eq!(waiting.missed.len(), 1);
    let had = assign(both, &[(0, 9)]);
    assert_eq!(texts(&had), ["10.7.0.9", "127.64.0.1"]);
    let routability = had.routability.get(&IpAddr::V4(ip(9)));
    assert_eq!(routability.map(|it| &**it), Some("Cluster"));
    assert!(had.missed.is_empty());
    for entry in [
        json!([{"type": "IPAddress", "routability": "Cluster", "value": "192.0.2.1"}]),
        json!([{"type": "IPAddress", "routability": "example.com/wan"}]),
    ] {
        let missed = assign(entry.clone(), &[(0, 9)]);
        assert!(
            missed.addresses.is_empty() && missed.missed.len() == 1,
            "{entry}"
        );
    }
    let two = assign(json!([{"type": "IPAddress"}, {"type": "IPAddress"}]), &[]);
    assert_eq!(texts(&two), ["127.64.0.1", "127.64.0.2"]);
}

#[test]
fn each_entry_for_the_cluster_has_a_service_and_keeps_it() {
    let name = Name::new("n", "a");
    let mut addresses = Addresses::new(GatewayRange::default(), Some(CLUSTER_IPS));
    let mut assign = |values: &[&str], had: &[(usize, u8)]| {
        let entry = |value: &&str| {
            let mut entry = json!({"type": "IPAddress", "routability": "Cluster"});
            if !value.is_empty() {
                entry["value"] = json!(value);
            }
            entry
        };
        let gateway = gateway(values.iter().map(entry).collect(), json!([]));
        let had = had.iter().map(|(at, last)| (*at, ip(*last))).collect();
        let assigned = addresses.assign(&name, &gateway, &had);
        let texts = texts(&assigned);
        let services: Vec<_> = assigned.cluster_ips.into_iter().collect();
        (texts, services, assigned.missed.len())
    };
    let (own, asked) = (Some(ip(9)), Some(ip(5)));
    // Before there is a Service: it asks for what the entry asks for.
    let none: Vec<String> = Vec::new();
    assert_eq!(assign(&["10.7.0.9"], &[]), (none, vec![(0, own)], 1));
    let nine = || vec!["10.7.0.9".to_owned()];
    assert_eq!(
        assign(&["10.7.0.9"], &[(0, 9)]),
        (nine(), vec![(0, own)], 0)
    );
    // Further entries wait for Services of their own, and the first one's stays.
    let more = vec![(0, own), (1, asked), (2, None)];
    assert_eq!(assign(&["10.7.0.5", "", ""], &[(0, 9)]), (nine(), more, 2));
    let all = ["10.7.0.5", "10.7.0.7", "10.7.0.9"].map(str::to_owned);
    let had = [(0, 9), (1, 5), (2, 7)];
    let kept = vec![(0, own), (1, asked), (2, Some(ip(7)))];
    assert_eq!(
        assign(&["", "10.7.0.5", ""], &had),
        (all.to_vec(), kept, 0),
        "in any order"
    );
    let five = vec!["10.7.0.5".to_owned()];
    assert_eq!(assign(&["10.7.0.5"], &had), (five, vec![(1, asked)], 0));
}
