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
    versions.iter_mut().for_each(both_shapes_of_sessions);
    for name in earlier.into_iter().flat_map(|(_, names)| *names) {
        let mut version = versions[0].clone();
        version["name"] = json!(name);
        version["storage"] = json!(false);
        versions.push(version);
    }
    definition
}

/// Lets users go on with the shape that `sessionPersistence` had up to release 1.6: the name of
/// the session beside its type, or none at all.
fn both_shapes_of_sessions(schema: &mut Value) {
    let children = match schema {
        Value::Array(items) => return items.iter_mut().for_each(both_shapes_of_sessions),
        Value::Object(children) => children,
        _ => return,
    };
    let session = children.get_mut("properties");
    let session = session.and_then(|it| it.get_mut("sessionPersistence"));
    if let Some(session) = session {
        if let Some(fields) = session["properties"].as_object_mut() {
            let lifetime =
                json!({"type": "string", "enum": ["Permanent", "Session"], "default": "Session"});
            fields.insert(
                "sessionName".to_owned(),
                json!({
                    "type": "string", "maxLength": 128,
                    "description": "The session's name up to release 1.6; cookie.name or header.name says it since.",
                }),
            );
            fields.insert(
                "cookieConfig".to_owned(),
                json!({
                    "type": "object", "properties": {"lifetimeType": lifetime},
                    "description": "Settings of the cookie up to release 1.6; cookie has them since.",
                }),
            );
        }
        if let Some(rules) = session["x-kubernetes-validations"].as_array_mut() {
            rules.retain(|rule| {
                let rule = rule["rule"].as_str().unwrap_or_default();
                !["Cookie", "Header"]
                    .iter()
                    .any(|of| rule.starts_with(&format!("self.type != '{of}'")))
            });
        }
    }
    children.values_mut().for_each(both_shapes_of_sessions);
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
    fn sessions_have_both_shapes_wherever_there_are_any() {
        fn count(value: &Value, found: &mut usize) {
            if let Some(session) = value["properties"].get("sessionPersistence") {
                let fields = &session["properties"];
                for field in ["sessionName", "cookieConfig", "cookie", "header", "type"] {
                    assert!(fields[field].is_object(), "{field} is not in {fields}");
                }
                let rules = session["x-kubernetes-validations"].to_string();
                assert!(!rules.contains("must be specified for"), "{rules}");
                assert!(rules.contains("cookie must be nil"), "{rules}");
                *found += 1;
            }
            let items = value.as_array().into_iter().flatten();
            let fields = value.as_object().into_iter().flat_map(|it| it.values());
            items.chain(fields).for_each(|it| count(it, found));
        }
        let mut found = 0;
        crds().iter().for_each(|crd| count(crd, &mut found));
        assert!(found >= 4, "{found}");
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
