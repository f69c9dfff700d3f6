//! What an object's status says, and its place among others.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Effect};
use crate::fields::Findings;
use crate::foreign::{Object, Translation};
use crate::objects::Reader;

/// Findings that one status names; more are counted.
const MOST: usize = 50;

/// Completes a translation: diagnostics, status and what was read. `failures` are told too.
pub(crate) fn finish(
    out: &mut Translation,
    object: &Object,
    findings: &Findings,
    reader: Reader<'_>,
    failures: &[String],
) {
    out.diagnostics = findings.take();
    out.status = Some(status(object, &out.diagnostics, failures));
    out.reads = reader.into_read();
}

/// `status` of an object: one condition, as Istio has it, with every finding in its message.
pub(crate) fn status(object: &Object, diagnostics: &[Diagnostic], failures: &[String]) -> Value {
    // That nobody answers yet is a matter between the backend and its requests.
    let told = diagnostics
        .iter()
        .filter(|one| one.effect != Effect::Starting);
    let told: Vec<_> = told.collect();
    let mut texts: Vec<String> = failures.to_vec();
    texts.extend(
        told.iter()
            .take(MOST)
            .map(|one| format!("{}: {}", one.field, one.message)),
    );
    if told.len() > MOST {
        texts.push(format!("and {} more", told.len() - MOST));
    }
    let mut condition = json!({
        "type": "Reconciled",
        "status": if texts.is_empty() { "True" } else { "False" },
        "observedGeneration": object.generation,
        "reason": told.first().map_or(
            if failures.is_empty() { "Reconciled" } else { "PortTaken" },
            |first| first.reason,
        ),
    });
    if !texts.is_empty() {
        condition["message"] = texts.join("; ").into();
    }
    let mut status = json!({
        "observedGeneration": object.generation,
        "conditions": [condition],
    });
    let messages = told.iter().take(MOST).map(|one| {
        let level = match one.effect {
            Effect::Refused | Effect::Conflict => "ERROR",
            Effect::Waiting | Effect::Starting => "WARNING",
        };
        json!({"type": {"name": one.reason, "code": "SUIMON"}, "level": level})
    });
    let messages: Vec<_> = messages.collect();
    if !messages.is_empty() {
        status["validationMessages"] = messages.into();
    }
    status
}

/// The oldest first, then by name and namespace: creation times are whole seconds, and one
/// `kubectl apply` makes many objects in one.
pub(crate) fn order(object: &Object) -> Vec<i64> {
    let mut key = vec![object.created];
    for text in [&object.name.name, &object.name.namespace] {
        let mut chunks = text.as_bytes().chunks_exact(7);
        let number = |bytes: &[u8]| {
            let number = bytes
                .iter()
                .fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
            number << (8 * (7 - bytes.len().min(7)))
        };
        key.extend(chunks.by_ref().map(number));
        // Always one that is not full: a text that goes on sorts after one that ends.
        key.push(number(chunks.remainder()));
    }
    key
}

/// Sorts objects the oldest first.
pub(crate) fn oldest_first(objects: &mut [&Arc<Object>]) {
    objects.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::Kind;
    use crate::istio::KINDS;

    fn object(name: &str, namespace: &str) -> Object {
        let kind: &'static Kind = KINDS[1];
        let json = json!({"metadata": {"name": name, "namespace": namespace}, "spec": {}});
        Object::new(kind, json).expect("an object")
    }

    #[test]
    fn objects_of_one_second_are_in_the_order_of_their_names() {
        let names = [
            ("a", "z"),
            ("abcdefg", "a"),
            ("abcdefg", "b"),
            ("abcdefgh", "a"),
            ("abcdefghijklmno", "a"),
            ("b", "a"),
        ];
        let keys: Vec<_> = names
            .iter()
            .map(|(name, of)| order(&object(name, of)))
            .collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
