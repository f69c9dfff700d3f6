//! `pods/ephemeralcontainers`: the only way in which a running pod gets another container.
//!
//! The list only grows: what is in it stays as it is. Other writes of a pod do not touch it.

use serde_json::{Value, json};

use super::{Call, special};
use crate::status::FieldError;

const FIELD: &str = "ephemeralContainers";

/// Whether the call is about this subresource.
fn is_subresource(call: &Call) -> bool {
    call.subresource == "ephemeralcontainers"
}

/// A write to the subresource changes the list and nothing else.
pub(super) fn separate(new: &mut Value, old: &Value) {
    let list = new["spec"][FIELD].take();
    *new = old.clone();
    let Some(spec) = new["spec"].as_object_mut() else {
        return;
    };
    match list {
        Value::Null => spec.remove(FIELD),
        list => spec.insert(FIELD.to_owned(), list),
    };
}

/// Findings about who changes the list, and how.
pub(super) fn validate(call: &Call, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if !special::is_pod(&call.kind) {
        return Vec::new();
    }
    let path = format!("spec.{FIELD}");
    let list = |pod: &Value| pod["spec"][FIELD].as_array().cloned().unwrap_or_default();
    let (after, Some(old)) = (list(new), old) else {
        let given = !list(new).is_empty();
        let refused = || FieldError::forbidden(&path, "cannot be set on create");
        return given.then(refused).into_iter().collect();
    };
    let before = list(old);
    if !is_subresource(call) {
        let changed = after != before;
        let refused = || {
            FieldError::forbidden(
                &path,
                "pod updates may not change it; write to the subresource `ephemeralcontainers`",
            )
        };
        return changed.then(refused).into_iter().collect();
    }
    let mut errors = Vec::new();
    for known in &before {
        let name = known["name"].as_str().unwrap_or_default();
        let what = format!("existing ephemeral containers {} may not be", json!(name));
        match after.iter().find(|one| one["name"] == known["name"]) {
            Some(one) if one == known => {}
            Some(_) => errors.push(FieldError::forbidden(&path, format!("{what} changed"))),
            None => errors.push(FieldError::forbidden(&path, format!("{what} removed"))),
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_changes_the_list_and_nothing_else() {
        let old =
            json!({"metadata": {"name": "p", "resourceVersion": "7"}, "spec": {"nodeName": "n"}});
        let mut new = json!({
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"nodeName": "other", "ephemeralContainers": [{"name": "e"}]},
        });
        separate(&mut new, &old);
        let wanted = json!({
            "metadata": {"name": "p", "resourceVersion": "7"},
            "spec": {"nodeName": "n", "ephemeralContainers": [{"name": "e"}]},
        });
        assert_eq!(new, wanted);
    }
}
