//! The zone over objects in memory, and one server over real sockets.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RData, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::zone::{self, Outcome, View};

struct Objects;

impl View for Objects {
    fn has_namespace(&self, name: &str) -> bool {
        name == "shop"
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        let spec = match (namespace, name) {
            ("shop", "web") => json!({
                "clusterIP": "10.96.0.7",
                "ports": [{ "name": "http", "port": 80 }, { "name": "udp", "port": 53, "protocol": "UDP" }],
            }),
            ("shop", "db") => {
                json!({ "clusterIP": "None", "ports": [{ "name": "sql", "port": 1 }] })
            }
            ("shop", "inside") => {
                json!({ "type": "ExternalName", "externalName": "web.shop.svc.cluster.local" })
            }
            ("shop", "outside") => json!({ "type": "ExternalName", "externalName": "example.org" }),
            ("shop", "round") => {
                json!({ "type": "ExternalName", "externalName": "round.shop.svc.cluster.local" })
            }
            _ => return None,
        };
        let metadata = json!({ "name": name, "namespace": namespace });
        let service = json!({ "metadata": metadata, "spec": spec });
        Some(Arc::new(
            serde_json::from_value(service).expect("a Service"),
        ))
    }

    fn services_at(&self, _: IpAddr) -> Vec<Arc<Service>> {
        ["web", "db"]
            .into_iter()
            .filter_map(|name| self.service("shop", name))
            .collect()
    }

    fn slices(&self, _: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        if service != "db" {
            return Vec::new();
        }
        let slice = json!({
            "metadata": { "name": "db" },
            "addressType": "IPv4",
            "ports": [{ "name": "sql", "port": 5432 }],
            "endpoints": [
                { "addresses": ["10.99.0.2"], "hostname": "db-0", "conditions": { "ready": true } },
                { "addresses": ["10.99.0.3"] },
                { "addresses": ["10.99.0.4"], "conditions": { "ready": false } },
            ],
        });
        vec![Arc::new(serde_json::from_value(slice).expect("a slice"))]
    }

    fn has_pod(&self, namespace: &str, ip: &str) -> bool {
        namespace == "shop" && ip == "10.99.0.2"
    }
}

/// The records of an answer in short, or what else came out.
fn ask(name: &str, kind: RecordType) -> Vec<String> {
    let name = Name::from_ascii(name).expect("a name");
    match zone::lookup(&name, kind, &Objects) {
        Outcome::NotOurs => vec!["not ours".to_owned()],
        Outcome::Unknown => vec!["unknown".to_owned()],
        Outcome::Found(records) => records
            .iter()
            .map(|record| match &record.data {
                RData::SRV(srv) => format!("{} {}", srv.port, srv.target),
                data => data.to_string(),
            })
            .collect(),
    }
}

#[test]
fn names_of_services_and_pods_stand_for_what_kubernetes_says() {
    use RecordType::{A, AAAA, CNAME, PTR, SRV};
    for (name, kind, expected) in [
        ("web.shop.svc.cluster.local.", A, vec!["10.96.0.7"]),
        ("WEB.Shop.svc.Cluster.local.", A, vec!["10.96.0.7"]),
        ("web.shop.svc.cluster.local.", AAAA, vec![]),
        (
            "_http._tcp.web.shop.svc.cluster.local.",
            SRV,
            vec!["80 web.shop.svc.cluster.local."],
        ),
        (
            "_udp._udp.web.shop.svc.cluster.local.",
            SRV,
            vec!["53 web.shop.svc.cluster.local."],
        ),
        (
            "_http._udp.web.shop.svc.cluster.local.",
            SRV,
            vec!["unknown"],
        ),
        (
            "db.shop.svc.cluster.local.",
            A,
            vec!["10.99.0.2", "10.99.0.3"],
        ),
        ("db-0.db.shop.svc.cluster.local.", A, vec!["10.99.0.2"]),
        ("10-99-0-3.db.shop.svc.cluster.local.", A, vec!["10.99.0.3"]),
        (
            "_sql._tcp.db.shop.svc.cluster.local.",
            SRV,
            vec![
                "5432 db-0.db.shop.svc.cluster.local.",
                "5432 10-99-0-3.db.shop.svc.cluster.local.",
            ],
        ),
        (
            "inside.shop.svc.cluster.local.",
            A,
            vec!["web.shop.svc.cluster.local.", "10.96.0.7"],
        ),
        ("outside.shop.svc.cluster.local.", A, vec!["example.org."]),
        (
            "outside.shop.svc.cluster.local.",
            CNAME,
            vec!["example.org."],
        ),
        ("10-99-0-2.shop.pod.cluster.local.", A, vec!["10.99.0.2"]),
        ("10-99-0-9.shop.pod.cluster.local.", A, vec!["unknown"]),
        (
            "7.0.96.10.in-addr.arpa.",
            PTR,
            vec!["web.shop.svc.cluster.local."],
        ),
        (
            "2.0.99.10.in-addr.arpa.",
            PTR,
            vec!["db-0.db.shop.svc.cluster.local."],
        ),
        ("9.9.9.9.in-addr.arpa.", PTR, vec!["not ours"]),
        ("shop.svc.cluster.local.", A, vec![]),
        ("other.svc.cluster.local.", A, vec!["unknown"]),
        ("none.shop.svc.cluster.local.", A, vec!["unknown"]),
        ("cluster.local.", A, vec![]),
        ("xcluster.local.", A, vec!["not ours"]),
        ("example.org.", A, vec!["not ours"]),
    ] {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn an_alias_to_itself_ends() {
    assert!(ask("round.shop.svc.cluster.local.", RecordType::A).len() <= 8);
}
