//! Removal of fields that a schema does not know.
//!
//! Kubernetes drops them silently, warns or refuses, as `fieldValidation` says; the caller decides
//! with the paths that come back.

use serde_json::Value;

use crate::schema::{Kind, Path, Schema};

/// More paths than this are dropped without being named.
const MAX_PATHS: usize = 100;

/// Removes unknown fields and returns their paths, such as `spec.containers[0].foo`.
pub fn prune(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(schema, value, &Path::Root, &mut unknown);
    unknown
}

/// The error of `fieldValidation=Strict`: unknown and duplicate fields as one text.
///
/// `kind` and `version` name the object, as in `Pod in version "v1"`.
pub fn strict_error(
    kind: &str,
    version: &str,
    unknown: &[String],
    duplicates: &[String],
) -> Option<String> {
    let findings = warnings(unknown, duplicates);
    if findings.is_empty() {
        return None;
    }
    let findings = findings.join(", ");
    Some(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {findings}"
    ))
}

/// One text per finding, as sent in `Warning` headers for `fieldValidation=Warn`.
pub fn warnings(unknown: &[String], duplicates: &[String]) -> Vec<String> {
    let duplicates = duplicates
        .iter()
        .map(|path| format!("duplicate field \"{path}\""));
    duplicates
        .chain(
            unknown
                .iter()
                .map(|path| format!("unknown field \"{path}\"")),
        )
        .collect()
}

fn walk(schema: &Schema, value: &mut Value, path: &Path<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if schema.kind == Kind::Any && schema.properties.is_empty() {
                return;
            }
            if !schema.allows_unknown() {
                map.retain(|key, _| {
                    let known = schema.properties.contains_key(key.as_str());
                    if !known && unknown.len() < MAX_PATHS {
                        unknown.push(path.field(key).to_string());
                    }
                    known
                });
            }
            for (key, value) in map.iter_mut() {
                if (value.is_object() || value.is_array())
                    && let Some(field) = Schema::field(Some(schema), key)
                {
                    walk(field, value, &path.field(key), unknown);
                }
            }
        }
        Value::Array(items) => {
            let Some(item) = schema.items.as_deref() else {
                return;
            };
            for (index, value) in items.iter_mut().enumerate() {
                walk(item, value, &path.index(index), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{pack, parse};

    #[test]
    fn unknown_fields_are_removed_and_named() {
        let schema = pack::schema("io.k8s.api.core.v1.Pod").unwrap();
        let mut pod = json!({
            "metadata": {"name": "p", "labels": {"any": "thing"}, "foo": 1},
            "spec": {"containers": [{"name": "c", "image": "i", "imag": "typo"}], "x": {}},
        });
        assert_eq!(
            prune(&schema, &mut pod),
            ["metadata.foo", "spec.x", "spec.containers[0].imag"]
        );
        let kept = json!({
            "metadata": {"name": "p", "labels": {"any": "thing"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        assert_eq!(pod, kept);
    }

    #[test]
    fn preserved_fields_stay_but_known_ones_below_are_still_pruned() {
        let schema = parse(&json!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"known": {"type": "object", "properties": {"a": {"type": "string"}}}},
        }));
        let mut value = json!({"free": {"x": 1}, "known": {"a": "1", "b": 2}});
        assert_eq!(prune(&schema, &mut value), ["known.b"]);
        assert_eq!(value, json!({"free": {"x": 1}, "known": {"a": "1"}}));
    }

    #[test]
    fn strict_errors_read_as_in_kubernetes() {
        let text = strict_error("Service", "v1", &["spec.x".into()], &["spec.y".into()]).unwrap();
        assert_eq!(
            text,
            "Service in version \"v1\" cannot be handled as a Service: strict decoding error: \
             duplicate field \"spec.y\", unknown field \"spec.x\""
        );
    }
}
