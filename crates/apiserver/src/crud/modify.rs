//! Changing objects: PUT, the four patches, and server-side apply.
//!
//! All of them compute a new object from the stored one, and [`Api::store_change`] judges and
//! stores it. If someone else wrote in between, the computation runs again, unless the client
//! named the revision that it means.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Api, Body, Call, Content, Reply, create, decode, ephemeral, metadata, resize, shape, special,
};
use crate::admission::Operation;
use crate::csr;
use crate::status::Status;
use crate::store::{Expect, Object, Refused, Write};

/// Computations of one change before the conflict is told to the client.
const ATTEMPTS: usize = 16;

/// A patch, read but not applied.
enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

/// A computed object and what is to be told about it.
struct Changed {
    value: Value,
    warnings: Vec<String>,
    /// The new object lacks a resourceVersion on purpose.
    unconditional: bool,
    apply: bool,
}

impl Api {
    /// Replaces the object by the one in the body.
    pub(crate) async fn update(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let mut warnings = Vec::new();
        let value = decode::object(call, body, &mut warnings)?;
        let unconditional = metadata::text(&value, "resourceVersion").is_empty();
        if unconditional && shape::is_custom(&call.kind) {
            return Err(create::revision_required(call));
        }
        let mut read = Some((value, warnings));
        self.change(call, |_| {
            // Objects are large and second attempts rare: those read the body again.
            let (value, warnings) = match read.take() {
                Some(read) => read,
                None => {
                    let mut warnings = Vec::new();
                    (decode::object(call, body, &mut warnings)?, warnings)
                }
            };
            Ok(Changed {
                value,
                warnings,
                unconditional,
                apply: false,
            })
        })
        .await
    }

    /// Patches the object; a server-side apply creates it if it is missing.
    pub(crate) async fn patch(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let patch = read_patch(call, body)?;
        if matches!(patch.0, Patch::Apply(_)) && call.options.field_manager.is_empty() {
            let error =
                crate::status::FieldError::required("fieldManager", "is required for apply patch");
            return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
        }
        let (patch, found) = patch;
        if let Patch::Apply(applied) = &patch
            && call.subresource.is_empty()
            && self.store.get(&call.resource(), &call.key()).is_none()
        {
            match self.create_applied(call, applied, &found).await {
                // Created by someone else just now: apply to that.
                Err(status) if status.reason == "AlreadyExists" => {}
                result => return result,
            }
        }
        self.change(call, |old| apply_patch(call, &patch, &found, old))
            .await
    }

    async fn create_applied(
        &self,
        call: &Call,
        applied: &Value,
        found: &[String],
    ) -> Result<Reply, Status> {
        crate::auth::authorize_create(&self.store, call)?;
        let mut warnings = Vec::new();
        let mut findings = found.to_vec();
        let mut value = applied.clone();
        decode::check_kind(call, &mut value)?;
        findings.extend(shape::prune(&call.kind, &mut value));
        decode::report(call.options.field_validation, &findings, &mut warnings)?;
        let mut merged = shape::apply(call, None, &value)?;
        metadata::tidy(&mut merged);
        if metadata::text(&merged, "name").is_empty() {
            merged["metadata"]["name"] = json!(call.name);
        }
        self.create_value(call, merged, warnings, create::Ownership::Applied)
            .await
    }

    async fn change(
        &self,
        call: &Call,
        mut compute: impl FnMut(&Arc<Value>) -> Result<Changed, Status>,
    ) -> Result<Reply, Status> {
        for _ in 0..ATTEMPTS {
            let stored = self
                .store
                .get(&call.resource(), &call.key())
                .ok_or_else(|| call.not_found())?;
            let old = shape::in_version(&call.kind, stored.value());
            let changed = compute(&old)?;
            match self.store_change(call, &stored, &old, changed).await? {
                Some(reply) => return Ok(reply),
                None => continue,
            }
        }
        Err(self.refused(call, Refused::Conflict))
    }

