//! CustomResourceDefinitions: accepted, served in the same moment, removed with their objects.
//!
//! A CRD is established by the write that stores it, so there is no moment in which it exists but
//! is not served. Its finalizer keeps it until its last object is gone.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::crud::{self, Api, Call, timestamp};
use crate::status::FieldError;
use crate::store::{Event, Scope, Store};
use crate::types::TypeTable;
use crate::types::crd::check;

/// Resource of CRDs in the store.
pub(crate) const RESOURCE: &str = "customresourcedefinitions.apiextensions.k8s.io";
const GROUP: &str = "apiextensions.k8s.io";
/// Keeps a CRD until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in the status and the finalizer of a new CRD.
pub(crate) fn fill_in(value: &mut Value) {
    default_names(value);
    let now = timestamp(Timestamp::now());
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now });
    let stored: Vec<Value> = versions(value)
        .filter(|version| version["storage"] == true)
        .map(|v| v["name"].clone())
        .collect();
    value["status"] = json!({
        "acceptedNames": value["spec"]["names"],
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": stored,
    });
    let finalizers = &mut value["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|name| name == CLEANUP) => {}
        Some(list) => list.push(json!(CLEANUP)),
        None => *finalizers = json!([CLEANUP]),
    }
}

/// Condition `NamesAccepted` of a new CRD: one whose names are taken is stored and not served.
pub(crate) fn judge_names(types: &TypeTable, value: &mut Value) {
    let conflicts = types.conflicts(value);
    let Some(first) = conflicts.first() else {
        return;
    };
    let reason = match first.field.as_str() {
        "spec.names.singular" => "SingularConflict",
        "spec.names.plural" => "PluralConflict",
        "spec.names.shortNames" => "ShortNamesConflict",
        _ => "KindConflict",
    };
    let now = timestamp(Timestamp::now());
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "False", "reason": reason, "message": message, "lastTransitionTime": now });
    value["status"]["conditions"] = json!([
        condition("NamesAccepted", reason, &first.detail),
        condition("Established", "NotAccepted", "not all names are accepted"),
    ]);
    value["status"]["acceptedNames"] = json!({ "plural": "", "kind": "" });
}

/// Accepts CRDs whose names have become free, until the store closes its watches.
pub(crate) async fn run(api: Arc<Api>) {
    loop {
        let (_, _, mut changes) = api.store.list_and_subscribe(RESOURCE, &Scope::All);
        accept_free(&api).await;
        while let Some(event) = changes.next().await {
            if event.object.is_none() {
                accept_free(&api).await;
            }
        }
        if !changes.lagged() {
            return;
        }
    }
}

async fn accept_free(api: &Api) {
    let types = api.types();
    let Some(kind) = types.get(GROUP, "v1", "customresourcedefinitions") else {
        return;
    };
    let (_, crds) = api.store.list(RESOURCE, &Scope::All);
    for stored in crds.iter().filter(|stored| !stored.deleting()) {
        let value = stored.value();
        let conditions = value["status"]["conditions"].as_array();
        let refused = conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "NamesAccepted" && condition["status"] == "False"
        });
        if !refused || !api.types().conflicts(&value).is_empty() {
            continue;
        }
        let mut next = (*value).clone();
        let created = next["metadata"]["finalizers"].take();
        fill_in(&mut next);
        next["metadata"]["finalizers"] = created;
        let name = next["metadata"]["name"].as_str().unwrap_or_default();
        let mut call = Call::internal(kind, "", name);
        call.subresource = "status".into();
        let body = crud::Body {
            media_type: "application/json".into(),
            bytes: next.to_string().into(),
        };
        if let Err(error) = api.update(&call, &body).await
            && ![404, 409].contains(&error.code)
        {
            tracing::warn!(crd = name, %error, "cannot accept the names of a CRD");
        }
    }
}

pub(crate) fn default_names(value: &mut Value) {
    // A spec of another type is refused by the schema.
    if !value["spec"].is_object() {
        return;
    }
    let kind = value["spec"]["names"]["kind"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let names = &mut value["spec"]["names"];
    if !names.is_object() || kind.is_empty() {
        return;
    }
    for (field, text) in [
        ("singular", kind.to_lowercase()),
        ("listKind", format!("{kind}List")),
    ] {
        if names[field].as_str().unwrap_or_default().is_empty() {
            names[field] = json!(text);
        }
    }
    if !value["spec"]["conversion"].is_object() {
        value["spec"]["conversion"] = json!({ "strategy": "None" });
    }
}

fn versions(value: &Value) -> impl Iterator<Item = &Value> {
    value["spec"]["versions"].as_array().into_iter().flatten()
}

/// Findings about a new or changed CRD, judged by the code that will serve it.
pub(crate) fn validate(types: &TypeTable, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = check(value);
    // A new CRD waits for its names; one that is served must not lose those that it has.
    if old.is_some_and(|old| old["spec"]["names"] != value["spec"]["names"]) {
        errors.extend(types.conflicts(value));
    }
    if value["spec"]["conversion"]["strategy"] == "Webhook" {
        errors.push(FieldError::invalid(
            "spec.conversion.strategy",
            &json!("Webhook"),
            "conversion webhooks are not supported, use None",
        ));
    }
    for field in ["group", "scope"] {
        if let Some(old) = old.filter(|old| old["spec"][field] != value["spec"][field]) {
            let detail = format!("field is immutable, it was {}", old["spec"][field]);
            errors.push(FieldError::invalid(
                format!("spec.{field}"),
                &value["spec"][field],
                detail,
            ));
        }
    }
    errors
}

/// Serves a stored CRD, or stops serving a removed one.
pub(crate) fn after_write(api: &Api, event: &Event) {
    let changed = match (&event.object, &event.prev) {
        (Some(object), _) => api.change_types(|types| types.with_crd(&object.value())),
        (None, Some(prev)) => api.change_types(|types| Ok(types.without_crd(&prev.value()))),
        (None, None) => Ok(()),
    };
    if let Err(error) = changed {
        // The write was validated by the same code, so this is a fault of this server.
        tracing::error!(crd = &*event.key, ?error, "a stored CRD cannot be served");
    }
}

/// Adds the stored CRDs to the built-in types.
pub(crate) fn load(mut types: TypeTable, store: &Store) -> TypeTable {
    let (_, crds) = store.list(RESOURCE, &Scope::All);
    for crd in crds {
        match types.with_crd(&crd.value()) {
            Ok(more) => types = more,
            Err(error) => {
                tracing::error!(crd = ?crd.value()["metadata"]["name"], ?error, "a stored CRD cannot be served")
            }
        }
    }
    types
}
