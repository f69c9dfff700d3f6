//! Create, read, update, patch and delete, for every kind alike.
//!
//! A [`Call`] is a checked request about one resource; each verb is one file below. All verbs
//! end in [`Api::commit`], so a durable write is on disk before anyone is told that it worked.

mod bind;
mod create;
mod decode;
mod delete;
mod ephemeral;
mod evict;
mod list;
mod measured;
mod metadata;
mod modify;
mod resize;
mod scale;
mod shape;
mod special;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rcgen::{Issuer, KeyPair};
use serde_json::Value;

use crate::admission::{Admission, User};
use crate::auth;
use crate::auth::token::Tokens;
use crate::connect::{Connector, Measure, Page};
use crate::http::options::{FieldValidation, Options};
use crate::inflight::Inflight;
use crate::metrics::Metrics;
use crate::pressure::Pressure;
use crate::status::{Named, Status};
use crate::store::{Durability, Event, Growth, Object, Refused, Shortage, Store};
use crate::types::{ResourceType, TypeTable};
use crate::{policy, quota};

pub(crate) use decode::Body;
pub(crate) use list::{List, Selector, single_name};
pub(crate) use metadata::{finalizers, new_uid, timestamp};
pub(crate) use shape::{judge, known_subresource, table_of};

/// Everything that requests share.
pub(crate) struct Api {
    pub(crate) store: Store,
    types: RwLock<Arc<TypeTable>>,
    pub(crate) admission: Arc<dyn Admission>,
    connectors: RwLock<HashMap<(String, String), Connector>>,
    pages: RwLock<HashMap<String, Page>>,
    pub(crate) tokens: Tokens,
    pub(crate) quota: quota::Lock,
    pub(crate) policies: policy::Cache,
    pub(crate) inflight: Inflight,
    pub(crate) pressure: Pressure,
    pub(crate) metrics: Metrics,
    /// The CA that signs clients' certificates, once the server listens.
    pub(crate) issuer: OnceLock<Issuer<'static, KeyPair>>,
    measures: RwLock<HashMap<String, Measure>>,
}

/// One checked request about one resource.
pub(crate) struct Call {
    pub(crate) kind: Arc<ResourceType>,
    /// Empty for cluster-scoped resources and for requests across namespaces.
    pub(crate) namespace: String,
    /// Empty for collections.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
    pub(crate) options: Options,
    pub(crate) user: User,
    /// Who owns the fields that this request sets.
    pub(crate) manager: String,
    /// Whether the caller goes on without waiting for the disk: controllers and cleanup do,
    /// because they start again from what is stored.
    pub(crate) hurry: bool,
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) content: Content,
    pub(crate) warnings: Vec<String>,
}

/// Content of an answer, not yet encoded.
#[derive(Debug)]
pub(crate) enum Content {
    /// A stored object.
    Object(Arc<Object>),
    /// An object that is not stored in this form.
    Value(Value),
    /// Several objects.
    List(List),
}

impl Reply {
    fn object(code: u16, object: &Arc<Object>) -> Self {
        Self {
            code,
            content: Content::Object(Arc::clone(object)),
            warnings: Vec::new(),
        }
    }

    fn value(code: u16, value: Value) -> Self {
        Self {
            code,
            content: Content::Value(value),
            warnings: Vec::new(),
        }
    }