    /// Stores a computed object. `None`: someone else wrote in between.
    async fn store_change(
        &self,
        call: &Call,
        stored: &Arc<Object>,
        old: &Arc<Value>,
        changed: Changed,
    ) -> Result<Option<Reply>, Status> {
        let Changed {
            value: mut new,
            mut warnings,
            unconditional,
            apply,
        } = changed;
        self.check_identity(call, stored, &mut new, unconditional)?;
        if call.subresource == "approval" {
            csr::check_approval(&self.store, call, old)?;
        }
        self.separate(call, &mut new, old);
        metadata::keep_system_fields(&mut new, old);
        self.admit(call, Operation::Update, &mut new, Some(old), &mut warnings)?;
        self.bump_generation(call, &mut new, old);
        if !apply {
            shape::record(call, &mut new, Some(old));
        }
        if same(&new, old) {
            return Ok(Some(Reply::object(200, stored).warning(warnings)));
        }
        if call.options.dry_run {
            let content = Content::Value(new);
            return Ok(Some(Reply {
                code: 200,
                content,
                warnings,
            }));
        }
        let counted = Box::pin(self.hold_quota(call, &new, Some(old))).await?;
        let gone = special::finished(&call.kind, &new);
        let durability = shape::durability(&call.kind, &call.subresource);
        let answer = gone.then(|| new.clone());
        let write = Write {
            resource: &call.resource(),
            key: &call.key(),
            expect: Expect::Revision(stored.revision()),
            guard: special::removal_guard(&call.kind, &call.name, gone),
            growth: self.growth(call, Some(stored)),
            value: (!gone).then(|| shape::to_storage(&call.kind, new)),
            durability,
        };
        let event = match self.store.write(write) {
            Ok(event) => event,
            Err(Refused::Conflict) => return Ok(None),
            Err(refused) => return Err(self.refused(call, refused)),
        };
        drop(counted);
        self.after_write(call, &event);
        self.commit(call, &event, durability).await?;
        let content = match (&event.object, answer) {
            (Some(object), _) => Content::Object(Arc::clone(object)),
            (None, answer) => Content::Value(answer.unwrap_or_default()),
        };
        Ok(Some(Reply {
            code: 200,
            content,
            warnings,
        }))
    }

    /// Name, kind, namespace, uid and revision must be those of the stored object.
    fn check_identity(
        &self,
        call: &Call,
        stored: &Object,
        new: &mut Value,
        unconditional: bool,
    ) -> Result<(), Status> {
        decode::check_kind(call, new)?;
        decode::check_namespace(call, new)?;
        let name = metadata::text(new, "name").to_owned();
        if name.is_empty() {
            new["metadata"]["name"] = json!(call.name);
        } else if name != call.name {
            return Err(create::name_mismatch(&name, &call.name));
        }
        let uid = metadata::text(new, "uid");
        if !uid.is_empty() && uid != stored.uid() {
            let cause = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                stored.uid()
            );
            return Err(Status::conflict(call.named(&call.name), &cause));
        }
        let current = stored.revision().to_string();
        if unconditional {
            new["metadata"]["resourceVersion"] = json!(current);
        } else if metadata::text(new, "resourceVersion") != current {
            return Err(self.refused(call, Refused::Conflict));
        }
        Ok(())
    }

    /// A write to the object keeps the stored status; a write to the status keeps everything else.
    fn separate(&self, call: &Call, new: &mut Value, old: &Value) {
        match call.subresource.as_str() {
            "" if shape::has_status(&call.kind) => copy_field(new, old, "status"),
            "status" => {
                let mut metadata = json!({ "metadata": old["metadata"] });
                special::keep_status_metadata(&call.kind, &mut metadata, new);
                copy_metadata(&mut metadata, new, "managedFields");
                new["metadata"] = metadata["metadata"].take();
                restore(new, old, &["metadata", "status"]);
            }
            "approval" => {
                restore(new, old, &["status"]);
                csr::approve(self.issuer.get(), new, old);
            }
            "finalize" => {
                restore(new, old, &["spec"]);
            }
            "ephemeralcontainers" => ephemeral::separate(new, old),
            "resize" => resize::separate(new, old),
            _ => {}
        }
    }

    fn bump_generation(&self, call: &Call, new: &mut Value, old: &Value) {
        let counts = ["", "ephemeralcontainers", "resize"].contains(&&*call.subresource)
            && shape::has_generation(&call.kind);
        if counts && !same_intent(&call.kind, new, old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
            metadata::of(new).insert("generation".into(), json!(generation));
        }
    }
}

/// Undoes every change of a top-level field that is not named. Most writes have none, so comparing
/// is cheaper than starting from a copy of `old`.
fn restore(new: &mut Value, old: &Value, changeable: &[&str]) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else {
        return;
    };
    new.retain(|key, _| changeable.contains(&key.as_str()) || old.contains_key(key));
    for (key, value) in old {
        if !changeable.contains(&key.as_str()) && new.get(key) != Some(value) {
            new.insert(key.clone(), value.clone());
        }
    }
}

fn copy_field(to: &mut Value, from: &Value, field: &str) {
    let Some(object) = to.as_object_mut() else {
        return;
    };
    match from.get(field) {
        Some(value) => object.insert(field.to_owned(), value.clone()),
        None => object.remove(field),
    };
}

fn copy_metadata(to: &mut Value, from: &Value, field: &str) {
    match from["metadata"].get(field) {
        Some(value) => metadata::of(to).insert(field.to_owned(), value.clone()),
        None => metadata::of(to).remove(field),
    };
}

