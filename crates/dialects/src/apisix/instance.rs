//! What every object of the dialect has: a spec and conditions.

use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, joined};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};

/// Bytes of a condition's message: APISIX's own overflowed.
const MOST_TEXT: usize = 4096;

/// Whether an object is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Served,
    /// Nothing of it.
    Refused,
}

/// Translates an object by its `spec` and writes its conditions.
pub(super) fn translate(
    object: &Object,
    objects: &Objects,
    run: impl FnOnce(&Fields<'_>, &Reader<'_>, &mut Translation) -> Outcome,
) -> Translation {
    let findings = Findings::default();
    let reader = Reader::new(objects);
    let mut out = Translation::default();
    let outcome = {
        let body = Fields::new(&object.body, String::new(), &findings);
        let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
        body.ignore("spec");
        // Whatever class it names: nobody else serves it here.
        spec.ignore("ingressClassName");
        run(&spec, &reader, &mut out)
    };
    out.diagnostics = findings.take();
    out.reads = reader.into_read();
    out.status = Some(conditions(object, outcome, &out.diagnostics));
    out
}

/// Diagnostics as one text.
pub(super) fn told(diagnostics: &[Diagnostic]) -> String {
    joined(diagnostics.iter().map(|one| &one.message), MOST_TEXT)
}

fn conditions(object: &Object, outcome: Outcome, diagnostics: &[Diagnostic]) -> Value {
    let is_served = outcome == Outcome::Served;
    let mut message = told(diagnostics);
    if message.is_empty() {
        message.push_str("Sync Successfully");
    }
    let condition = |kind: &str, reason: &str| {
        json!({
            "type": kind,
            "status": if is_served { "True" } else { "False" },
            "reason": reason,
            "message": message,
            "observedGeneration": object.generation,
        })
    };
    let (accepted, synced) = if is_served {
        ("Accepted", "ResourcesSynced")
    } else {
        ("InvalidSpec", "ResourceSyncAborted")
    };
    json!({"conditions": [
        condition("Accepted", accepted),
        condition("ResourcesAvailable", synced),
    ]})
}

/// Kinds about Gateway API's objects.
pub(super) fn refuse(object: &Object, objects: &Objects) -> Translation {
    let kind = object.kind.kind;
    let remedy = match kind {
        "L4RoutePolicy" => {
            "connections of such routes are passed on as they are; how many there may be says a \
             TrafficPolicy (gateway.suimon.dev) with connections.max and targetRefs to the Service"
        }
        "BackendTrafficPolicy" => {
            "write a TrafficPolicy (gateway.suimon.dev) with targetRefs to the Service, or an \
             ApisixUpstream"
        }
        _ => "write an ApisixConsumer",
    };
    translate(object, objects, |spec, _, _| {
        let message = format!("{kind} is not supported and changes nothing: {remedy}");
        spec.findings().refuse("KindNotSupported", "spec", message);
        spec.pass_over();
        Outcome::Refused
    })
}

/// APISIX itself took this kind out.
pub(super) fn refuse_cluster(object: &Object, objects: &Objects) -> Translation {
    translate(object, objects, |spec, _, _| {
        let message = "ApisixClusterConfig is not supported: write an ApisixGlobalRule for plugins; \
             metrics and the admin API are the gateway's own";
        spec.findings().refuse("KindNotSupported", "spec", message);
        spec.pass_over();
        Outcome::Refused
    })
}
