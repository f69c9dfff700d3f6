//! `autoscaling/v1` HorizontalPodAutoscalers as a view of the stored `v2`.
//!
//! What version 1 cannot say travels in an annotation, so that reading and writing back by an old
//! client loses nothing.

use serde_json::{Map, Value, json};

const ANNOTATION: &str = "suimon.dev/autoscaling-v2";
const PERCENT: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";

type Object = Map<String, Value>;

fn object<'a>(map: &'a mut Object, field: &str) -> Option<&'a mut Object> {
    map.get_mut(field).and_then(Value::as_object_mut)
}

/// Turns a v1 object into the stored v2.
pub(super) fn to_v2(map: &mut Object) {
    let mut kept = Object::new();
    if let Some(metadata) = object(map, "metadata")
        && let Some(annotations) = object(metadata, "annotations")
        && let Some(text) = annotations.remove(ANNOTATION)
    {
        kept = text
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let mut list = |name: &str| match kept.remove(name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let (mut metrics, mut current) = (list("metrics"), list("currentMetrics"));
    if let Some(spec) = object(map, "spec") {
        if let Some(percent) = spec.remove(PERCENT) {
            let target = json!({ "type": "Utilization", "averageUtilization": percent });
            let cpu =
                json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } });
            metrics.insert(0, cpu);
        }
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
        if let Some(behavior) = kept.remove("behavior") {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object(map, "status") {
        if let Some(percent) = status.remove(CURRENT) {
            let now = json!({ "averageUtilization": percent });
            let cpu = json!({ "type": "Resource", "resource": { "name": "cpu", "current": now } });
            current.insert(0, cpu);
        }
        if !current.is_empty() {
            status.insert("currentMetrics".into(), current.into());
        }
        if let Some(conditions) = kept.remove("conditions") {
            status.insert("conditions".into(), conditions);
        }
    }
}

/// Turns the stored v2 into a v1 object.
pub(super) fn to_v1(map: &mut Object) {
    let mut kept = Object::new();
    if let Some(spec) = object(map, "spec") {
        let metrics = spec.remove("metrics");
        let is_cpu = |metric: &Value| {
            metric["resource"]["name"] == "cpu"
                && metric["resource"]["target"]["type"] == "Utilization"
        };
        let (percent, others) = split(metrics, is_cpu);
        if let Some(cpu) = percent {
            let percent = &cpu["resource"]["target"]["averageUtilization"];
            spec.insert(PERCENT.into(), percent.clone());
        }
        keep(&mut kept, "metrics", others);
        if let Some(behavior) = spec.remove("behavior") {
            kept.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object(map, "status") {
        let current = status.remove("currentMetrics");
        // Only what v1 says completely; a value beside it would be lost.
        let is_cpu = |metric: &Value| {
            let now = metric["resource"]["current"].as_object();
            metric["resource"]["name"] == "cpu"
                && now.is_some_and(|now| now.len() == 1 && now.contains_key("averageUtilization"))
        };
        let (percent, others) = split(current, is_cpu);
        if let Some(cpu) = percent {
            let percent = &cpu["resource"]["current"]["averageUtilization"];
            status.insert(CURRENT.into(), percent.clone());
        }
        keep(&mut kept, "currentMetrics", others);
        if let Some(conditions) = status.remove("conditions") {
            kept.insert("conditions".into(), conditions);
        }
    }
    if kept.is_empty() {
        return;
    }
    if let Some(metadata) = object(map, "metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            let text = Value::Object(kept).to_string();
            annotations.insert(ANNOTATION.into(), text.into());
        }
    }
}

/// The first of a list that fits, and the others.
fn split(list: Option<Value>, fits: impl Fn(&Value) -> bool) -> (Option<Value>, Vec<Value>) {
    let Some(Value::Array(mut list)) = list else {
        return (None, Vec::new());
    };
    // In v1 it comes first again, so elsewhere it stays where it is.
    if list.first().is_some_and(fits) {
        let first = list.remove(0);
        return (Some(first), list);
    }
    (None, list)
}

fn keep(kept: &mut Object, name: &str, list: Vec<Value>) {
    if !list.is_empty() {
        kept.insert(name.to_owned(), list.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_as_v1_and_writing_back_loses_nothing() {
        let cpu = json!({ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } } });
        let memory = json!({ "type": "Resource", "resource": { "name": "memory", "target": { "type": "AverageValue", "averageValue": "1Gi" } } });
        let stored = json!({
            "metadata": { "name": "h" },
            "spec": { "maxReplicas": 3, "metrics": [cpu, memory], "behavior": { "scaleDown": { "stabilizationWindowSeconds": 1 } } },
            "status": { "currentReplicas": 1, "conditions": [{ "type": "AbleToScale", "status": "True" }] },
        });
        let Value::Object(mut map) = stored.clone() else {
            unreachable!()
        };
        to_v1(&mut map);
        assert_eq!(map["spec"], json!({ "maxReplicas": 3, PERCENT: 70 }));
        to_v2(&mut map);
        assert_eq!(Value::Object(map), stored);
    }

    #[test]
    fn a_v1_object_says_the_same_in_v2() {
        let Value::Object(mut map) =
            json!({ "metadata": {}, "spec": { "maxReplicas": 3, PERCENT: 50 } })
        else {
            unreachable!()
        };
        to_v2(&mut map);
        assert_eq!(
            map["spec"]["metrics"][0]["resource"]["target"],
            json!({ "type": "Utilization", "averageUtilization": 50 })
        );
    }
}