/// Whether nothing changed but metadata and status.
fn same_intent(kind: &crate::types::ResourceType, new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    let skipped = |key: &str| {
        matches!(key, "metadata" | "apiVersion" | "kind")
            || key == "status" && shape::has_status(kind)
    };
    let covered = |a: &serde_json::Map<String, Value>, b: &serde_json::Map<String, Value>| {
        a.iter()
            .all(|(key, value)| skipped(key) || b.get(key) == Some(value))
    };
    covered(new, old) && covered(old, new)
}

/// Whether writing `new` would change nothing, not counting the times of managedFields.
fn same(new: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    a.len() == b.len()
        && a.iter().all(|(key, value)| match key.as_str() {
            "metadata" => same_metadata(value, &b["metadata"]),
            key => b.get(key) == Some(value),
        })
}

fn same_metadata(new: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    a.len() == b.len()
        && a.iter()
            .all(|(key, value)| match (key.as_str(), b.get(key)) {
                ("managedFields", Some(old)) => same_managers(value, old),
                (_, other) => other == Some(value),
            })
}

fn same_managers(new: &Value, old: &Value) -> bool {
    let (Some(a), Some(b)) = (new.as_array(), old.as_array()) else {
        return new == old;
    };
    let fields = [
        "manager",
        "operation",
        "subresource",
        "apiVersion",
        "fieldsType",
        "fieldsV1",
    ];
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| fields.iter().all(|field| a.get(field) == b.get(field)))
}

const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, \
    application/apply-patch+yaml, application/strategic-merge-patch+json";

fn read_patch(call: &Call, body: &Body) -> Result<(Patch, Vec<String>), Status> {
    let json = || -> Result<(Value, Vec<String>), Status> { shape::parse_json(&body.bytes) };
    Ok(match body.media_type.as_str() {
        "application/json-patch+json" => {
            let (value, found) = json()?;
            (Patch::Json(value), found)
        }
        "application/merge-patch+json" => {
            let (value, found) = json()?;
            (Patch::Merge(value), found)
        }
        // Kubernetes has no merge keys for custom resources.
        "application/strategic-merge-patch+json" if !shape::is_custom(&call.kind) => {
            let (value, found) = json()?;
            (Patch::Strategic(value), found)
        }
        "application/apply-patch+yaml" => {
            let (value, found) = body.parse(None)?;
            if !value.is_object() {
                return Err(Status::bad_request(
                    "the applied configuration must be an object",
                ));
            }
            (Patch::Apply(value), found)
        }
        _ => return Err(Status::unsupported_media_type(PATCHES)),
    })
}

fn apply_patch(
    call: &Call,
    patch: &Patch,
    found: &[String],
    old: &Arc<Value>,
) -> Result<Changed, Status> {
    let mut findings = found.to_vec();
    let mut warnings = Vec::new();
    let mut value = match patch {
        Patch::Json(patch) => shape::json_patch(old, patch)?,
        Patch::Merge(patch) => shape::merge_patch(old, patch)?,
        Patch::Strategic(patch) => shape::strategic_patch(&call.kind, old, patch)?,
        Patch::Apply(applied) => {
            let mut applied = applied.clone();
            decode::check_kind(call, &mut applied)?;
            check_means(call, &applied, old)?;
            findings.extend(shape::prune(&call.kind, &mut applied));
            shape::apply(call, Some(old), &applied)?
        }
    };
    let metadata_fits = value
        .get("metadata")
        .is_none_or(|metadata| metadata.is_object() || metadata.is_null());
    if !value.is_object() || !metadata_fits {
        return Err(Status::bad_request(
            "the patched object and its metadata must be JSON objects",
        ));
    }
    let apply = matches!(patch, Patch::Apply(_));
    if !apply {
        findings.extend(shape::prune(&call.kind, &mut value));
    }
    decode::report(call.options.field_validation, &findings, &mut warnings)?;
    metadata::tidy(&mut value);
    let unconditional = metadata::text(&value, "resourceVersion").is_empty();
    Ok(Changed {
        value,
        warnings,
        unconditional,
        apply,
    })
}

/// An applied configuration may name the revision and the uid that it means.
fn check_means(call: &Call, applied: &Value, old: &Value) -> Result<(), Status> {
    let differs = |field: &str| {
        let wanted = metadata::text(applied, field);
        !wanted.is_empty() && wanted != metadata::text(old, field)
    };
    if differs("resourceVersion") {
        return Err(Status::modified(call.named(&call.name)));
    }
    if differs("uid") {
        let (wanted, found) = (metadata::text(applied, "uid"), metadata::text(old, "uid"));
        let cause = format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
        );
        return Err(Status::conflict(call.named(&call.name), &cause));
    }
    Ok(())
}
