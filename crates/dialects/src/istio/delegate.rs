//! `delegate`: rules of another VirtualService, within what the delegating rule matches.
//!
//! Both are joined as JSON, before anything is translated, so that a rule is read in one place
//! only. One level, as in Istio. A rule of the other object with conditions that contradict those
//! of the delegating rule is left out.

use serde_json::{Map, Value};

/// Fields that a rule gets from the one that delegates to it, unless it has its own.
const INHERITED: [&str; 10] = [
    "rewrite",
    "directResponse",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrorPercentage",
    "mirrors",
    "corsPolicy",
    "headers",
];

/// Match blocks that one joined rule has at most.
const MOST_BLOCKS: usize = 1024;

/// A rule of the delegate as the delegating rule allows it; `None` if they contradict each other.
pub(super) fn join(root: &Value, rule: &Value) -> Option<Value> {
    let mut joined = rule.as_object()?.clone();
    let (own, outer) = (blocks(rule), blocks(root));
    let matches = match (outer, own) {
        ([], own) => own.to_vec(),
        (outer, []) => outer.to_vec(),
        (outer, own) => {
            let pairs = own
                .iter()
                .flat_map(|own| outer.iter().map(move |outer| (outer, own)));
            let joined = pairs.filter_map(|(outer, own)| block(outer, own));
            let joined: Vec<_> = joined.take(MOST_BLOCKS).collect();
            // Istio: every block of the delegate must fit into one of the root's.
            let fits = |own: &Value| outer.iter().any(|outer| block(outer, own).is_some());
            if !own.iter().all(fits) {
                return None;
            }
            joined
        }
    };
    if !matches.is_empty() {
        joined.insert("match".to_owned(), Value::Array(matches));
    }
    for key in INHERITED {
        if !joined.contains_key(key) && !root[key].is_null() {
            joined.insert(key.to_owned(), root[key].clone());
        }
    }
    Some(Value::Object(joined))
}

fn blocks(rule: &Value) -> &[Value] {
    rule["match"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Both blocks in one, unless they contradict each other.
fn block(root: &Value, own: &Value) -> Option<Value> {
    let (root, own) = (root.as_object()?, own.as_object()?);
    let empty = Value::Null;
    let of = |map: &'_ Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
    for key in ["uri", "scheme", "method", "authority"] {
        let (outer, inner) = (root.get(key), own.get(key));
        if contradict(outer.unwrap_or(&empty), inner.unwrap_or(&empty)) {
            return None;
        }
    }
    let ignore_case = |map: &Map<String, Value>| of(map, "ignoreUriCase").as_bool() == Some(true);
    let both_uri = root.contains_key("uri") && own.contains_key("uri");
    if both_uri && ignore_case(root) != ignore_case(own) {
        return None;
    }
    let mut joined = own.clone();
    for key in ["headers", "withoutHeaders", "queryParams"] {
        let (outer, inner) = (of(root, key), of(own, key));
        let mut all = inner.as_object().cloned().unwrap_or_default();
        for (name, value) in outer.as_object().into_iter().flatten() {
            match all.get(name) {
                Some(inner) if contradict(value, inner) => return None,
                Some(_) => {}
                None => drop(all.insert(name.clone(), value.clone())),
            }
        }
        if !all.is_empty() {
            joined.insert(key.to_owned(), Value::Object(all));
        }
    }
    for key in ["port", "sourceNamespace", "gateways", "sourceLabels"] {
        match (root.get(key), own.get(key)) {
            (Some(outer), Some(inner)) if !within(outer, inner) => return None,
            (Some(outer), None) => drop(joined.insert(key.to_owned(), outer.clone())),
            _ => {}
        }
    }
    for key in ["uri", "scheme", "method", "authority", "ignoreUriCase"] {
        if let (Some(outer), None) = (root.get(key), own.get(key)) {
            joined.insert(key.to_owned(), outer.clone());
        }
    }
    Some(Value::Object(joined))
}

/// Whether nothing can be said to match both: the inner one must be within the outer one.
fn contradict(outer: &Value, inner: &Value) -> bool {
    if outer.is_null() || inner.is_null() {
        return false;
    }
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    if text(outer, "regex").is_some() || text(inner, "regex").is_some() {
        return true;
    }
    let (exact, prefix) = (text(outer, "exact"), text(outer, "prefix"));
    match (text(inner, "exact"), text(inner, "prefix")) {
        (Some(inner), _) => {
            exact.is_some_and(|outer| outer != inner)
                || prefix.is_some_and(|outer| !inner.starts_with(&outer))
        }
        (None, Some(inner)) => {
            exact.is_some() || prefix.is_some_and(|outer| !inner.starts_with(&outer))
        }
        (None, None) => exact.is_some() || prefix.is_some(),
    }
}

/// Whether a value is, or all of a list are, in the outer one.
fn within(outer: &Value, inner: &Value) -> bool {
    match (outer, inner) {
        (Value::Array(outer), Value::Array(inner)) => inner.iter().all(|one| outer.contains(one)),
        (Value::Object(outer), Value::Object(inner)) => outer
            .iter()
            .all(|(key, value)| inner.get(key) == Some(value)),
        (outer, inner) => outer == inner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_is_served_within_what_its_root_matches() {
        let root = json!({
            "match": [{"uri": {"prefix": "/shop"}, "headers": {"x": {"exact": "1"}}}],
            "timeout": "5s", "retries": {"attempts": 1},
        });
        let rule = json!({"match": [{"uri": {"prefix": "/shop/a"}}], "timeout": "1s"});
        let joined = join(&root, &rule).expect("they fit");
        let uri = json!({"prefix": "/shop/a"});
        assert_eq!(joined["match"][0]["uri"], uri);
        assert_eq!(joined["match"][0]["headers"], json!({"x": {"exact": "1"}}));
        assert_eq!(joined["timeout"], json!("1s"));
        assert_eq!(joined["retries"], json!({"attempts": 1}));
        assert_eq!(
            join(&root, &json!({"route": []})).expect("fits")["match"],
            root["match"]
        );
    }

    #[test]
    fn contradictions_leave_the_rule_out() {
        let check = |outer: Value, inner: Value, fits: bool| {
            let root = json!({"match": [{"uri": outer}]});
            let rule = json!({"match": [{"uri": inner}]});
            assert_eq!(join(&root, &rule).is_some(), fits, "{root} {rule}");
        };
        check(json!({"prefix": "/a"}), json!({"prefix": "/ab"}), true);
        check(json!({"prefix": "/a"}), json!({"exact": "/b"}), false);
        check(json!({"exact": "/a"}), json!({"exact": "/a"}), true);
        check(json!({"exact": "/a"}), json!({"prefix": "/a"}), false);
        check(json!({"regex": "/a"}), json!({"prefix": "/a"}), false);
        check(json!({"prefix": "/a"}), json!({"regex": "/a"}), false);
        let root = json!({"match": [{"port": 80}]});
        assert!(join(&root, &json!({"match": [{"port": 81}]})).is_none());
    }
}