    fn warning(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

/// The store's name of a resource: `pods`, `services.serving.knative.dev`.
pub(crate) fn resource_id(group: &str, plural: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// The store's key of an object: `namespace/name` or `name`.
pub(crate) fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

impl Call {
    pub(crate) fn resource(&self) -> String {
        resource_id(&self.kind.storage.group, &self.kind.storage.plural)
    }

    pub(crate) fn key(&self) -> String {
        object_key(&self.namespace, &self.name)
    }

    pub(crate) fn api_version(&self) -> String {
        self.kind.api_version()
    }

    fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named {
            group: &self.kind.group,
            resource: &self.kind.plural,
            name,
        }
    }

    fn not_found(&self) -> Status {
        Status::not_found(self.named(&self.name))
    }

    /// A request of the server itself.
    pub(crate) fn internal(kind: &Arc<ResourceType>, namespace: &str, name: &str) -> Self {
        Self {
            kind: Arc::clone(kind),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            options: Options {
                field_validation: FieldValidation::Ignore,
                ..Options::default()
            },
            user: auth::in_process(),
            manager: "suimon".into(),
            hurry: true,
        }
    }

    /// The same request, about one object of the collection.
    fn about(&self, namespace: &str, name: &str) -> Self {
        Self {
            kind: Arc::clone(&self.kind),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: self.subresource.clone(),
            options: self.options.clone(),
            user: self.user.clone(),
            manager: self.manager.clone(),
            hurry: self.hurry,
        }
    }
}

impl Api {
    pub(crate) fn new(
        store: Store,
        types: TypeTable,
        admission: Arc<dyn Admission>,
        tokens: Tokens,
    ) -> Self {
        Self {
            store,
            types: RwLock::new(Arc::new(types)),
            admission,
            connectors: RwLock::default(),
            pages: RwLock::default(),
            tokens,
            quota: quota::Lock::default(),
            policies: policy::Cache::default(),
            inflight: Inflight::standard(),
            pressure: Pressure::default(),
            metrics: Metrics::default(),
            issuer: OnceLock::new(),
            measures: RwLock::default(),
        }
    }

    /// The type table of this moment. A request loads it once.
    pub(crate) fn types(&self) -> Arc<TypeTable> {
        Arc::clone(&self.types.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the type table by what `change` makes of it.
    pub(crate) fn change_types<E>(
        &self,
        change: impl FnOnce(&TypeTable) -> Result<TypeTable, E>,
    ) -> Result<(), E> {
        let mut types = self.types.write().unwrap_or_else(PoisonError::into_inner);
        *types = Arc::new(change(&types)?);
        Ok(())
    }

    pub(crate) fn connect(&self, resource: &str, subresource: &str, connector: Connector) {
        let mut connectors = self
            .connectors
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        connectors.insert((resource.to_owned(), subresource.to_owned()), connector);
    }

    pub(crate) fn connector(&self, call: &Call) -> Option<Connector> {
        let connectors = self
            .connectors
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        connectors
            .get(&(call.resource(), call.subresource.clone()))
            .cloned()
    }

    pub(crate) fn connect_path(&self, path: &str, page: Page) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        pages.insert(path.to_owned(), page);
    }

    pub(crate) fn page(&self, path: &str) -> Option<Page> {
        self.pages
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned()
    }

    /// Reads one object.
    pub(crate) fn get(&self, call: &Call) -> Result<Reply, Status> {
        let object = self
            .store
            .get(&call.resource(), &call.key())
            .ok_or_else(|| call.not_found())?;
        Ok(Reply::object(200, &object))
    }

    /// Answers a question in the body. Nothing is stored.
    pub(crate) fn ask(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        let mut warnings = Vec::new();
        let mut value = decode::object(call, body, &mut warnings)?;
        decode::check_namespace(call, &mut value)?;
        if call.namespace.is_empty() && call.kind.namespaced {
            return Err(Status::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        value["status"] = auth::answer(&self.tokens, &self.store, call, &value)?;
        Ok(Reply::value(201, value).warning(warnings))
    }

    /// A token of the service account that the call names.
    pub(crate) fn create_token(&self, call: &Call, body: &Body) -> Result<Reply, Status> {
        const DEFINITION: &str = "io.k8s.api.authentication.v1.TokenRequest";
        let (mut question, mut findings) = body.parse(Some(DEFINITION))?;
        findings.extend(shape::prune_definition(DEFINITION, &mut question));
        let mut warnings = Vec::new();
        decode::report(call.options.field_validation, &findings, &mut warnings)?;
        let account = (call.namespace.as_str(), call.name.as_str());
        let now = jiff::Timestamp::now();
        let answer = auth::token::create(&self.tokens, &self.store, account, question, now)?;
        Ok(Reply::value(201, answer).warning(warnings))
    }

    /// Waits until a write is as durable as its class demands.
    async fn commit(
        &self,
        call: &Call,
        event: &Event,
        durability: Durability,
    ) -> Result<(), Status> {
        match durability {
            Durability::Lazy => Ok(()),
            Durability::Durable if call.hurry => Ok(()),
            Durability::Durable => self
                .store
                .committed(event.revision)
                .await
                .map_err(Status::internal),
        }
    }

    /// How far this write may fill the store. `old` is what it changes.
    fn growth(&self, call: &Call, old: Option<&Object>) -> Growth {
        let is_leaving = old.is_some_and(Object::deleting);
        if auth::is_in_process(&call.user) || !call.subresource.is_empty() || is_leaving {
            Growth::Reserve
        } else {
            Growth::Bounded
        }
    }

    /// Why the store takes no more, and what to do.
    fn full(&self, call: &Call, shortage: &Shortage) -> Status {
        let message = format!(
            "{} \"{}\" is not stored: objects take {} of {} bytes that they may take; \
             delete what is not needed, or {}",
            call.named(&call.name).qualified(),
            call.name,
            shortage.held,
            shortage.most,
            self.pressure.objects_setting(),
        );
        if shortage.passes {
            return Status::too_many_requests(format!(
                "{message}; much of it is being compressed, so that a moment may help"
            ));
        }
        Status::insufficient_storage(message)
    }

    fn refused(&self, call: &Call, refused: Refused) -> Status {
        let what = call.named(&call.name);
        match refused {
            Refused::Exists => Status::already_exists(what),
            Refused::Missing => Status::not_found(what),
            Refused::Conflict => Status::modified(what),
            Refused::NamespaceMissing => Status::not_found(Named {
                group: "",
                resource: "namespaces",
                name: &call.namespace,
            }),
            Refused::NamespaceTerminating => {
                let why = format!(
                    "unable to create new content in namespace {} because it is being terminated",
                    call.namespace
                );
                let mut status = Status::forbidden(what, &why);
                if let Some(details) = &mut status.details {
                    details.causes.push(crate::status::Cause {
                        reason: "NamespaceTerminating".into(),
                        message: format!("namespace {} is being terminated", call.namespace),
                        field: "metadata.namespace".into(),
                    });
                }
                status
            }
            Refused::NamespaceNotEmpty => {
                Status::conflict(what, "objects are left in the namespace")
            }
            Refused::Full(shortage) => self.full(call, &shortage),
            Refused::Disk(why) => {
                Status::unavailable(format!("the store does not accept writes: {why}"))
            }
        }
    }
}
