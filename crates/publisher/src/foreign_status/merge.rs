//! From the status that is there to the one that is due: times of conditions, and the least patch.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

/// When a condition took its value; filled in here, where there is a clock.
const SINCE: &str = "lastTransitionTime";

/// `next` with the time of every condition that says none: of the condition that is there, if it
/// has the same status, else now.
pub(super) fn with_times(next: &Value, current: &Value, now: &Time) -> Value {
    match next {
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| {
                let before = &current[key.as_str()];
                let value = match (key.as_str(), value) {
                    ("conditions", Value::Array(all)) => conditions(all, before, now),
                    _ => with_times(value, before, now),
                };
                (key.clone(), value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(at, item)| with_times(item, &current[at], now));
            Value::Array(items.collect())
        }
        other => other.clone(),
    }
}

fn conditions(next: &[Value], current: &Value, now: &Time) -> Value {
    let current = current.as_array().map_or(&[][..], Vec::as_slice);
    let timed = next.iter().map(|condition| {
        let mut timed = condition.clone();
        let Some(map) = timed.as_object_mut() else {
            return timed;
        };
        if !map.contains_key("type") || map.contains_key(SINCE) {
            return timed;
        }
        let is_same =
            |it: &&Value| it["type"] == condition["type"] && it["status"] == condition["status"];
        let before = current.iter().find(is_same);
        let since = before.and_then(|before| before[SINCE].as_str());
        let since = since.map_or_else(|| time(now), str::to_owned);
        map.insert(SINCE.to_owned(), since.into());
        timed
    });
    Value::Array(timed.collect())
}

/// To the second, as Kubernetes writes times.
fn time(now: &Time) -> String {
    let text = serde_json::to_value(now).ok();
    let text = text.as_ref().and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// The merge patch from one to the other; `None` if they are equal.
pub(super) fn difference(current: &Value, next: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (current, next) else {
        return (current != next).then(|| without_nulls(next));
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            // A null in a patch means that the field goes.
            _ if value.is_null() => {}
            None => drop(patch.insert(key.clone(), without_nulls(value))),
            Some(before) => {
                if let Some(change) = difference(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
        }
    }
    let is_kept = |key: &String| new.get(key).is_some_and(|value| !value.is_null());
    let gone = old.keys().filter(|key| !is_kept(key));
    patch.extend(gone.map(|key| (key.clone(), Value::Null)));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let there = map.iter().filter(|(_, value)| !value.is_null());
            let there = there.map(|(key, value)| (key.clone(), without_nulls(value)));
            Value::Object(there.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Time {
        serde_json::from_value(json!("2026-01-01T00:00:10Z")).expect("a time")
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let old = json!({"parents": [{"conditions": [
            {"type": "A", "status": "True", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "B", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]}]});
        let next = json!({"parents": [{"conditions": [
            {"type": "A", "status": "True", "reason": "y"},
            {"type": "B", "status": "False"},
            {"type": "C", "status": "True"},
        ]}]});
        let timed = with_times(&next, &old, &now());
        let times: Vec<_> = timed["parents"][0]["conditions"]
            .as_array()
            .expect("conditions")
            .iter()
            .map(|it| it[SINCE].as_str().expect("a time"))
            .collect();
        let (then, now) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z");
        assert_eq!(times, [then, now, now]);
    }

    #[test]
    fn only_what_differs_is_patched_and_nothing_if_nothing_does() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "gone": true, "list": [1]});
        let next = json!({"a": 1, "b": {"c": 1, "d": 3}, "list": [1, 2], "new": {"n": null}});
        let patch = difference(&old, &next).expect("they differ");
        let expected = json!({"b": {"d": 3}, "gone": null, "list": [1, 2], "new": {}});
        assert_eq!(patch, expected);
        assert_eq!(difference(&old, &old), None);
        assert_eq!(difference(&json!({}), &json!({"a": null})), None);
        assert_eq!(difference(&Value::Null, &next).expect("new")["a"], 1);
    }
}
