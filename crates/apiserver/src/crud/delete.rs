//! Deleting objects: preconditions, grace, finalizers and propagation.
//!
//! The order is that of `registry/rest.BeforeDelete`: an object with finalizers or grace stays,
//! marked with `deletionTimestamp`, until the last of them is gone.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Api, Body, Call, Content, List, Reply, metadata, shape, special};
use crate::admission::Operation;
use crate::policy;
use crate::status::{FieldError, Status};
use crate::store::{Expect, Growth, Object, Refused, Write};

const ATTEMPTS: usize = 16;
/// Definition of the options in a body.
const DEFINITION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Options of a delete, from the body and the query.
#[derive(Clone, Debug, Default)]
pub(super) struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    policy: Option<Policy>,
    uid: Option<String>,
    revision: Option<String>,
    pub(super) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Orphan,
    Background,
    Foreground,
}

impl Api {
    /// Deletes one object.
    pub(crate) async fn delete(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let options = DeleteOptions::read(call, body)?;
        self.delete_with(call, &options).await
    }

    /// Deletes the selected objects of a collection and returns them.
    pub(crate) async fn delete_collection(
        &self,
        call: &Call,
        body: &Body,
    ) -> Result<Reply, Status> {
        let options = DeleteOptions::read(call, body)?;
        let selected = self.select(call)?;
        let mut deleted = Vec::new();
        for object in selected.items {
            let value = object.value();
            let one = call.about(
                metadata::text(&value, "namespace"),
                metadata::text(&value, "name"),
            );
            match self.delete_with(&one, &options).await {
                Ok(_) => deleted.push(object),
                Err(status) if status.reason == "NotFound" => {}
                Err(status) => return Err(status),
            }
        }
        let list = List {
            items: deleted,
            ..List::empty(self.store.revision())
        };
        Ok(Reply {
            code: 200,
            content: Content::List(list),
            warnings: Vec::new(),
        })
    }

    pub(super) async fn delete_with(
        &self,
        call: &Call,
        options: &DeleteOptions,
    ) -> Result<Reply, Status> {
        for _ in 0..ATTEMPTS {
            let stored = self
                .store
                .get(&call.resource(), &call.key())
                .ok_or_else(|| call.not_found())?;
            if let Some(reply) = self.delete_once(call, options, &stored).await? {
                return Ok(reply);
            }
        }
        Err(self.refused(call, Refused::Conflict))
    }

    /// `None`: someone else wrote in between.
    async fn delete_once(
        &self,
        call: &Call,
        options: &DeleteOptions,
        stored: &std::sync::Arc<Object>,
    ) -> Result<Option<Reply>, Status> {
        options.check_preconditions(call, stored)?;
        let old = shape::in_version(&call.kind, stored.value());
        let mut warnings = Vec::new();
        let mut seen = (*old).clone();
        self.ask_admission(
            call,
            Operation::Delete,
            &mut seen,
            Some(&old),
            &mut warnings,
        )?;
        policy::judge(
            self,
            call,
            Operation::Delete,
            (None, Some(&*old)),
            &mut warnings,
        )?;
        let next = mark(call, options, &old);
        if next.as_ref().is_some_and(|next| next == &*old) {
            return Ok(Some(Reply::object(200, stored).warning(warnings)));
        }
        if options.dry_run || call.options.dry_run {
            let value = next.unwrap_or_else(|| (*old).clone());
            return Ok(Some(Reply {
                code: 200,
                content: Content::Value(value),
                warnings,
            }));
        }
        let gone = next.is_none();
        let durability = shape::durability(&call.kind, "");
        let write = Write {
            resource: &call.resource(),
            key: &call.key(),
            expect: Expect::Revision(stored.revision()),
            guard: special::removal_guard(&call.kind, &call.name, gone),
            growth: Growth::Free,
            value: next.map(|next| shape::to_storage(&call.kind, next)),
            durability,
        };
        let event = match self.store.write(write) {
            Ok(event) => event,
            Err(Refused::Conflict) => return Ok(None),
            Err(refused) => return Err(self.refused(call, refused)),
        };
        self.after_write(call, &event);
        self.commit(call, &event, durability).await?;
        Ok(Some(match &event.object {
            Some(object) => Reply::object(200, object).warning(warnings),
            // Kubernetes returns a removed pod, and a Status for everything else.
            None if special::is_pod(&call.kind) => {
                let value = serde_json::from_slice(event.deleted_bytes()).unwrap_or_default();
                Reply::value(200, value).warning(warnings)
            }
            None => Reply::value(200, success(call, stored.uid())).warning(warnings),
        }))
    }
}

