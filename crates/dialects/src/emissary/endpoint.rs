//! Where a Mapping's requests go, and how the endpoints there are used: Envoy's own values; over
//! those what policies say about the Service; over that the Mapping and its defaults.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{BackendId, Protocol, Timeouts};

use super::mapping::Backends;
use super::member::pick;
use super::service::{self, Written};
use super::{CONSUL_RESOLVER, policy, tls};
use crate::fields::Fields;
use crate::foreign::{BackendSpec, Object};
use crate::objects::Reader;
use crate::overlay;
use crate::shared::upstream::{self, Place};
use crate::shared::variant;

/// Silence on a stream, as in Envoy.
const SILENCE: Duration = Duration::from_secs(300);

/// `None` if requests cannot be sent anywhere; why is reported.
pub(super) fn backend<'v>(
    spec: &Fields<'v>,
    defaults: &Fields<'v>,
    object: &Object,
    (reader, backends): (&Reader<'_>, &mut Backends),
    written: Option<Written>,
) -> Option<BackendId> {
    let namespace = &object.name.namespace;
    let is_grpc = spec.bool("grpc") == Some(true);
    let is_known = resolver(spec, reader);
    let found = written.and_then(|written| {
        let tls = tls::upstream(spec, namespace, &written, reader).ok()?;
        let port = written.port(tls.is_some());
        let place = service::find(reader, namespace, &written.host, port);
        let place = place.map_err(|(effect, reason, text)| {
            let findings = spec.findings();
            findings.say(effect, reason, &spec.at("service"), text);
        });
        Some((place.ok()?, tls))
    });
    let Some((place, tls)) = found.filter(|_| is_known) else {
        // What is written is read in any case, for what is wrong with it.
        settings(spec, defaults, BackendSpec::default(), false);
        return None;
    };
    let revision = service::of_revision(reader, &place).filter(|_| tls.is_none());
    let mut wanted = said(reader, &place, revision.is_none());
    wanted = settings(spec, defaults, wanted, revision.is_none());
    wanted.tls = tls.or(wanted.tls);
    if is_grpc {
        wanted.protocol = Some(Protocol::H2c);
    }
    let (reference, wanted) = match revision {
        Some(target) => {
            let own = Some(target.protocol());
            wanted.protocol = wanted.protocol.filter(|it| Some(*it) != own);
            let mut reference = target.reference;
            reference.variant = variant::of("emissary", &wanted);
            (reference, Arc::new(wanted))
        }
        None => {
            wanted.protocol = wanted.protocol.or(Some(Protocol::Http1));
            upstream::reference("emissary", namespace, place, is_grpc, wanted)
        }
    };
    let id = reference.id();
    backends.insert(reference, wanted);
    Some(id)
}

/// What is known of a place before any Mapping says something. The endpoints of a revision are
/// chosen by who counts its requests, unless users ask.
fn said(reader: &Reader<'_>, place: &Place, is_envoys: bool) -> BackendSpec {
    let mut usual = BackendSpec::default();
    if is_envoys {
        usual.policy = Some(Arc::new(policy::plain()));
        usual.timeouts = Some(Timeouts {
            idle: Some(SILENCE),
            ..Timeouts::default()
        });
    }
    match place {
        Place::Service { name, port } => overlay::endpoints(reader, name, *port, usual),
        Place::Host { .. } => usual,
    }
}

/// What a Mapping and its defaults say, over what is known. Unless there `is_always` a policy,
/// there is one where somebody says something.
fn settings<'v>(
    own: &Fields<'v>,
    defaults: &Fields<'v>,
    mut said: BackendSpec,
    is_always: bool,
) -> BackendSpec {
    let before = said.policy.as_deref().cloned();
    let policy = policy::backend(own, defaults, before.clone().unwrap_or_else(policy::plain));
    if is_always || before.is_some() || policy != policy::plain() {
        said.policy = Some(Arc::new(policy));
    }
    let idle = policy::millis(own, defaults, "idle_timeout_ms", None);
    if pick(own, defaults, "idle_timeout_ms").has("idle_timeout_ms")
        && (said.timeouts.is_some() || idle.is_some())
    {
        said.timeouts = Some(Timeouts {
            idle,
            ..said.timeouts.unwrap_or_default()
        });
    }
    said
}

/// Whether endpoints can be found in the way that is asked for.
fn resolver(spec: &Fields<'_>, reader: &Reader<'_>) -> bool {
    let Some(name) = spec.text("resolver") else {
        return true;
    };
    let mut consul = reader.foreign_all(&CONSUL_RESOLVER);
    if consul.any(|object| &*object.name.name == name) {
        let message = format!(
            "resolver {name} asks Consul, which is not supported: give the backend a Service; \
             requests are answered 503"
        );
        spec.refuse("resolver", "ResolverNotSupported", message);
        return false;
    }
    true
}
