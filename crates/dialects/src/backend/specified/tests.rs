//! What an object says about a backend is what the backend is, and only that.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::backend::translate_as;
use crate::objects::{Dependency, LookedUp, Objects};
use routing::model::BackendPolicy;
use serde_json::{Value, json};

fn objects(port: Value) -> Objects {
    let mut objects = Objects::default();
    let service = json!({
        "metadata": {"name": "app", "namespace": "default"}, "spec": {"ports": [port]},
    });
    let service = serde_json::from_value(service).expect("a Service");
    objects.put_service(&Name::new("default", "app"), Some(Arc::new(service)));
    let endpoint = |last: u8, pod: &str| {
        json!({
            "addresses": [format!("10.0.0.{last}")], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod},
        })
    };
    let slice = json!({
        "metadata": {
            "name": "app-1", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "app"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [endpoint(1, "one"), endpoint(2, "two")],
    });
    let slice = serde_json::from_value(slice).expect("a slice");
    objects.put_slice(&Name::new("default", "app-1"), Some(Arc::new(slice)));
    for (pod, version) in [("one", "v1"), ("two", "v2")] {
        let labels = BTreeMap::from([("version".to_owned(), version.to_owned())]);
        objects.put_pod(&Name::new("default", pod), Some(Arc::new(labels)));
    }
    objects
}

fn reference() -> BackendRef {
    BackendRef {
        service: Name::new("default", "app"),
        port: 80,
        http2: false,
        stream: None,
        variant: Some("istio/default/app:v1".into()),
    }
}

fn of_version(version: &str) -> BackendSpec {
    BackendSpec {
        labels: BTreeMap::from([("version".to_owned(), version.to_owned())]),
        ..BackendSpec::default()
    }
}

fn addresses(spec: &BackendSpec, objects: &Objects) -> (Vec<String>, BTreeSet<Dependency>) {
    let translation = translate_as(&reference(), Some(spec), objects);
    let backend = translation.backend.expect("a backend");
    let all = backend.endpoints.iter().map(|it| it.address.to_string());
    (all.collect(), translation.reads)
}

#[test]
fn a_subset_has_the_pods_with_its_labels() {
    let mut objects = objects(json!({"port": 80}));
    let (found, reads) = addresses(&of_version("v2"), &objects);
    assert_eq!(found, ["10.0.0.2:8080"]);
    assert!(reads.contains(&Dependency::Pod(Name::new("default", "one"))));
    // A pod that is gone, or not known yet, belongs to no subset.
    objects.put_pod(&Name::new("default", "two"), None);
    assert_eq!(addresses(&of_version("v2"), &objects).0, [""; 0]);
    assert_eq!(addresses(&BackendSpec::default(), &objects).0.len(), 2);
}

#[test]
fn what_the_object_says_is_said_of_the_backend() {
    let objects = objects(json!({"port": 80}));
    let limit = Timeouts {
        idle: Some(Duration::from_secs(5)),
        ..Timeouts::default()
    };
    let spec = BackendSpec {
        policy: Some(Arc::new(BackendPolicy::default())),
        protocol: Some(Protocol::H2c),
        timeouts: Some(limit),
        ..BackendSpec::default()
    };
    let backend = translate_as(&reference(), Some(&spec), &objects).backend;
    let backend = backend.expect("a backend");
    assert_eq!(&*backend.id.0, "default/app:80@istio/default/app:v1");
    assert_eq!(backend.protocol, Protocol::H2c);
    assert_eq!(backend.timeouts, limit);
    assert!(backend.policy.is_some());
}

#[test]
fn a_port_that_wants_tls_is_served_to_those_who_say_how() {
    let objects = objects(json!({"port": 80, "appProtocol": "https"}));
    let plain = translate_as(&reference(), Some(&BackendSpec::default()), &objects);
    assert_eq!(plain.backend, None);
    let spec = BackendSpec {
        protocol: Some(Protocol::Http1),
        ..BackendSpec::default()
    };
    let said = translate_as(&reference(), Some(&spec), &objects);
    assert!(said.backend.is_some());
}

#[test]
fn hosts_outside_are_literal_addresses_at_once_and_names_once_they_are_known() {
    let host = |host: &str, weight| ExternalHost {
        host: host.into(),
        port: 443,
        weight,
        locality: None,
    };
    let spec = BackendSpec {
        hosts: vec![
            host("192.0.2.1", 3),
            host("api.example.com", 1),
            host("[2001:db8::1]", 1),
        ],
        ..BackendSpec::default()
    };
    let mut objects = Objects::default();
    let (found, reads) = addresses(&spec, &objects);
    assert_eq!(found, ["192.0.2.1:443", "[2001:db8::1]:443"]);
    let name: Arc<str> = "api.example.com".into();
    assert_eq!(reads, BTreeSet::from([Dependency::Dns(Arc::clone(&name))]));
    let mut known = LookedUp {
        addresses: [IpAddr::from([192, 0, 2, 7])].into(),
        failure: None,
    };
    let changed = objects.put_dns(&name, Some(known.clone()));
    assert_eq!(changed, [Dependency::Dns(Arc::clone(&name))]);
    assert_eq!(addresses(&spec, &objects).0.len(), 3);
    known.failure = Some("nobody answers".into());
    let changed = objects.put_dns(&name, Some(known));
    assert_eq!(changed, [Dependency::Unfound(Arc::clone(&name))]);
    assert_eq!(addresses(&spec, &objects).0.len(), 3);
    let told = objects.unfound(&name).expect("told");
    assert_eq!(
        &**told,
        "host api.example.com cannot be looked up: nobody answers; the addresses that were found \
         last stay in use"
    );
    objects.put_dns(&name, None);
    assert_eq!(objects.unfound(&name), None);
}
