//! Endpoints and how they are spoken to change together, whoever of Service and slices is ahead.

use std::sync::Arc;

use routing::model::{Backend, Protocol};
use serde_json::{Value, json};

use crate::backend::{BackendRef, translate};
use crate::objects::{Name, Objects};

fn put_service(objects: &mut Objects, port: Value) {
    let service = json!({
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"ports": [port], "selector": {"app": "app"}},
    });
    let service = serde_json::from_value(service).expect("a Service");
    objects.put_service(&Name::new("default", "app"), Some(Arc::new(service)));
}

/// A slice of one endpoint, `10.0.0.LAST`.
fn put_slice(objects: &mut Objects, manager: &str, last: u8, port: Value) {
    let name = format!("app-{last}");
    let slice = json!({
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {
                "kubernetes.io/service-name": "app",
                "endpointslice.kubernetes.io/managed-by": manager,
            },
        },
        "addressType": "IPv4",
        "ports": [port],
        "endpoints": [{"addresses": [format!("10.0.0.{last}")], "conditions": {"ready": true}}],
    });
    let slice = serde_json::from_value(slice).expect("a slice");
    objects.put_slice(&Name::new("default", &name), Some(Arc::new(slice)));
}

fn reference() -> BackendRef {
    BackendRef {
        service: Name::new("default", "app"),
        port: 80,
        http2: false,
        stream: None,
        variant: None,
    }
}

fn seen(objects: &Objects, reference: &BackendRef) -> (Protocol, Vec<u8>) {
    let translated = translate(reference, objects);
    let Backend {
        protocol,
        endpoints,
        ..
    } = &**translated.backend.as_ref().expect("a backend");
    let last = |endpoint: &routing::model::Endpoint| match endpoint.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    (*protocol, endpoints.iter().map(last).collect())
}

const KUBERNETES: &str = "endpointslice-controller.k8s.io";
const OURS: &str = "endpointslice-controller.suimon.dev";
const PLAIN: fn() -> Value = || json!({"name": "", "port": 8080});
const H2C: fn() -> Value = || json!({"name": "", "port": 8080, "appProtocol": "kubernetes.io/h2c"});

#[test]
fn a_service_ahead_of_its_slices_is_what_they_say_until_they_follow() {
    for manager in [KUBERNETES, OURS] {
        let mut objects = Objects::default();
        put_service(&mut objects, json!({"port": 80}));
        put_slice(&mut objects, manager, 1, PLAIN());
        put_slice(&mut objects, manager, 2, PLAIN());
        assert_eq!(seen(&objects, &reference()), (Protocol::Http1, vec![1, 2]));
        put_service(
            &mut objects,
            json!({"port": 80, "appProtocol": "kubernetes.io/h2c"}),
        );
        assert_eq!(seen(&objects, &reference()), (Protocol::Http1, vec![1, 2]));
        // The first slice of the new pods, the old ones are still there.
        put_slice(&mut objects, manager, 3, H2C());
        assert_eq!(seen(&objects, &reference()), (Protocol::H2c, vec![3]));
        put_slice(&mut objects, manager, 1, H2C());
        put_slice(&mut objects, manager, 2, H2C());
        assert_eq!(seen(&objects, &reference()), (Protocol::H2c, vec![1, 2, 3]));
        // And back.
        put_service(&mut objects, json!({"port": 80}));
        assert_eq!(seen(&objects, &reference()), (Protocol::H2c, vec![1, 2, 3]));
        put_slice(&mut objects, manager, 2, PLAIN());
        assert_eq!(seen(&objects, &reference()), (Protocol::Http1, vec![2]));
    }
}

#[test]
fn another_word_for_the_same_is_no_change() {
    let mut objects = Objects::default();
    put_service(
        &mut objects,
        json!({"port": 80, "appProtocol": "kubernetes.io/h2c"}),
    );
    let words = ["grpc", "h2c", "http2"];
    for (last, word) in (1..).zip(words) {
        let port = json!({"name": "", "port": 8080, "appProtocol": word});
        put_slice(&mut objects, KUBERNETES, last, port);
    }
    assert_eq!(seen(&objects, &reference()), (Protocol::H2c, vec![1, 2, 3]));
    // A port's name speaks where nothing else does.
    put_service(&mut objects, json!({"port": 80, "name": "h2c"}));
    for last in 1..=3 {
        let port = json!({"name": "h2c", "port": 8080});
        put_slice(&mut objects, KUBERNETES, last, port);
    }
    assert_eq!(seen(&objects, &reference()), (Protocol::H2c, vec![1, 2, 3]));
}

#[test]
fn slices_that_nobody_copies_are_spoken_to_as_the_service_says() {
    let mut objects = Objects::default();
    put_service(
        &mut objects,
        json!({"port": 80, "appProtocol": "kubernetes.io/h2c"}),
    );
    put_slice(&mut objects, "me", 1, PLAIN());
    assert_eq!(seen(&objects, &reference()), (Protocol::H2c, vec![1]));
    // Beside those of the Service's own pods.
    put_slice(&mut objects, KUBERNETES, 2, H2C());
    assert_eq!(seen(&objects, &reference()), (Protocol::H2c, vec![1, 2]));
}

#[test]
fn whoever_says_how_to_speak_does_not_wait_for_slices() {
    let mut objects = Objects::default();
    put_service(&mut objects, json!({"port": 80}));
    put_slice(&mut objects, KUBERNETES, 1, PLAIN());
    let grpc = BackendRef {
        http2: true,
        ..reference()
    };
    assert_eq!(seen(&objects, &grpc), (Protocol::H2c, vec![1]));
}
