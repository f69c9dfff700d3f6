//! Demands of claims, volumes and storage classes.

use serde_json::Value;

use super::{Object, list, text};
use crate::quantity::Quantity;
use crate::schema::Path;
use crate::status::{Fault, FieldError};

const MODES: &[&str] = &[
    "ReadWriteOnce",
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOncePod",
];

/// Fields of a volume's spec that do not say where its bytes are.
const NO_SOURCE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Of a claim itself; templates of claims are judged when a claim is made of them.
pub(super) fn claim(claim: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let spec = claim.get("spec").and_then(Value::as_object);
    let (Path::Root, Some(spec)) = (path, spec) else {
        return;
    };
    let path = path.field("spec");
    access_modes(spec, &path, "at least 1 access mode is required", errors);
    let resources = path.field("resources");
    let storage = resources.key("storage").to_string();
    let asked = spec.get("resources").map(|all| &all["requests"]["storage"]);
    match asked.filter(|amount| !amount.is_null()) {
        None => errors.push(FieldError::required(storage, "")),
        Some(amount) => positive(amount, storage, errors),
    }
}

pub(super) fn volume(volume: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.field("spec");
    let Some(spec) = volume.get("spec").and_then(Value::as_object) else {
        errors.push(FieldError::required(path.to_string(), ""));
        return;
    };
    access_modes(spec, &path, "", errors);
    let capacity = path.field("capacity");
    match spec.get("capacity").and_then(|all| all.get("storage")) {
        None => errors.push(FieldError::required(capacity.to_string(), "")),
        Some(amount) => positive(amount, capacity.key("storage").to_string(), errors),
    }
    let mut sources = sources(spec);
    if sources.next().is_none() {
        let detail = "must specify a volume type";
        errors.push(FieldError::required(path.to_string(), detail));
    }
    for (more, _) in sources {
        let detail = "may not specify more than 1 volume type";
        errors.push(FieldError::forbidden(path.field(more).to_string(), detail));
    }
    for field in ["hostPath", "local"] {
        let Some(source) = spec.get(field).and_then(Value::as_object) else {
            continue;
        };
        let field = path.field(field);
        let field = field.field("path").to_string();
        let given = text(source, "path");
        if given.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if given.split('/').any(|part| part == "..") {
            let given = Value::from(given);
            errors.push(FieldError::invalid(field, &given, "must not contain '..'"));
        }
    }
}

pub(super) fn class(class: &Object, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if text(class, "provisioner").is_empty() {
        let field = path.field("provisioner").to_string();
        errors.push(FieldError::required(field, ""));
    }
}

/// What a claim asks for stays; a volume and a class may be filled in where there are none, and one
/// that has its volume may ask for a larger one.
pub(super) fn claim_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let bound = old["status"]["phase"] == "Bound";
    let has = Quantity::of(&old["status"]["capacity"]["storage"]);
    let (mut new, old) = (new["spec"].clone(), &old["spec"]);
    if !new.is_object() {
        // The schema's business.
        return;
    }
    if old["volumeName"].as_str().unwrap_or_default().is_empty() {
        new["volumeName"] = old["volumeName"].clone();
    }
    if old["storageClassName"].is_null() {
        new["storageClassName"] = old["storageClassName"].clone();
    }
    let asked = &new["resources"]["requests"]["storage"];
    let before = &old["resources"]["requests"]["storage"];
    if bound && !asked.is_null() && asked != before {
        if Quantity::of(asked) < has {
            errors.push(FieldError::forbidden(
                "spec.resources.requests.storage",
                "field can not be less than status.capacity",
            ));
        }
        new["resources"]["requests"]["storage"] = before.clone();
    }
    let fields = |spec: &Value| spec.as_object().cloned().unwrap_or_default();
    let (before, after) = (fields(old), fields(&new));
    let mut names = before.keys().chain(after.keys());
    if names.any(|name| old[name] != new[name]) {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests for bound claims",
        ));
    }
}

pub(super) fn volume_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let source = |volume: &Value| {
        let spec = volume["spec"].as_object();
        spec.and_then(|spec| {
            let (name, source) = sources(spec).next()?;
            Some((name.to_owned(), source.clone()))
        })
    };
    if source(new) != source(old) {
        errors.push(FieldError::forbidden(
            "spec.persistentvolumesource",
            "spec.persistentvolumesource is immutable after creation",
        ));
    }
}

