//! Admission: the hook that defaults and validates what users send.
//!
//! It runs after the schema's defaults and before validation, and may change the object. The
//! same code serves as a webhook on Kubernetes, so it sees what a webhook sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::status::{FieldError, Status};
use crate::store::Store;

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It is replaced.
    Update,
    /// It is removed.
    Delete,
}

/// Who makes the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: Arc<str>,
    /// Groups.
    pub groups: Vec<Arc<str>>,
    /// What tells users of the same name apart; empty if nothing does.
    pub uid: Arc<str>,
    /// What else is known, such as the pod of a token.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// One request under admission.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    /// What is done.
    pub operation: Operation,
    /// API group.
    pub group: &'a str,
    /// API version of `object`.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Name; empty for a create with `generateName` that has no name yet.
    pub name: &'a str,
    /// The new object (the old one for a delete). May be changed.
    pub object: &'a mut Value,
    /// The stored object.
    pub old: Option<&'a Value>,
    /// Who asks.
    pub user: &'a User,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    pub(crate) warnings: &'a mut Vec<String>,
    pub(crate) store: &'a Store,
}

impl AdmissionRequest<'_> {
    /// A stored object, for example a ConfigMap.
    pub fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let resource = crate::crud::resource_id(group, resource);
        let key = crate::crud::object_key(namespace, name);
        self.store.get(&resource, &key).map(|object| object.value())
    }

    /// Tells the client something without refusing the request.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

/// Why admission refuses a request.
#[derive(Clone, Debug)]
pub enum Rejection {
    /// The way Knative's webhooks refuse: 400 with `admission webhook "…" denied the request: …`.
    Denied {
        /// Name of the webhook that would refuse it.
        webhook: String,
        /// Its message.
        message: String,
    },
    /// 422 with one cause per field.
    Invalid(Vec<FieldError>),
    /// Any other status.
    Status(Status),
}

/// Defaults and validates objects. Must not block.
pub trait Admission: Send + Sync {
    /// Accepts the request, perhaps changed, or refuses it.
    ///
    /// # Errors
    /// What the client is told.
    fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Rejection>;
}

/// Accepts everything.
#[derive(Clone, Copy, Debug)]
pub struct AcceptAll;

impl Admission for AcceptAll {
    fn admit(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), Rejection> {
        Ok(())
    }
}
