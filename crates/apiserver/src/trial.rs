//! What a create would say of an object, without a server: for tools that judge files.
//!
//! Only what the object itself shows is judged: no other object is known, and no access rule,
//! quota, admission hook or policy is asked.

use serde_json::Value;

use crate::crud;
use crate::status::FieldError;
use crate::types::ResourceType;
use crate::validate::meta;
use crate::{defaults, prune, validate};

/// What was found.
#[derive(Debug, Default)]
pub struct Trial {
    /// Paths of fields that nobody knows. A create with `fieldValidation=Strict`, which is kubectl's
    /// default, is refused for them; any other drops them.
    pub unknown: Vec<String>,
    /// What the object is refused for.
    pub errors: Vec<FieldError>,
    /// What the client is told besides.
    pub warnings: Vec<String>,
}

/// Judges an object of this kind, and leaves it as it would be stored, but for its metadata: with
/// defaults, and without unknown fields and the status.
pub fn create(kind: &ResourceType, object: &mut Value) -> Trial {
    let mut found = Trial::default();
    if let Some(schema) = &kind.schema {
        found.unknown = prune::prune(schema, object);
    }
    if kind.subresources.status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    if let Some(schema) = &kind.schema {
        defaults::apply(schema, object);
    }
    if object["metadata"]["generateName"].is_null() {
        found.errors = meta::create(object, kind.name_rule, kind.namespaced);
    }
    if let Some(schema) = &kind.schema {
        found.errors.extend(validate::object(schema, object, None));
    }
    crud::judge(kind, object, None, &mut found.errors, &mut found.warnings);
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::TypeTable;

    fn table() -> TypeTable {
        let schema = json!({"type": "object", "properties": {
            "spec": {
                "type": "object",
                "required": ["host"],
                "properties": {
                    "host": {"type": "string"},
                    "port": {"type": "integer", "default": 80},
                },
                "x-kubernetes-validations": [{"rule": "self.port != 25", "message": "no mail"}],
            },
            "status": {"type": "object", "properties": {"said": {"type": "string"}}},
        }});
        TypeTable::builtin()
            .with_crd(&json!({
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "doors.example.dev"},
                "spec": {
                    "group": "example.dev",
                    "names": {"kind": "Door", "plural": "doors", "singular": "door", "listKind": "DoorList"},
                    "scope": "Namespaced",
                    "versions": [{
                        "name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
                    }],
                },
            }))
            .expect("a definition")
    }

    fn tried(mut object: Value) -> (Trial, Value) {
        let table = table();
        let kind = table.of(&object).expect("a kind");
        let found = create(kind, &mut object);
        (found, object)
    }

    fn door(spec: Value) -> Value {
        json!({"apiVersion": "example.dev/v1", "kind": "Door", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
    }

    #[test]
    fn a_good_object_gets_its_defaults_and_loses_its_status() {
        let mut object = door(json!({"host": "a"}));
        object["status"] = json!({"said": "before"});
        let (found, object) = tried(object);
        assert_eq!((found.unknown, found.errors), (vec![], vec![]));
        assert_eq!(object, door(json!({"host": "a", "port": 80})));
    }

    #[test]
    fn unknown_fields_wrong_values_and_rules_are_told() {
        let (found, object) = tried(door(json!({"host": "a", "hots": "b"})));
        assert_eq!(found.unknown, ["spec.hots"]);
        assert_eq!(object["spec"], json!({"host": "a", "port": 80}));
        let told = |spec: Value| -> Vec<String> {
            let (found, _) = tried(door(spec));
            found.errors.iter().map(ToString::to_string).collect()
        };
        assert_eq!(told(json!({}))[0], "spec.host: Required value");
        let mail = told(json!({"host": "a", "port": 25}));
        assert!(mail.len() == 1 && mail[0].contains("no mail"), "{mail:?}");
    }
}
