//! `ipaddresses` of `networking.k8s.io`: the cluster IPs that Services have.
//!
//! They are what the Services say, read when somebody asks: an object for each would be kept in
//! step for nobody.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::connect::Measure;
use crate::store::{Scope, Store};

/// What is read of a Service.
#[derive(Deserialize)]
struct Service {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    #[serde(default)]
    uid: String,
    creation_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "clusterIPs", default)]
    cluster_ips: Vec<String>,
    #[serde(rename = "clusterIP", default)]
    cluster_ip: String,
}

/// Answers for all Services of the store.
pub(crate) fn measure(store: &Store) -> Measure {
    let store = store.clone();
    Arc::new(move |_: String, wanted: String| {
        let (_, services) = store.list("services", &Scope::All);
        let services = services.iter().filter_map(|object| object.read());
        let mut all: Vec<_> = services.flat_map(|service| of(&service)).collect();
        all.retain(|(address, _)| wanted.is_empty() || address.to_string() == wanted);
        all.sort_by_key(|(address, _)| *address);
        let all = all.into_iter().map(|(_, object)| object).collect();
        Box::pin(std::future::ready(all))
    })
}

fn of(service: &Service) -> Vec<(IpAddr, Value)> {
    let Service { metadata, spec } = service;
    let mut texts = spec.cluster_ips.clone();
    if texts.is_empty() {
        texts.push(spec.cluster_ip.clone());
    }
    // Headless Services say `None`.
    let addresses = texts.iter().filter_map(|text| text.parse().ok());
    addresses
        .map(|address: IpAddr| {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let object = json!({
                "kind": "IPAddress",
                "apiVersion": "networking.k8s.io/v1",
                "metadata": {
                    "name": address.to_string(),
                    "uid": metadata.uid,
                    "creationTimestamp": metadata.creation_timestamp,
                    "labels": {
                        "ipaddress.kubernetes.io/ip-family": family,
                        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                    },
                },
                "spec": { "parentRef": {
                    "group": "", "resource": "services",
                    "namespace": metadata.namespace, "name": metadata.name,
                } },
            });
            (address, object)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_addresses_that_it_says() {
        let named = |spec: Value| -> Vec<Value> {
            let service =
                json!({ "metadata": { "name": "s", "namespace": "n", "uid": "u" }, "spec": spec });
            let service = serde_json::from_value(service).expect("a Service");
            of(&service).into_iter().map(|(_, object)| object).collect()
        };
        let found =
            named(json!({ "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7", "fd00::1"] }));
        assert_eq!(found[0]["metadata"]["name"], "10.0.0.7");
        assert_eq!(found[0]["spec"]["parentRef"]["namespace"], "n");
        let family = &found[1]["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"];
        assert_eq!(family, "IPv6");
        assert!(named(json!({ "clusterIP": "None", "clusterIPs": ["None"] })).is_empty());
        assert!(named(json!({ "type": "ExternalName" })).is_empty());
        assert_eq!(named(json!({ "clusterIP": "10.0.0.7" })).len(), 1);
    }
}
