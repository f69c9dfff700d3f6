//! Backends of rules and mirrors: which Service is meant, whether it may be, and what its share
//! of the requests gets if it cannot be used.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use api::gateway::filter::Filter;
use api::gateway::reason;
use api::gateway::v1::BackendObjectReference;
use api::gateway::v1alpha1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{Action, Arm, BackendId, Instead, Session, Split, Transport};

use super::attach::Applicant;
use super::filters;
use super::http;
use super::known::Reference;
use super::plan::{Finding, RouteKind};
use super::policies;
use super::secure::Owner;
use super::variant::{self, Sender};
use super::xbackend::{self, Spoken};
use crate::backend::{self, BackendRef, Unresolved};
use crate::objects::{Name, Reader};
use crate::overlay;

/// A backend as a rule names it.
pub(super) struct Wanted<'r> {
    pub(super) group: &'r str,
    pub(super) kind: &'r str,
    pub(super) namespace: Option<&'r str>,
    pub(super) name: &'r str,
    pub(super) port: Option<i32>,
    pub(super) weight: i32,
    pub(super) filters: &'r [Filter],
}

/// Finds the backends of one route.
pub(super) struct Resolver<'t, 'o> {
    reader: &'t Reader<'o>,
    kind: RouteKind,
    /// Of the object that names backends, as grants call it.
    from_kind: &'static str,
    namespace: &'t str,
    /// The object's name; empty for listeners.
    name: &'t str,
    backends: BTreeSet<BackendRef>,
    /// Those that policies have asked.
    asked: RefCell<BTreeSet<BackendRef>>,
    findings: Vec<Finding>,
    /// Whose requests are spoken of.
    from: Sender,
    /// Services that policies name.
    governed: BTreeSet<Name>,
    /// Whether no grant is needed: whoever calls a Service can call every other one as well.
    is_inside: bool,
}

impl<'t, 'o> Resolver<'t, 'o> {
    pub(super) fn new(reader: &'t Reader<'o>, applicant: &Applicant<'t>, is_inside: bool) -> Self {
        let namespace = &applicant.name.namespace;
        let whose = (applicant.kind, applicant.kind.name());
        Self {
            name: &applicant.name.name,
            ..Self::of(reader, whose, namespace, is_inside)
        }
    }

    /// For what a listener itself asks for.
    pub(super) fn of_listener(reader: &'t Reader<'o>, owner: Owner<'t>) -> Self {
        Self::of(
            reader,
            (RouteKind::Http, owner.kind),
            owner.namespace,
            false,
        )
    }

    fn of(
        reader: &'t Reader<'o>,
        (kind, from_kind): (RouteKind, &'static str),
        namespace: &'t str,
        is_inside: bool,
    ) -> Self {
        Self {
            reader,
            kind,
            from_kind,
            namespace,
            name: "",
            backends: BTreeSet::new(),
            asked: RefCell::default(),
            findings: Vec::new(),
            from: Sender::default(),
            governed: BTreeSet::new(),
            is_inside,
        }
    }

    /// Says whose requests are spoken of from now on.
    pub(super) fn come_from(&mut self, client: Option<&Name>) {
        self.from.client = client.cloned();
    }

    /// Says how the requests that are split from now on keep to endpoints.
    pub(super) fn keep(&mut self, session: Option<&Session>) {
        self.from.session = session.cloned();
    }

    /// Services that are sent to and that policies name.
    pub(super) fn governed(&self) -> &BTreeSet<Name> {
        &self.governed
    }

    /// Of the object that is translated.
    pub(super) fn namespace(&self) -> &'t str {
        self.namespace
    }

    /// Sets what is counted for the object apart from what is counted for others.
    pub(super) fn owner(&self) -> String {
        format!("{}/{}/{}", self.from_kind, self.namespace, self.name)
    }

    pub(super) fn reader(&self) -> &'t Reader<'o> {
        self.reader
    }

    /// What the condition says, if something is wrong.
    pub(super) fn finding(&self) -> Option<Finding> {
        let first = self.findings.first()?;
        let mut texts: Vec<&str> = Vec::new();
        for finding in &self.findings {
            if !texts.contains(&finding.message.as_str()) {
                texts.push(&finding.message);
            }
        }
        Some(Finding::new(first.reason, texts.join("; ")))
    }