fn sources(spec: &Object) -> impl Iterator<Item = (&str, &Value)> {
    let given = spec
        .iter()
        .filter(|(field, value)| !NO_SOURCE.contains(&field.as_str()) && !value.is_null());
    given.map(|(field, value)| (field.as_str(), value))
}

fn access_modes(spec: &Object, path: &Path<'_>, missing: &str, errors: &mut Vec<FieldError>) {
    let field = path.field("accessModes").to_string();
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(field.clone(), missing));
    }
    let known = |mode: &&Value| mode.as_str().is_some_and(|mode| MODES.contains(&mode));
    for mode in modes.iter().filter(|mode| !known(mode)) {
        let supported: Vec<_> = MODES.iter().map(|mode| format!("\"{mode}\"")).collect();
        errors.push(FieldError::with_value(
            Fault::NotSupported,
            field.clone(),
            mode.to_string(),
            format!("supported values: {}", supported.join(", ")),
        ));
    }
}

/// An amount above zero; one that is no quantity is the schema's business.
fn positive(amount: &Value, field: String, errors: &mut Vec<FieldError>) {
    let digits = match amount {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let number = digits.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !number.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    if digits.starts_with('-') || is_zero {
        errors.push(FieldError::invalid(
            field,
            amount,
            "must be greater than zero",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(demand: crate::schema::Demand, object: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        let object = object.as_object().expect("an object");
        demand(object, &Path::Root, &mut errors);
        errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.body()))
            .collect()
    }

    #[test]
    fn a_claim_says_how_and_how_much() {
        let good = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(found(claim, &good), Vec::<String>::new());
        let bad = json!({"spec": {"accessModes": ["Some"], "resources": {"requests": {"storage": "0Gi"}}}});
        assert_eq!(found(claim, &bad).len(), 2);
        assert_eq!(
            found(claim, &json!({"spec": {}})),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ]
        );
    }

    #[test]
    fn a_volume_has_one_source_that_stays_below_its_path() {
        let with = |more: Value| {
            let mut object =
                json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
            for (key, value) in more.as_object().into_iter().flatten() {
                object["spec"][key] = value.clone();
            }
            found(volume, &object)
        };
        assert!(with(json!({"hostPath": {"path": "/a"}})).is_empty());
        assert_eq!(
            with(json!({})),
            ["spec: Required value: must specify a volume type"]
        );
        assert_eq!(
            with(json!({"hostPath": {"path": "/a"}, "nfs": {}})),
            ["spec.nfs: Forbidden: may not specify more than 1 volume type"]
        );
        assert_eq!(
            with(json!({"local": {"path": "/a/../b"}})),
            ["spec.local.path: Invalid value: \"/a/../b\": must not contain '..'"]
        );
    }

    #[test]
    fn a_claim_that_has_its_volume_may_ask_for_more() {
        let of = |size: &str| {
            json!({
                "spec": { "volumeName": "v", "resources": { "requests": { "storage": size } } },
                "status": { "phase": "Bound", "capacity": { "storage": "1Gi" } },
            })
        };
        let errors = |new: &str| {
            let mut errors = Vec::new();
            claim_update(&of(new), &of("1Gi"), &mut errors);
            errors
        };
        assert!(errors("2Gi").is_empty());
        let refused = errors("1Mi");
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].field, "spec.resources.requests.storage");
    }

    #[test]
    fn a_claims_spec_stays_as_it_is() {
        let errors = |new: Value, old: Value| {
            let mut errors = Vec::new();
            claim_update(&json!({"spec": new}), &json!({"spec": old}), &mut errors);
            errors.len()
        };
        assert_eq!(errors(json!({"volumeName": "v"}), json!({})), 0);
        assert_eq!(errors(json!({"storageClassName": "c"}), json!({})), 0);
        assert_eq!(
            errors(json!({"volumeName": "w"}), json!({"volumeName": "v"})),
            1
        );
        assert_eq!(errors(json!({}), json!({"volumeName": "v"})), 1);
        assert_eq!(
            errors(
                json!({"resources": {"requests": {"storage": "2Gi"}}}),
                json!({"resources": {"requests": {"storage": "1Gi"}}})
            ),
            1
        );
    }
}
