//! The AuthService: asked about every request of every Mapping that does not bypass it.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    AskedBody, AuthorizationProtocol, BackendPolicy, Balancer, ExternalAuthorization, Protocol,
};

use super::mapping::Backends;
use super::service::{self, Written};
use super::{AUTH_SERVICE, instance, sole, tls};
use crate::fields::{self, Fields};
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::headers;
use crate::shared::upstream::{self, Place};

/// Request headers that are always sent.
const REQUEST: [&str; 8] = [
    "authorization",
    "cookie",
    "from",
    "proxy-authorization",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];
/// Headers of the answer that are always taken.
const ANSWER: [&str; 5] = [
    "location",
    "authorization",
    "proxy-authenticate",
    "set-cookie",
    "www-authenticate",
];

/// Who is asked, if anybody is.
pub(super) fn external(
    reader: &Reader<'_>,
    backends: &mut Backends,
) -> Option<ExternalAuthorization> {
    let object = sole::first(&AUTH_SERVICE, reader)?;
    let read = |spec: &Fields<'_>| read(spec, object, reader, backends);
    Some(fields::quietly(object.spec(), read))
}

/// What cannot be reached is asked all the same: its requests fail as `failure_mode_allow` says.
fn read(
    spec: &Fields<'_>,
    object: &Object,
    reader: &Reader<'_>,
    backends: &mut Backends,
) -> ExternalAuthorization {
    let is_grpc = match spec.text("proto").unwrap_or("http") {
        "grpc" => true,
        "http" => false,
        other => {
            let message = format!("proto {other:?} is not http or grpc: it is asked over HTTP");
            spec.refuse("proto", "ProtocolInvalid", message);
            false
        }
    };
    if !spec.has("auth_service") {
        let message = "auth_service is missing: every request fails";
        spec.refuse("auth_service", "ServiceMissing", message);
    }
    let reference = backend(spec, "auth_service", object, reader, is_grpc);
    let id = reference.0.id();
    backends.insert(reference.0, reference.1);
    let names = |key: &str, always: &[&str]| {
        let mut names: Vec<Arc<str>> = always.iter().map(|name| Arc::from(*name)).collect();
        for name in spec.strings(key) {
            match headers::name(name) {
                Ok(name) if !names.contains(&name) => names.push(name),
                Ok(_) => {}
                Err(error) => spec.refuse(key, "HeaderInvalid", error),
            }
        }
        names
    };
    let request_headers = names("allowed_request_headers", &REQUEST);
    let answer = names("allowed_authorization_headers", &ANSWER);
    let context = spec.string_map("add_auth_headers");
    let timeout = spec.number::<u32>("timeout_ms").unwrap_or(5000);
    let prefix = spec.text("path_prefix").unwrap_or_default();
    let body = spec.object("include_body").map(|body| AskedBody {
        most: body.number("max_bytes").unwrap_or(0),
        partial: body.bool("allow_partial").unwrap_or(false),
        as_bytes: false,
    });
    ExternalAuthorization {
        backend: id,
        protocol: if is_grpc {
            AuthorizationProtocol::Grpc
        } else {
            AuthorizationProtocol::Http {
                path_prefix: prefix.into(),
            }
        },
        timeout: Duration::from_millis(timeout.into()),
        fail_open: spec.bool("failure_mode_allow").unwrap_or(false),
        status_on_error: status(spec),
        request_headers,
        upstream_headers: answer.clone(),
        client_headers: answer,
        reserved_headers: Vec::new(),
        when: Vec::new(),
        context: context
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase().into(), value.into()))
            .collect(),
        body,
    }
}

fn status(spec: &Fields<'_>) -> u16 {
    let status = spec.object("status_on_error");
    let code = status.and_then(|status| status.number::<u16>("code"));
    code.filter(|code| (200..600).contains(code)).unwrap_or(403)
}

/// Where the service is that a field names. What cannot be found is a backend without endpoints.
pub(super) fn backend(
    spec: &Fields<'_>,
    key: &str,
    object: &Object,
    reader: &Reader<'_>,
    is_grpc: bool,
) -> (crate::backend::BackendRef, Arc<BackendSpec>) {
    let namespace = &object.name.namespace;
    let mut backend = BackendSpec {
        policy: Some(Arc::new(BackendPolicy {
            balancer: Balancer::RoundRobin,
            ..BackendPolicy::default()
        })),
        protocol: Some(if is_grpc {
            Protocol::H2c
        } else {
            Protocol::Http1
        }),
        ..BackendSpec::default()
    };
    let missing = Place::Service {
        name: Name::new(namespace, "missing"),
        port: 80,
    };
    let written = spec.parse(key, Written::parse);
    let place = written.map_or_else(
        || missing.clone(),
        |written| {
            let Ok(tls) = tls::upstream(spec, namespace, &written, reader) else {
                return missing.clone();
            };
            let port = written.port(tls.is_some());
            backend.tls = tls;
            let found = service::find(reader, namespace, &written.host, port);
            found.unwrap_or_else(|(effect, reason, text)| {
                let field = spec.at(key);
                spec.findings().say(effect, reason, &field, text);
                missing.clone()
            })
        },
    );
    upstream::reference("emissary", namespace, place, is_grpc, backend)
}

/// An AuthService by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        spec.ignore("stats_name");
        sole::version(spec, "protocol_version", "asked as envoy.service.auth.v3");
        let so = "is in force; one service is asked, not several";
        let first = sole::first(&AUTH_SERVICE, reader);
        sole::told(spec, object, first, ("AuthServiceTwice", so));
        read(spec, object, reader, &mut Backends::new());
    })
}