    /// A Service that a policy of its own namespace has asked; `None` if it is not there.
    pub(super) fn asked_by_policy(&self, name: &Name, port: u16, http2: bool) -> Option<BackendId> {
        let port = IntOrString::Int(i32::from(port));
        let target = backend::resolve(self.reader, name, &port).ok()?;
        let reference = target.over_http2(http2).reference;
        let id = reference.id();
        self.asked.borrow_mut().insert(reference);
        Some(id)
    }

    pub(super) fn into_backends(mut self) -> BTreeSet<BackendRef> {
        self.backends.append(self.asked.get_mut());
        self.backends
    }

    /// Where a rule's requests go.
    pub(super) fn split(
        &mut self,
        wanted: &[Wanted<'_>],
        prefix: Option<&Arc<str>>,
        field: &str,
    ) -> Result<Action, Finding> {
        let mut arms = Vec::with_capacity(wanted.len());
        for (at, wanted) in wanted.iter().enumerate() {
            let field = format!("{field}.backendRefs[{at}]");
            let weight = u32::try_from(wanted.weight).unwrap_or(0);
            let found = self.find(wanted, self.kind == RouteKind::Grpc, &field);
            let changes = filters::translate(wanted.filters, prefix, self, &field)?;
            let mut guards = None;
            let mut arm = match found {
                Ok(mut reference) => {
                    if !xbackend::is_ours(&reference) {
                        let own = reference.variant.take();
                        guards = overlay::at_backend(self.reader, &mut reference);
                        reference.variant = variant::join(own, reference.variant);
                    }
                    let mut arm = Arm::new(weight, reference.id());
                    // As Envoy Gateway does: a GRPCRoute is for browsers too.
                    arm.grpc_web = self.kind == RouteKind::Grpc;
                    self.backends.insert(reference);
                    arm
                }
                Err(finding) => {
                    self.findings.extend(finding);
                    Arm {
                        instead: Some(Box::new(Instead::Respond(filters::no_backend()))),
                        ..Arm::new(weight, BackendId("".into()))
                    }
                }
            };
            if changes.to_https || changes.respond.is_some() {
                let text = "the PluginConfig answers requests itself, which a backend's filter \
                            cannot; write it into a filter of the rule";
                return Err(http::unsupported(&field, text));
            }
            if let Some(name) = changes.options.first() {
                let text = format!(
                    "RouteOption {name} is for a whole rule; write it into a filter of the rule"
                );
                return Err(http::unsupported(&field, &text));
            }
            arm.request_headers = changes.request_headers;
            arm.filters = changes.filters;
            if let Some(guards) = guards {
                let own = arm.filters.guards.take();
                let external = own.and_then(|own| own.external.clone());
                arm.filters.guards = Some(guards);
                if external.is_some() {
                    overlay::guards_of(&mut arm.filters).external = external;
                }
            }
            if let Some(redirect) = changes.redirect {
                arm.instead = Some(Box::new(Instead::Redirect(redirect)));
            }
            arms.push(arm);
        }
        Ok(Split::new(arms).map_or_else(filters::failure, Action::Forward))
    }

    /// The backend of a mirror; what is wrong with it is remembered.
    pub(super) fn mirror(
        &mut self,
        reference: &BackendObjectReference,
        field: &str,
    ) -> Option<BackendId> {
        self.asked(reference, self.kind == RouteKind::Grpc, field)
    }

    /// A backend that is sent something beside the request; what is wrong with it is remembered.
    pub(super) fn asked(
        &mut self,
        reference: &BackendObjectReference,
        over_http2: bool,
        field: &str,
    ) -> Option<BackendId> {
        let wanted = Wanted {
            group: &reference.group,
            kind: &reference.kind,
            namespace: reference.namespace.as_deref(),
            name: &reference.name,
            port: reference.port,
            weight: 1,
            filters: &[],
        };
        // Sessions are for those who get the answers.
        let session = self.from.session.take();
        let reference = self.find(&wanted, over_http2, field);
        self.from.session = session;
        let reference = reference
            .map_err(|finding| self.findings.extend(finding))
            .ok()?;
        let id = reference.id();
        self.backends.insert(reference);
        Some(id)
    }

    /// The backend that is meant; an error without a finding if a policy is told about it.
    fn find(
        &mut self,
        wanted: &Wanted<'_>,
        over_http2: bool,
        field: &str,
    ) -> Result<BackendRef, Option<Finding>> {
        if wanted.group == v1alpha1::GROUP && wanted.kind == "XBackend" {
            return self.find_xbackend(wanted, over_http2, field).map_err(Some);
        }
        let name = self.permitted(wanted, field)?;
        let Some(port) = wanted.port else {
            let text = format!("{field}: a Service needs a port");
            return Err(Some(Finding::new(reason::BACKEND_NOT_FOUND, text)));
        };
        if policies::is_governed(self.reader, &name) {
            self.governed.insert(name.clone());
        }
        let port = IntOrString::Int(port);
        let unresolved = |error: Unresolved| {
            let reason = match error {
                Unresolved::Tls { .. } => reason::UNSUPPORTED_PROTOCOL,
                Unresolved::NoService(_)
                | Unresolved::NoPort { .. }
                | Unresolved::NoRevision(_)
                | Unresolved::Alias { .. } => reason::BACKEND_NOT_FOUND,
            };
            Some(Finding::new(reason, format!("{field}: {error}")))
        };
        if let Some(transport) = self.kind.stream() {
            let found = self.find_stream(&name, &port, transport);
            return found.map_err(|error| error.and_then(unresolved));
        }
        let target = backend::resolve_any(self.reader, &name, &port).map_err(unresolved)?;
        let governed = variant::of_port(self.reader, &name, target.port_name(), &self.from);
        let variant = governed.map_err(|variant::Unfit| None::<Finding>)?;
        let target = match &variant {
            Some(variant) if variant.speaks_tls => target,
            _ => backend::resolve(self.reader, &name, &port).map_err(unresolved)?,
        };
        let target = target.over_http2(over_http2);
        let mut reference = target.reference;
        reference.variant = variant.map(|variant| variant.name);
        Ok(reference)
    }

    /// The XBackend that is meant, for those who speak to it as this route does.
    fn find_xbackend(
        &mut self,
        wanted: &Wanted<'_>,
        over_http2: bool,
        field: &str,
    ) -> Result<BackendRef, Finding> {
        let name = Name::new(wanted.namespace.unwrap_or(self.namespace), wanted.name);
        if *name.namespace != *self.namespace {
            let text = format!(
                "{field}: XBackend {name} is for routes of its own namespace, whatever is granted"
            );
            return Err(Finding::new(reason::REF_NOT_PERMITTED, text));
        }
        if wanted.port.is_some() {
            let text = format!("{field}.port: XBackend {name} says its port itself, leave it out");
            return Err(Finding::new(reason::BACKEND_NOT_FOUND, text));
        }
        self.governed.insert(policies::stands_as(&name));
        let spoken = match self.kind.stream() {
            Some(transport) => Spoken::Stream(transport),
            None if over_http2 => Spoken::Http2,
            None => Spoken::Http,
        };
        let found = xbackend::resolve(self.reader, &name, spoken, self.from.session.as_ref());
        found.map_err(|finding| {
            Finding::new(finding.reason, format!("{field}: {}", finding.message))
        })
    }

    /// The same for what is passed on as it is.
    fn find_stream(
        &self,
        name: &Name,
        port: &IntOrString,
        transport: Transport,
    ) -> Result<BackendRef, Option<Unresolved>> {
        let target = backend::resolve_stream(self.reader, name, port, transport)?;
        let mut reference = target.reference;
        if transport == Transport::Tcp {
            let found = backend::resolve_any(self.reader, name, port)?;
            let governed = variant::of_port(self.reader, name, found.port_name(), &self.from);
            let variant = governed.map_err(|variant::Unfit| None::<Unresolved>)?;
            reference.variant = variant.map(|variant| variant.name);
        }
        Ok(reference)
    }

    /// The Service that is meant, if it may be used.
    fn permitted(&self, wanted: &Wanted<'_>, field: &str) -> Result<Name, Finding> {
        if !wanted.group.is_empty() || wanted.kind != "Service" {
            let text = format!(
                "{field}: {}/{} is no kind of backend, Service and XBackend are",
                wanted.group, wanted.kind
            );
            return Err(Finding::new(reason::INVALID_KIND, text));
        }
        let name = Name::new(wanted.namespace.unwrap_or(self.namespace), wanted.name);
        let reference = Reference {
            from_kind: self.from_kind,
            from_namespace: self.namespace,
            to_group: wanted.group,
            to_kind: wanted.kind,
            to: &name,
        };
        if !self.is_inside && !self.reader.is_allowed(reference) {
            let text = format!("{field}: no ReferenceGrant allows the use of Service {name}");
            return Err(Finding::new(reason::REF_NOT_PERMITTED, text));
        }
        Ok(name)
    }
}