/// The object as it stays, marked; `None` if it goes at once.
fn mark(call: &Call, options: &DeleteOptions, old: &Value) -> Option<Value> {
    let finalizers = options.finalizers(metadata::finalizers(old));
    let already = old["metadata"].get("deletionTimestamp").is_some();
    let grace = special::grace_seconds(&call.kind, old, options.grace_period_seconds);
    let current = old["metadata"]["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or_default();
    // Grace can only be shortened once the deletion has begun.
    let grace = if already { grace.min(current) } else { grace };
    if finalizers.is_empty() && grace == 0 && special::may_go(&call.kind, old) {
        return None;
    }
    let mut next = old.clone();
    let metadata = metadata::of(&mut next);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
    if !already || grace < current {
        let at = Timestamp::now() + SignedDuration::from_secs(grace);
        metadata.insert("deletionTimestamp".into(), json!(metadata::timestamp(at)));
        metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
    }
    if !already && let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".into(), json!(generation + 1));
    }
    special::mark_deleting(&call.kind, &mut next);
    Some(next)
}

/// The `Status` of Kubernetes for an object that is gone.
fn success(call: &Call, uid: &str) -> Value {
    let mut details = json!({ "name": call.name, "kind": &*call.kind.plural, "uid": uid });
    if !call.kind.group.is_empty() {
        details["group"] = json!(&*call.kind.group);
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

impl DeleteOptions {
    fn read(call: &Call, body: &Body) -> Result<Self, Status> {
        let value = if body.bytes.is_empty() {
            Value::Null
        } else {
            body.parse(Some(DEFINITION))?.0
        };
        Self::of(call, &value)
    }

    /// Options as an object; null for none. The query's count where it says nothing.
    pub(super) fn of(call: &Call, value: &Value) -> Result<Self, Status> {
        let query = &call.options;
        let text = |value: &Value| {
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .map(ToOwned::to_owned)
        };
        let orphan = value["orphanDependents"]
            .as_bool()
            .or(query.orphan_dependents);
        let policy = text(&value["propagationPolicy"]).or_else(|| query.propagation_policy.clone());
        let policy = match (policy.as_deref(), orphan) {
            (Some(_), Some(_)) => {
                return Err(invalid(
                    "propagationPolicy",
                    "orphanDependents and deletionPropagation cannot be both set",
                ));
            }
            (Some("Orphan"), None) | (None, Some(true)) => Some(Policy::Orphan),
            (Some("Background"), None) | (None, Some(false)) => Some(Policy::Background),
            (Some("Foreground"), None) => Some(Policy::Foreground),
            (None, None) => None,
            (Some(_), None) => {
                let text = "needs to be one of [Foreground Background Orphan] or not set";
                return Err(invalid("propagationPolicy", text));
            }
        };
        let grace = value["gracePeriodSeconds"]
            .as_i64()
            .or(query.grace_period_seconds);
        if grace.is_some_and(|grace| grace < 0) {
            return Err(invalid(
                "gracePeriodSeconds",
                "must be greater than or equal to 0",
            ));
        }
        let dry_run = match value["dryRun"].as_array().map(Vec::as_slice) {
            None | Some([]) => false,
            Some([all]) if all == "All" => true,
            Some(_) => return Err(invalid("dryRun", "supported values: \"All\"")),
        };
        Ok(Self {
            grace_period_seconds: grace,
            policy,
            uid: text(&value["preconditions"]["uid"]),
            revision: text(&value["preconditions"]["resourceVersion"]),
            dry_run,
        })
    }

    fn check_preconditions(&self, call: &Call, stored: &Object) -> Result<(), Status> {
        let failed = |what: &str, wanted: &str, found: &str| {
            let cause = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            Err(Status::conflict(call.named(&call.name), &cause))
        };
        if let Some(uid) = self.uid.as_deref().filter(|uid| *uid != stored.uid()) {
            return failed("UID", uid, stored.uid());
        }
        let revision = stored.revision().to_string();
        match self.revision.as_deref() {
            Some(wanted) if wanted != revision => failed("ResourceVersion", wanted, &revision),
            _ => Ok(()),
        }
    }

    /// The finalizers that the object has once it is marked.
    fn finalizers(&self, mut finalizers: Vec<String>) -> Vec<String> {
        let Some(policy) = self.policy else {
            return finalizers;
        };
        finalizers.retain(|name| name != ORPHAN && name != FOREGROUND);
        match policy {
            Policy::Orphan => finalizers.push(ORPHAN.to_owned()),
            Policy::Foreground => finalizers.push(FOREGROUND.to_owned()),
            Policy::Background => {}
        }
        finalizers
    }
}

fn invalid(field: &str, detail: &str) -> Status {
    let error = FieldError {
        fault: crate::status::Fault::Invalid,
        field: field.into(),
        value: None,
        detail: detail.into(),
    };
    Status::invalid("meta.k8s.io", "DeleteOptions", "", &[error])
}
