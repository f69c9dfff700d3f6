//! Creating objects.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Api, Body, Call, Content, Reply, decode, ephemeral, metadata, resize, shape, special};
use crate::admission::Operation;
use crate::status::{FieldError, Status};
use crate::store::{Expect, Guard, Refused, Write};
use crate::{limit_range, policy};

/// A generated name is tried again this often if it is taken.
const NAME_ATTEMPTS: usize = 8;

/// Who says which manager owns the fields of a new object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// The writer owns all that it sent, as after an update.
    Record,
    /// Server-side apply already wrote it into the object.
    Applied,
}

impl Api {
    /// Creates the object in the body.
    pub(crate) async fn create(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let mut warnings = Vec::new();
        let value = decode::object(call, body, &mut warnings)?;
        if !metadata::text(&value, "resourceVersion").is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.create_value(call, value, warnings, Ownership::Record)
            .await
    }

    /// Creates `value`, which is of the call's kind and pruned.
    pub(super) async fn create_value(
        &self,
        call: &Call,
        mut value: Value,
        mut warnings: Vec<String>,
        ownership: Ownership,
    ) -> Result<Reply, Status> {
        decode::check_namespace(call, &mut value)?;
        let given = metadata::text(&value, "name").to_owned();
        if !call.name.is_empty() && given != call.name {
            return Err(name_mismatch(&given, &call.name));
        }
        let prefix = metadata::text(&value, "generateName").to_owned();
        let generated = given.is_empty() && !prefix.is_empty();
        fill_in(call, &mut value, ownership);
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        for attempt in 1..=attempts {
            // Only a generated name is tried again, and objects are large: no copy for the others.
            let mut value = if attempt < attempts {
                value.clone()
            } else {
                value.take()
            };
            if generated {
                value["metadata"]["name"] = json!(metadata::generate_name(&prefix));
            }
            let name = metadata::text(&value, "name").to_owned();
            let call = call.about(&call.namespace, &name);
            match self
                .create_once(&call, value, &mut warnings, ownership)
                .await
            {
                Err(status) if status.reason == "AlreadyExists" && attempt < attempts => {}
                result => return result.map(|reply| reply.warning(warnings)),
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn create_once(
        &self,
        call: &Call,
        mut value: Value,
        warnings: &mut Vec<String>,
        ownership: Ownership,
    ) -> Result<Reply, Status> {
        special::fill_in_named(&call.kind, &mut value);
        self.admit(call, Operation::Create, &mut value, None, warnings)?;
        if ownership == Ownership::Record {
            shape::record(call, &mut value, None);
        }
        let counted = Box::pin(self.hold_quota(call, &value, None)).await?;
        if call.options.dry_run {
            return self.dry_create(call, value);
        }
        let durability = shape::durability(&call.kind, &call.subresource);
        let guard = if call.namespace.is_empty() {
            Guard::None
        } else {
            Guard::NamespaceActive(call.namespace.as_str().into())
        };
        let write = Write {
            resource: &call.resource(),
            key: &call.key(),
            expect: Expect::Absent,
            guard,
            growth: self.growth(call, None),
            value: Some(shape::to_storage(&call.kind, value)),
            durability,
        };
        let event = self
            .store
            .write(write)
            .map_err(|refused| self.refused(call, refused))?;
        drop(counted);
        self.after_write(call, &event);
        self.commit(call, &event, durability).await?;
        match &event.object {
            Some(object) => Ok(Reply::object(201, object)),
            None => Err(Status::internal("a create stored nothing")),
        }
    }

    fn dry_create(&self, call: &Call, value: Value) -> Result<Reply, Status> {
        if self.store.get(&call.resource(), &call.key()).is_some() {
            return Err(self.refused(call, Refused::Exists));
        }
        let namespace = self.store.get("namespaces", &call.namespace);
        match namespace {
            None if !call.namespace.is_empty() => {
                Err(self.refused(call, Refused::NamespaceMissing))
            }
            Some(object) if object.deleting() => {
                Err(self.refused(call, Refused::NamespaceTerminating))
            }
            _ => Ok(Reply {
                code: 201,
                content: Content::Value(value),
                warnings: Vec::new(),
            }),
        }
    }

    /// Defaults, admission and validation of a new or changed object.
    pub(super) fn admit(
        &self,
        call: &Call,
        operation: Operation,
        value: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        crate::auth::escalation::check(&self.store, call, value, old)?;
        shape::default(&call.kind, value);
        if let Some(old) = old {
            resize::admit(&self.store, call, value, old)?;
        }
        if operation == Operation::Create {
            limit_range::admit(&self.store, call, value)?;
            special::complete(&self.types(), &call.kind, value);
        }
        self.ask_admission(call, operation, value, old, warnings)?;
        let mut errors = metadata::check(&call.kind, value, old);
        errors.extend(shape::validate(&call.kind, value, old));
        errors.extend(special::validate(&self.types(), &call.kind, value, old));
        errors.extend(ephemeral::validate(call, value, old));
        errors.extend(resize::validate(call, value, old));
        shape::judge(&call.kind, value, old, &mut errors, warnings);
        if errors.is_empty() {
            return policy::judge(self, call, operation, (Some(&*value), old), warnings);
        }
        Err(Status::invalid(
            &call.kind.group,
            &call.kind.kind,
            metadata::text(value, "name"),
            &errors,
        ))
    }

    /// Runs the admission hook alone.
    pub(super) fn ask_admission(
        &self,
        call: &Call,
        operation: Operation,
        value: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        use crate::admission::{AdmissionRequest, Rejection};
        let name = metadata::text(value, "name").to_owned();
        let mut request = AdmissionRequest {
            operation,
            group: &call.kind.group,
            version: &call.kind.version,
            kind: &call.kind.kind,
            resource: &call.kind.plural,
            subresource: &call.subresource,
            namespace: &call.namespace,
            name: &name,
            object: value,
            old,
            user: &call.user,
            dry_run: call.options.dry_run,
            warnings,
            store: &self.store,
        };
        self.admission
            .admit(&mut request)
            .map_err(|rejection| match rejection {
                Rejection::Denied { webhook, message } => Status::bad_request(format!(
                    "admission webhook \"{webhook}\" denied the request: {message}"
                )),
                Rejection::Invalid(errors) => {
                    Status::invalid(&call.kind.group, &call.kind.kind, &name, &errors)
                }
                Rejection::Status(status) => status,
            })
    }
}

/// What the server sets on a new object.
fn fill_in(call: &Call, value: &mut Value, ownership: Ownership) {
    let fields = metadata::of(value);
    for field in metadata::SYSTEM
        .iter()
        .filter(|field| **field != "generateName")
    {
        fields.remove(*field);
    }
    if ownership == Ownership::Record {
        fields.remove("managedFields");
    }
    fields.insert("uid".into(), json!(metadata::new_uid()));
    fields.insert(
        "creationTimestamp".into(),
        json!(metadata::timestamp(Timestamp::now())),
    );
    if shape::has_generation(&call.kind) {
        fields.insert("generation".into(), json!(1));
    }
    if shape::has_status(&call.kind)
        && let Some(object) = value.as_object_mut()
    {
        object.remove("status");
    }
    special::fill_in(&call.kind, &call.user, value);
}

/// 400 of Kubernetes for a body that names another object than the URL.
pub(super) fn name_mismatch(found: &str, wanted: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({found}) does not match the name on the URL ({wanted})"
    ))
}

/// 422 of Kubernetes for an update of a custom resource without a resourceVersion.
pub(super) fn revision_required(call: &Call) -> Status {
    let error = FieldError::with_value(
        crate::status::Fault::Invalid,
        "metadata.resourceVersion",
        "0x0",
        "must be specified for an update",
    );
    Status::invalid(&call.kind.group, &call.kind.plural, &call.name, &[error])
}
