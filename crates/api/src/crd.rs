//! CustomResourceDefinitions of every kind that is served.
//!
//! Knative's are generated from the Rust types, Gateway API's are as published. The generated
//! schemas are looser than the types where `validation` gives a better answer: nothing is
//! `required` in what users write, so a missing field is refused in Knative's words and with its
//! full path. They stay strict about unknown fields and types, and about what our own types
//! cannot be read without.

mod gateway;

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{autoscaling, caching, networking, serving};

/// Fields of Kubernetes' pod that no Knative feature ever allows: they stay in the schema, so
/// that they are refused instead of pruned, but what is inside them is of no interest.
const NEVER_ALLOWED: [&str; 8] = [
    "ephemeralContainers",
    "lifecycle",
    "overhead",
    "resourceClaims",
    "schedulingGates",
    "schedulingGroup",
    "volumeDevices",
    "windowsOptions",
];

/// Property levels below the object that keep their descriptions.
const DESCRIBED_LEVELS: usize = 4;

/// Every definition, ready to be created, as `apiextensions.k8s.io/v1` JSON.
pub fn crds() -> Vec<Value> {
    let mut all = generated();
    all.extend(gateway::crds());
    all
}

/// Those that are made from our types.
fn generated() -> Vec<Value> {
    vec![
        written_by_users(&serving::v1::Service::crd()),
        written_by_users(&serving::v1::Configuration::crd()),
        written_by_users(&serving::v1::Revision::crd()),
        written_by_users(&serving::v1::Route::crd()),
        written_by_users(&serving::v1beta1::DomainMapping::crd()),
        derived(written_by_controllers(
            &autoscaling::v1alpha1::PodAutoscaler::crd(),
        )),
        written_by_controllers(&networking::v1alpha1::Ingress::crd()),
        written_by_controllers(&networking::v1alpha1::Certificate::crd()),
        written_by_controllers(&networking::v1alpha1::ClusterDomainClaim::crd()),
        derived(written_by_controllers(
            &networking::v1alpha1::ServerlessService::crd(),
        )),
        derived(written_by_controllers(&autoscaling::v1alpha1::Metric::crd())),
        derived(written_by_controllers(&caching::v1alpha1::Image::crd())),
    ]
}

/// Objects of this kind are made again from others, so the embedded API server need not wait for
/// the disk to acknowledge them.
fn derived(mut definition: Value) -> Value {
    definition["metadata"]["annotations"]["suimon.dev/durability"] = json!("lazy");
    definition
}

type Definition =
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

fn written_by_users(definition: &Definition) -> Value {
    let mut value = written_by_controllers(definition);
    edit_schemas(&mut value, |schema| {
        schema.remove("required");
        if let Some(spec) = schema
            .get_mut("properties")
            .and_then(|all| all.get_mut("spec"))
        {
            walk(spec, &mut |schema| {
                schema.remove("required");
                if let Some(Value::Object(properties)) = schema.get_mut("properties") {
                    loosen_pod(properties);
                }
            });
        }
    });
    value
}

fn written_by_controllers(definition: &Definition) -> Value {
    let mut value = serde_json::to_value(definition).expect("definitions are plain JSON");
    edit_schemas(&mut value, |schema| describe(schema, 0));
    value
}

fn edit_schemas(definition: &mut Value, mut edit: impl FnMut(&mut Map<String, Value>)) {
    let versions = definition
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(Value::Object(schema)) = version.pointer_mut("/schema/openAPIV3Schema") {
            edit(schema);
        }
    }
}

/// Metadata of templates is what users write there; the rest of `ObjectMeta` means nothing.
fn loosen_pod(properties: &mut Map<String, Value>) {
    for name in NEVER_ALLOWED {
        if let Some(schema) = properties.get_mut(name) {
            let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            *schema = match schema["type"].as_str() {
                Some("array") => json!({"type": "array", "items": any}),
                _ => any,
            };
        }
    }
    // Only an ObjectMeta has both; a volume claim template's is as good as a revision's.
    if let Some(metadata) = properties.get_mut("metadata")
        && metadata["properties"].get("creationTimestamp").is_some()
    {
        let text = || json!({"type": "string"});
        let texts = || json!({"type": "object", "additionalProperties": {"type": "string"}});
        *metadata = json!({
            "type": "object",
            "nullable": true,
            "properties": {
                "name": text(), "generateName": text(), "namespace": text(),
                "labels": texts(), "annotations": texts(),
                "finalizers": {"type": "array", "items": {"type": "string"}},
                // Go clients always send `creationTimestamp: null` in templates.
                "creationTimestamp": {"type": "string", "format": "date-time", "nullable": true},
            },
        });
    }
}

/// Visits a schema and every schema inside it, outermost first.
fn walk(schema: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(schema) = schema else {
        return;
    };
    visit(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties
            .values_mut()
            .for_each(|property| walk(property, visit));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            walk(inner, visit);
        }
    }
}

