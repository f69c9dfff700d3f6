//! What every object of the dialect has: the instance it is for, and a status of one text.

use serde_json::Value;

use crate::diagnostic::{Diagnostic, joined};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};

/// The instance that this gateway is.
const ID: &str = "default";

/// Bytes of a status's text: an object that says much must stay writable.
const MOST_TEXT: usize = 2048;

/// Whether an object is for this instance: it names none, or names it.
pub(super) fn is_ours(object: &Object) -> bool {
    match &object.spec()["ambassador_id"] {
        Value::String(id) => id == ID || id.is_empty(),
        Value::Array(ids) => ids.is_empty() || ids.iter().any(|id| id == ID),
        _ => true,
    }
}

/// Translates an object for this instance by its `spec`; others are told whose they are.
pub(super) fn translate(
    object: &Object,
    objects: &Objects,
    run: impl FnOnce(&Fields<'_>, &Reader<'_>, &mut Translation),
) -> Translation {
    let findings = Findings::default();
    let reader = Reader::new(objects);
    let mut out = Translation::default();
    {
        let body = Fields::new(&object.body, String::new(), &findings);
        let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
        body.ignore("spec");
        spec.ignore("ambassador_id");
        if is_ours(object) {
            run(&spec, &reader, &mut out);
        } else {
            let message = format!(
                "ambassador_id is for other instances, this one is {ID:?}: nothing is served"
            );
            spec.refuse("ambassador_id", "OtherInstance", message);
            spec.pass_over();
        }
    }
    out.diagnostics = findings.take();
    out.reads = reader.into_read();
    out
}

/// A Secret by the dialect's notation: `name.namespace`, or a name in `namespace`.
pub(super) fn secret_name(text: &str, namespace: &str, is_namespaced: bool) -> Name {
    match text.rsplit_once('.') {
        Some((name, other)) if is_namespaced => Name::new(other, name),
        _ => Name::new(namespace, text),
    }
}

/// Diagnostics as one text for a status.
pub(super) fn summary(diagnostics: &[Diagnostic]) -> String {
    joined(diagnostics.iter().map(|one| &one.message), MOST_TEXT)
}
