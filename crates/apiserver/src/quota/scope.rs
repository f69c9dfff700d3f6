//! Which objects a quota with scopes is about: pods only.

use serde_json::Value;

/// Whether a quota's `spec` is about an object.
pub(super) fn covers(spec: &Value, resource: &str, object: &Value) -> bool {
    let plain = spec["scopes"].as_array().into_iter().flatten();
    let chosen = spec["scopeSelector"]["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten();
    let pod = resource == "pods";
    plain
        .filter_map(Value::as_str)
        .all(|scope| pod && has(scope, "Exists", &[], object))
        && chosen.clone().all(|expression| {
            let text = |field: &str| expression[field].as_str().unwrap_or_default();
            let values: Vec<&str> = expression["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            pod && has(text("scopeName"), text("operator"), &values, object)
        })
}

fn has(scope: &str, operator: &str, values: &[&str], pod: &Value) -> bool {
    let spec = &pod["spec"];
    let ends = spec["activeDeadlineSeconds"].is_number();
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => best_effort(spec),
        "NotBestEffort" => !best_effort(spec),
        "CrossNamespacePodAffinity" => looks_elsewhere(&spec["affinity"]),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().unwrap_or_default();
            match operator {
                "In" => values.contains(&class),
                "NotIn" => !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        _ => false,
    }
}

fn best_effort(spec: &Value) -> bool {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .filter_map(|list| spec[list].as_array())
        .flatten();
    containers
        .flat_map(|container| ["requests", "limits"].map(|list| &container["resources"][list]))
        .all(|list| {
            ["cpu", "memory"]
                .iter()
                .all(|name| list.get(name).is_none())
        })
}

/// Whether a term of the pod's affinity names other namespaces.
fn looks_elsewhere(affinity: &Value) -> bool {
    let terms = ["podAffinity", "podAntiAffinity"]
        .into_iter()
        .flat_map(|kind| {
            let own = &affinity[kind];
            let hard = own["requiredDuringSchedulingIgnoredDuringExecution"].as_array();
            let soft = own["preferredDuringSchedulingIgnoredDuringExecution"].as_array();
            let soft = soft
                .into_iter()
                .flatten()
                .map(|term| &term["podAffinityTerm"]);
            hard.into_iter().flatten().chain(soft)
        });
    terms.into_iter().any(|term| {
        term["namespaces"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
            || term["namespaceSelector"].is_object()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scopes_choose_pods() {
        let pod =
            json!({ "spec": { "priorityClassName": "high", "containers": [{ "name": "c" }] } });
        let covered = |spec: Value| covers(&spec, "pods", &pod);
        assert!(covered(json!({})));
        assert!(covered(
            json!({ "scopes": ["BestEffort", "NotTerminating"] })
        ));
        assert!(!covered(json!({ "scopes": ["Terminating"] })));
        let class = |operator: &str| json!({ "scopeSelector": { "matchExpressions": [{ "scopeName": "PriorityClass", "operator": operator, "values": ["high"] }] } });
        assert!(covered(class("In")));
        assert!(!covered(class("NotIn")));
        assert!(!covers(
            &json!({ "scopes": ["BestEffort"] }),
            "services",
            &json!({})
        ));
    }
}