/// Shortens the descriptions near the top to their first sentence and drops the deeper ones
/// (the generated schema of a pod is 600 KB of prose), the titles, and the defaults: those are
/// `defaults`' work, which knows the ConfigMaps.
fn describe(schema: &mut Map<String, Value>, level: usize) {
    schema.remove("title");
    schema.remove("default");
    match schema.remove("description") {
        Some(Value::String(text)) if level <= DESCRIBED_LEVELS => {
            schema.insert("description".to_owned(), first_sentence(&text).into());
        }
        _ => {}
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            describe(property, level + 1);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(key) {
            describe(inner, level + 1);
        }
    }
}

/// The first field of one of our objects whose JSON type its schema does not allow, as
/// `<path>: must be of type <type>`. Only for messages: generating the schemas takes a while.
pub(crate) fn type_mismatch(object: &Value) -> Option<String> {
    let of = |field: &str| object[field].as_str().unwrap_or_default();
    let crd = generated().into_iter().find(|crd| {
        let spec = &crd["spec"];
        spec["names"]["kind"] == of("kind")
            && of("apiVersion").starts_with(spec["group"].as_str().unwrap_or("?"))
    })?;
    mismatch(
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema")?,
        object,
        "",
    )
}

fn mismatch(schema: &Value, value: &Value, path: &str) -> Option<String> {
    let wanted = schema["type"].as_str().unwrap_or_default();
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    let absent = value.is_null() && schema["nullable"] == true;
    if !fits && !absent {
        return Some(format!("{path}: must be of type {wanted}"));
    }
    match value {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let inner = schema["properties"]
                .get(name)
                .unwrap_or_else(|| &schema["additionalProperties"]);
            let dot = if path.is_empty() { "" } else { "." };
            mismatch(inner, value, &format!("{path}{dot}{name}"))
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, value)| {
            mismatch(&schema["items"], value, &format!("{path}[{index}]"))
        }),
        _ => None,
    }
}

fn first_sentence(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.find(". ") {
        Some(end) => line[..=end].to_owned(),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(kind: &str) -> Value {
        let crd = generated()
            .into_iter()
            .find(|crd| crd["spec"]["names"]["kind"] == kind)
            .expect(kind);
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema")
            .expect("a schema")
            .clone()
    }

    /// Kubernetes' rules for structural schemas, as far as generated ones can break them.
    fn assert_structural(schema: &Value, path: &str) {
        let Value::Object(map) = schema else {
            panic!("{path} is no schema: {schema}")
        };
        let typed = map.contains_key("type");
        let int_or_string = map.contains_key("x-kubernetes-int-or-string");
        let preserved = map.contains_key("x-kubernetes-preserve-unknown-fields");
        assert!(typed || int_or_string || preserved, "{path} has no type");
        assert!(
            !(typed && int_or_string),
            "{path} has a type and is int-or-string"
        );
        for key in [
            "$ref",
            "definitions",
            "$defs",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "const",
            "default",
        ] {
            assert!(!map.contains_key(key), "{path} has {key}");
        }
        assert!(
            !(map.contains_key("properties") && map.contains_key("additionalProperties")),
            "{path} has properties and additionalProperties"
        );
        for (name, property) in map
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            assert_structural(property, &format!("{path}.{name}"));
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner @ Value::Object(_)) = map.get(key) {
                assert_structural(inner, &format!("{path}.{key}"));
            }
        }
    }

    #[test]
    fn every_schema_is_structural_small_and_has_a_status_subresource() {
        for crd in generated() {
            let kind = crd["spec"]["names"]["kind"]
                .as_str()
                .expect("a kind")
                .to_owned();
            let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema");
            assert_structural(schema.expect("a schema"), &kind);
            let has_status = crd.pointer("/spec/versions/0/subresources/status");
            // A claim says all with its spec.
            assert_eq!(has_status.is_some(), kind != "ClusterDomainClaim", "{kind}");
            let size = crd.to_string().len();
            assert!(size < 120_000, "{kind} has {size} bytes");
        }
    }

    #[test]
    fn unknown_fields_of_a_template_are_not_preserved_and_pod_fields_are_known() {
        let schema = schema("Service");
        let pod = schema
            .pointer("/properties/spec/properties/template/properties/spec")
            .expect("the pod");
        assert!(pod.get("x-kubernetes-preserve-unknown-fields").is_none());
        let names = &pod["properties"];
        assert!(names.get("bogus").is_none());
        for name in [
            "containers",
            "containerConcurrency",
            "timeoutSeconds",
            "affinity",
            "ephemeralContainers",
        ] {
            assert!(names.get(name).is_some(), "{name}");
        }
        assert!(pod.get("required").is_none());
    }

    #[test]
    fn what_our_types_cannot_be_read_without_is_required_of_an_ingress() {
        let schema = schema("Ingress");
        assert_eq!(schema["required"], json!(["spec"]));
        let splits = schema.pointer(
            "/properties/spec/properties/rules/items/properties/http/properties/paths/items/properties/splits/items",
        );
        assert_eq!(
            splits.expect("splits")["required"],
            json!(["serviceName", "serviceNamespace", "servicePort"])
        );
    }
}
