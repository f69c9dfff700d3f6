//! What asks for more, or less, than it has: pods by `pods/resize`, claims by their spec.
//!
//! The texts are Kubernetes'.

use serde_json::{Value, json};

use super::{Call, resource_id, special};
use crate::quantity::Quantity;
use crate::status::{FieldError, Status};
use crate::store::Store;

const LISTS: [&str; 2] = ["initContainers", "containers"];
/// What a write to the subresource may change of a container.
const RESIZABLE: [&str; 2] = ["resources", "resizePolicy"];
/// What the node can change of a running container.
const MUTABLE: [&str; 2] = ["cpu", "memory"];

const REFUSED: &str = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";

/// A write to `pods/resize` changes the resources of containers and nothing else.
pub(super) fn separate(new: &mut Value, old: &Value) {
    let given = std::mem::replace(new, old.clone());
    for list in LISTS {
        let containers = new["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let given = given["spec"][list].as_array().into_iter().flatten();
            let Some(given) = given
                .into_iter()
                .find(|one| one["name"] == container["name"])
            else {
                continue;
            };
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            for field in RESIZABLE {
                match given.get(field) {
                    Some(value) => container.insert(field.to_owned(), value.clone()),
                    None => container.remove(field),
                };
            }
        }
    }
}

/// Findings about the resources of the containers of a changed pod.
pub(super) fn validate(call: &Call, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let Some(old) = old.filter(|_| special::is_pod(&call.kind)) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    for list in LISTS {
        let all = |pod: &Value| pod["spec"][list].as_array().cloned().unwrap_or_default();
        for (index, (new, old)) in all(new).iter().zip(&all(old)).enumerate() {
            if RESIZABLE.iter().all(|field| new[*field] == old[*field]) {
                continue;
            }
            let path = format!("spec.{list}[{index}].resources");
            if call.subresource == "resize" {
                compare(&path, list, new, old, &mut errors);
            } else {
                errors.push(FieldError::forbidden(
                    path,
                    "pod updates may not change it; write to the subresource `resize`",
                ));
            }
        }
    }
    if call.subresource == "resize" {
        let class = |pod: &Value| special::qos_class(&pod["spec"]);
        if class(new) != class(old) {
            errors.push(FieldError::invalid(
                "spec",
                &json!(class(new)),
                "Pod QOS Class may not change as a result of resizing",
            ));
        }
    }
    errors
}

fn compare(path: &str, list: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if list == "initContainers" && old["restartPolicy"] != "Always" {
        let why = "resources for non-sidecar init containers are immutable";
        errors.push(FieldError::forbidden(path, why));
        return;
    }
    for set in ["limits", "requests"] {
        let of = |container: &Value| {
            let found = container["resources"][set].as_object();
            found.cloned().unwrap_or_default()
        };
        let (new, old) = (of(new), of(old));
        let field = format!("{path}.{set}");
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            let field = format!("{field}[{name}]");
            let why = format!("resource {set} cannot be removed");
            errors.push(FieldError::forbidden(field, why));
        }
        for (name, amount) in &new {
            if old.get(name) != Some(amount) && !MUTABLE.contains(&name.as_str()) {
                let why = "only cpu and memory resources are mutable";
                errors.push(FieldError::forbidden(format!("{field}[{name}]"), why));
            }
        }
    }
}

/// Judges an update of a claim that has its volume.
pub(super) fn admit(store: &Store, call: &Call, new: &Value, old: &Value) -> Result<(), Status> {
    let is_claim = call.kind.group.is_empty() && &*call.kind.plural == "persistentvolumeclaims";
    if !is_claim || !call.subresource.is_empty() || old["status"]["phase"] != "Bound" {
        return Ok(());
    }
    let asked = |claim: &Value| Quantity::of(&claim["spec"]["resources"]["requests"]["storage"]);
    if asked(new) <= asked(old) {
        return Ok(());
    }
    let name = old["spec"]["storageClassName"].as_str().unwrap_or_default();
    let class = store.get(&resource_id("storage.k8s.io", "storageclasses"), name);
    if class.is_some_and(|class| class.value()["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    Err(Status::forbidden(call.named(&call.name), REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resize_changes_resources_and_nothing_else() {
        let old = json!({
            "metadata": {"name": "p"},
            "spec": {"nodeName": "n", "containers": [
                {"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}}, {"name": "b"},
            ]},
        });
        let mut new = json!({
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"nodeName": "other", "containers": [
                {"name": "b", "image": "x"},
                {"name": "a", "image": "x", "resources": {"limits": {"cpu": "2"}}},
                {"name": "c"},
            ]},
        });
        separate(&mut new, &old);
        let mut wanted = old;
        wanted["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("2");
        assert_eq!(new, wanted);
    }

    #[test]
    fn only_cpu_and_memory_change_and_none_goes() {
        let of = |resources: Value| json!({ "name": "c", "resources": resources });
        let findings = |new: Value, old: Value| {
            let mut errors = Vec::new();
            compare("r", "containers", &of(new), &of(old), &mut errors);
            let fields = errors.into_iter().map(|error| error.field);
            fields.collect::<Vec<_>>()
        };
        let old = || json!({ "limits": { "cpu": "1", "memory": "1Mi" } });
        let larger = json!({ "limits": { "cpu": "2", "memory": "2Mi" } });
        assert!(findings(larger, old()).is_empty());
        let gone = findings(json!({ "limits": { "cpu": "1" } }), old());
        assert_eq!(gone, ["r.limits[memory]"]);
        let other = json!({ "limits": { "cpu": "1", "memory": "1Mi", "x.dev/gpu": "1" } });
        assert_eq!(findings(other, old()), ["r.limits[x.dev/gpu]"]);
    }
}
