//! A port of a Kubernetes Service → one backend of the routing model.
//!
//! Backends are translated apart from routes, so that a pod that becomes ready costs one backend
//! and no host table. A Service of a revision gets the revision's limits and may be at zero
//! endpoints; whether other Services may is for the route's dialect to say.

mod endpoint;
mod revision;
mod specified;
mod target;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{Backend, BackendId, Protocol, Timeouts, Transport};

use crate::foreign::BackendSpec;
use crate::objects::{Dependency, Name, Objects, Reader};
use crate::overlay;

pub(crate) use target::{Target, TargetKind, Unresolved, resolve, resolve_any, resolve_stream};

/// The variant of a backend that is spoken to over HTTP/1.1 whatever its port says.
pub(crate) const HTTP1: &str = "http1";

/// A port of a Service, as routes refer to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct BackendRef {
    pub service: Name,
    /// The Service's own port, not the pods'.
    pub port: u16,
    /// Spoken to over HTTP/2 whatever the port says: gRPC has no other way.
    pub http2: bool,
    /// Bytes are passed on as they are, so that it does not matter what the port says; datagrams
    /// go to the port for them, which may have the same number as one for TCP.
    pub stream: Option<Transport>,
    /// Sets apart the same port under another [`BackendSpec`](crate::foreign::BackendSpec): the
    /// objects that decide about it, for example `istio/default/reviews:v1`.
    pub variant: Option<Arc<str>>,
}

impl BackendRef {
    /// `namespace/service:port`, how it is spoken to if the port does not decide, and its variant.
    pub fn id(&self) -> BackendId {
        let suffix = match (self.stream, self.http2) {
            (Some(Transport::Tcp), _) => "/tcp",
            (Some(Transport::Udp), _) => "/udp",
            (None, true) => "/h2c",
            (None, false) => "",
        };
        let mut id = format!("{}:{}{suffix}", self.service, self.port);
        if let Some(variant) = &self.variant {
            id.push('@');
            id.push_str(variant);
        }
        BackendId(id.into())
    }
}

/// What became of a backend reference.
#[derive(Clone, Debug)]
pub struct BackendTranslation {
    /// `None` if something that the reference needs does not exist (any more).
    pub backend: Option<Arc<Backend>>,
    pub reads: BTreeSet<Dependency>,
}

/// Translates one backend that is what its Service says.
pub fn translate(reference: &BackendRef, objects: &Objects) -> BackendTranslation {
    translate_as(reference, None, objects)
}

/// Translates one backend, with what its objects say about it.
pub fn translate_as(
    reference: &BackendRef,
    spec: Option<&BackendSpec>,
    objects: &Objects,
) -> BackendTranslation {
    let reader = Reader::new(objects);
    // Translators of dialects without specs leave it to the objects that made the variant.
    let found = spec
        .is_none()
        .then(|| overlay::spec(&reader, reference))
        .flatten();
    let backend = match spec.or(found.as_ref()) {
        None => plain(&reader, reference),
        Some(spec) => specified::translate(&reader, reference, spec),
    };
    BackendTranslation {
        backend: backend.map(Arc::new),
        reads: reader.into_read(),
    }
}

/// What objects say about a backend whose translator leaves that to its variant.
pub fn said(reference: &BackendRef, objects: &Objects) -> Option<BackendSpec> {
    overlay::spec(&Reader::new(objects), reference)
}

/// What the port says that its pods speak; `None` if they want TLS, so that only who says more may
/// send there, or if there is no such port.
pub fn protocol_of(reference: &BackendRef, objects: &Objects) -> Option<Protocol> {
    let port = IntOrString::Int(i32::from(reference.port));
    let reader = Reader::new(objects);
    let target = resolve(&reader, &reference.service, &port);
    target.ok().map(|target| target.protocol())
}

fn plain(reader: &Reader<'_>, reference: &BackendRef) -> Option<Backend> {
    let port = IntOrString::Int(i32::from(reference.port));
    let target = match reference.stream {
        None => resolve(reader, &reference.service, &port),
        Some(transport) => resolve_stream(reader, &reference.service, &port, transport),
    };
    let target = target.ok()?;
    let mut backend = backend(reader, target.over_http2(reference.http2));
    backend.id = reference.id();
    if reference.variant.as_deref() == Some(HTTP1) {
        backend.protocol = Protocol::Http1;
    }
    Some(backend)
}

fn backend(reader: &Reader<'_>, target: Target<'_>) -> Backend {
    let (endpoints, protocol) = endpoint::of(reader, &target);
    let mut backend = Backend {
        id: target.reference.id(),
        protocol,
        endpoints,
        concurrency: 0,
        activation: None,
        timeouts: Timeouts::default(),
        tls: None,
        policy: None,
    };
    if let TargetKind::Revision(revision) = target.kind {
        revision::apply(&target.reference.service.namespace, revision, &mut backend);
    }
    backend
}
