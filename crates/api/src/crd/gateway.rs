//! Definitions of Gateway API's kinds as the project publishes them.
//!
//! Unlike Knative's kinds these are not made from the Rust types: there is no webhook in this API,
//! its rules and defaults are the schemas themselves. `gateway.json` is data of the release named
//! in [`BUNDLE_VERSION`](crate::gateway::BUNDLE_VERSION), written by `cargo xtask gateway-pack`.

use serde_json::{Value, json};

const PACKED: &str = include_str!("gateway.json");

/// Versions under which kinds were published before; what they say did not change since.
const EARLIER: [(&str, &[&str]); 5] = [
    ("GatewayClass", &["v1alpha2"]),
    ("Gateway", &["v1alpha2"]),
    ("HTTPRoute", &["v1alpha2"]),
    ("GRPCRoute", &["v1alpha2"]),
    ("ReferenceGrant", &["v1alpha2"]),
];

/// Definitions of all kinds, of both channels.
pub(super) fn crds() -> Vec<Value> {
    let packed: Vec<Value> = serde_json::from_str(PACKED).expect("packed data is JSON");
    packed.into_iter().map(unpack).collect()
}

fn unpack(mut definition: Value) -> Value {
    let kind = definition["spec"]["names"]["kind"].clone();
    let earlier = EARLIER.iter().find(|(of, _)| kind == *of);
    let Some(versions) = definition["spec"]["versions"].as_array_mut() else {
        return definition;
    };
    for at in 0..versions.len() {
        let like = versions[at]
            .as_object_mut()
            .and_then(|it| it.remove("schemaOf"));
        if let Some(like) = like {
            let schema = versions.iter().find(|version| version["name"] == like);
            versions[at]["schema"] = schema.map_or(Value::Null, |it| it["schema"].clone());
        }
    }
    for name in earlier.into_iter().flat_map(|(_, names)| *names) {
        let mut version = versions[0].clone();
        version["name"] = json!(name);
        version["storage"] = json!(false);
        versions.push(version);
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::BUNDLE_VERSION;

    #[test]
    fn the_definitions_are_those_of_the_release_that_is_named() {
        let kinds: Vec<_> = crds()
            .iter()
            .map(|crd| {
                let annotations = &crd["metadata"]["annotations"];
                let version = &annotations["gateway.networking.k8s.io/bundle-version"];
                assert_eq!(version, BUNDLE_VERSION);
                crd["spec"]["names"]["kind"]
                    .as_str()
                    .expect("a kind")
                    .to_owned()
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "BackendTLSPolicy",
                "GatewayClass",
                "Gateway",
                "GRPCRoute",
                "HTTPRoute",
                "ListenerSet",
                "ReferenceGrant",
                "TCPRoute",
                "TLSRoute",
                "UDPRoute",
                "XBackend",
                "XBackendTrafficPolicy",
                "XMesh",
                "XTelemetryPolicy",
            ]
        );
    }

    #[test]
    fn every_version_has_a_schema_and_one_is_stored() {
        for crd in crds() {
            let versions = crd["spec"]["versions"].as_array().expect("versions");
            let stored = versions.iter().filter(|version| version["storage"] == true);
            assert_eq!(stored.count(), 1);
            for version in versions {
                assert!(version["schema"]["openAPIV3Schema"].is_object());
                assert!(version.get("schemaOf").is_none());
            }
        }
    }

    #[test]
    fn what_the_schemas_fill_in_is_what_the_types_fill_in() {
        use crate::gateway::v1::{Gateway, HttpRoute};
        let route = json!({"metadata": {}, "spec": {"rules": [{"backendRefs": [{"name": "a"}]}]}});
        let route: HttpRoute = serde_json::from_value(route).expect("a route");
        let rule = &route.spec.rules[0];
        assert_eq!(rule.matches[0].path.value, "/");
        assert_eq!(
            (&*rule.backend_refs[0].kind, rule.backend_refs[0].weight),
            ("Service", 1)
        );
        let gateway = json!({"metadata": {}, "spec": {
            "gatewayClassName": "a", "listeners": [{"name": "a", "port": 1, "protocol": "HTTP"}],
        }});
        let gateway: Gateway = serde_json::from_value(gateway).expect("a gateway");
        assert_eq!(
            gateway.spec.listeners[0].allowed_routes.namespaces.from,
            "Same"
        );
    }
}
