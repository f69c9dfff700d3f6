//! Names of backends that differ from what their Service says.
//!
//! A name comes from what a specification says besides the model's defaults. So a field that the
//! model gets later, and that says nothing where nobody writes it, renames no backend: endpoints
//! keep their counts and connections over an update.

use std::sync::Arc;

use routing::model::{BackendPolicy, Timeouts};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::foreign::BackendSpec;

/// A name by content: equal specifications of one port are one backend, whoever wrote them. `None`
/// if nothing differs.
pub(crate) fn of(dialect: &str, spec: &BackendSpec) -> Option<Arc<str>> {
    (*spec != BackendSpec::default()).then(|| always(dialect, spec))
}

/// The same for dialects whose backends are told apart in any case.
pub(crate) fn always(dialect: &str, spec: &BackendSpec) -> Arc<str> {
    const BYTES: usize = 6;
    let digest = Sha256::digest(said(spec).to_string());
    format!("{dialect}/{}", hex::encode(&digest[..BYTES])).into()
}

/// What a specification says.
pub(crate) fn said(spec: &BackendSpec) -> Value {
    // Each field by name, so that none can be forgotten.
    let BackendSpec {
        policy,
        labels,
        tls,
        protocol,
        timeouts,
        hosts,
    } = spec;
    let fields = [
        ("policy", json!(policy), json!(BackendPolicy::default())),
        ("labels", json!(labels), Value::Null),
        ("tls", json!(tls), Value::Null),
        ("protocol", json!(protocol), Value::Null),
        ("timeouts", json!(timeouts), json!(Timeouts::default())),
        ("hosts", json!(hosts), Value::Null),
    ];
    let fields = fields.into_iter();
    let said = fields.filter(|(_, value, _)| !is_nothing(value));
    said.map(|(name, value, default)| (name.to_owned(), differing(value, &default)))
        .collect()
}

/// Whether a value stands for nothing where no default is known. No optional field of the model
/// holds a truth value or a list, so that nothing else is written like this.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A value without what is as in the default.
fn differing(value: Value, default: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entries = map.into_iter().filter_map(|(name, value)| {
                let usual = default.get(&name).unwrap_or(&Value::Null);
                let is_usual = value == *usual || (usual.is_null() && is_nothing(&value));
                (!is_usual).then(|| (name, differing(value, usual)))
            });
            entries.collect()
        }
        Value::Array(list) => {
            let items = list.into_iter();
            items.map(|item| differing(item, &Value::Null)).collect()
        }
        leaf => leaf,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use routing::model::{Balancer, Limits};

    use super::*;

    fn with_policy(policy: BackendPolicy) -> BackendSpec {
        BackendSpec {
            policy: Some(Arc::new(policy)),
            ..BackendSpec::default()
        }
    }

    #[test]
    fn a_name_is_made_from_what_is_said_and_from_nothing_else() {
        let limits = Limits {
            pending: Some(3),
            ..Limits::default()
        };
        let spec = with_policy(BackendPolicy {
            balancer: Balancer::Maglev { size: 7 },
            limits,
            connect_timeout: Some(Duration::ZERO),
            ..BackendPolicy::default()
        });
        let policy = json!({
            "balancer": {"Maglev": {"size": 7}},
            "connect_timeout": {"secs": 0, "nanos": 0},
            "limits": {"pending": 3},
        });
        assert_eq!(said(&spec), json!({"policy": policy}));
    }

    #[test]
    fn a_default_that_is_said_is_not_the_same_as_nothing() {
        assert_eq!(said(&BackendSpec::default()), json!({}));
        let spec = with_policy(BackendPolicy::default());
        assert_eq!(said(&spec), json!({"policy": {}}));
    }

    #[test]
    fn zero_is_not_the_same_as_no_limit() {
        let limited = with_policy(BackendPolicy {
            limits: Limits {
                pending: Some(0),
                ..Limits::default()
            },
            ..BackendPolicy::default()
        });
        let unlimited = with_policy(BackendPolicy::default());
        assert_ne!(always("x", &limited), always("x", &unlimited));
    }
}
