//! `action: CUSTOM` of an AuthorizationPolicy: the provider of the mesh configuration is asked
//! about what the rules are about.
//!
//! A provider that cannot be used denies those requests, as in Istio.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{
    AccessRule, AskedBody, AuthorizationProtocol, BackendPolicy, Balancer, ExternalAuthorization,
    HostPattern, Predicate, Protocol,
};

use super::{ROOT_NAMESPACE, mesh, names, service_entry, values};
use crate::backend::BackendRef;
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, ExternalHost};
use crate::objects::Reader;
use crate::shared::upstream::{self, Place};
use crate::shared::{go_duration, headers};

/// Istio's, where a provider says no time.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Alternatives that the rules of one provider come to; past it all requests are asked about.
const MOST: usize = 256;

/// Backends by reference, as translations have them.
pub(crate) type Backends = RefCell<BTreeMap<BackendRef, Arc<BackendSpec>>>;

/// What policies with one provider ask.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Custom {
    pub(crate) provider: Arc<str>,
    /// Requests that are asked about.
    pub(crate) rules: Vec<AccessRule>,
}

/// Who is asked, with the backend put to the others; `None` if the provider cannot be used.
pub(crate) fn external(
    reader: &Reader<'_>,
    custom: &Custom,
    backends: &Backends,
) -> Option<ExternalAuthorization> {
    let findings = Findings::default();
    let (mut external, reference, spec) = read(reader, &custom.provider, &findings)?;
    external.when = alternatives(&custom.rules);
    backends.borrow_mut().insert(reference, spec);
    Some(external)
}

/// For the policy's own status: what is wrong with its provider.
pub(super) fn judge(reader: &Reader<'_>, provider: &str, findings: &Findings) {
    if read(reader, provider, findings).is_none() {
        let message = format!(
            "extension provider {provider:?} of the mesh configuration (ConfigMap \
             {ROOT_NAMESPACE}/istio) is not there or cannot be asked: what the rules are about is \
             denied"
        );
        findings.refuse("ProviderUnknown", "spec.provider.name", message);
    }
}

type Read = (ExternalAuthorization, BackendRef, Arc<BackendSpec>);

fn read(reader: &Reader<'_>, provider: &str, findings: &Findings) -> Option<Read> {
    let written = mesh::provider(reader, provider)?;
    let place = format!("extensionProviders[{provider}]");
    let fields = Fields::new(written, place, findings);
    fields.ignore("name");
    let grpc = fields.object("envoyExtAuthzGrpc");
    let (settings, is_grpc) = match grpc {
        Some(grpc) => (grpc, true),
        None => (fields.object("envoyExtAuthzHttp")?, false),
    };
    let (reference, spec) = backend(reader, &settings, is_grpc)?;
    let body = settings.object("includeRequestBodyInCheck");
    let mut external = ExternalAuthorization {
        backend: reference.id(),
        protocol: AuthorizationProtocol::Grpc,
        timeout: time(&settings),
        fail_open: settings.bool("failOpen").unwrap_or(false),
        status_on_error: status(&settings),
        request_headers: Vec::new(),
        upstream_headers: Vec::new(),
        client_headers: Vec::new(),
        reserved_headers: Vec::new(),
        when: Vec::new(),
        context: Vec::new(),
        body: body.map(|body| AskedBody {
            most: body.number("maxRequestBytes").unwrap_or(0),
            partial: body.bool("allowPartialMessage").unwrap_or(false),
            as_bytes: body.bool("packAsBytes").unwrap_or(false),
        }),
    };
    let remedy = "routes are chosen before the provider is asked";
    if settings.bool("clearRouteCache") == Some(true) {
        settings.refuse("clearRouteCache", "FieldNotSupported", remedy);
    }
    if !is_grpc {
        over_http(&settings, &mut external);
    }
    Some((external, reference, spec))
}

fn over_http(settings: &Fields<'_>, external: &mut ExternalAuthorization) {
    external.protocol = AuthorizationProtocol::Http {
        path_prefix: settings.str("pathPrefix").unwrap_or_default().into(),
    };
    let list = |key: &str| names_of(settings, key);
    // Envoy always sends this one.
    external.request_headers = vec!["authorization".into()];
    let own = list("includeRequestHeadersInCheck");
    let own = own.into_iter().chain(list("includeHeadersInCheck"));
    external.request_headers.extend(own);
    external.upstream_headers = list("headersToUpstreamOnAllow");
    external.client_headers = list("headersToDownstreamOnDeny");
    if !settings.has("headersToDownstreamOnDeny") {
        external.client_headers.push("*".into());
    }
    let remedy = "headers of an allowance do not reach the client: set them in the VirtualService";
    settings.unsupported("headersToDownstreamOnAllow", remedy);
    for (name, value) in settings.string_map("includeAdditionalHeadersInCheck") {
        match headers::settable(name, value) {
            Ok(pair) => external.context.push(pair),
            Err(error) => {
                settings.refuse("includeAdditionalHeadersInCheck", "HeaderInvalid", error);
            }
        }
    }
}

/// Names of headers. Only whole names are served.
fn names_of(settings: &Fields<'_>, key: &str) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    for text in settings.strings(key) {
        match headers::name(text) {
            Ok(name) if !text.contains('*') => names.push(name),
            _ => {
                let message =
                    format!("{text:?}: whole names of headers are passed on, no patterns");
                settings.refuse(key, "HeaderInvalid", message);
            }
        }
    }
    names
}

fn time(settings: &Fields<'_>) -> Duration {
    let time = settings.parse("timeout", go_duration::parse);
    time.filter(|time| !time.is_zero()).unwrap_or(TIMEOUT)
}

fn status(settings: &Fields<'_>) -> u16 {
    let parse = |text: &str| {
        let code = text.parse().ok();
        let code = code.filter(|code| (200..600).contains(code));
        code.ok_or_else(|| format!("{text:?} is no status: 403 is answered"))
    };
    settings.parse("statusOnError", parse).unwrap_or(403)
}

/// `[NAMESPACE/]HOST`: a Service or a host of a ServiceEntry.
fn backend(
    reader: &Reader<'_>,
    settings: &Fields<'_>,
    is_grpc: bool,
) -> Option<(BackendRef, Arc<BackendSpec>)> {
    let written = settings.text("service").unwrap_or_default();
    let port = settings.number::<u16>("port").filter(|port| *port > 0);
    let (namespace, host) = written.split_once('/').unwrap_or(("", written));
    let namespace = if namespace.is_empty() {
        ROOT_NAMESPACE
    } else {
        namespace
    };
    let owner: Arc<str> = namespace.into();
    let Some(port) = port.filter(|_| !host.is_empty()) else {
        settings.refuse("service", "ServiceInvalid", "it needs a service and a port");
        return None;
    };
    let mut spec = BackendSpec {
        policy: Some(Arc::new(BackendPolicy {
            balancer: Balancer::LeastRequest,
            ..BackendPolicy::default()
        })),
        protocol: Some(if is_grpc {
            Protocol::H2c
        } else {
            Protocol::Http1
        }),
        ..BackendSpec::default()
    };
    let name = names::service(host).or_else(|| {
        let short = names::short_service(host)?;
        reader.service(&short).map(|_| short)
    });
    let place = match name {
        Some(name) => {
            let port = IntOrString::Int(i32::from(port));
            match upstream::find(reader, &name, &port) {
                Ok(place) => place,
                Err((effect, reason, text)) => {
                    let findings = settings.findings();
                    findings.say(effect, reason, &settings.at("service"), text);
                    return None;
                }
            }
        }
        None => match hosts(reader, &owner, host, port) {
            Some(hosts) => {
                spec.hosts = hosts;
                let name = crate::objects::Name::new(&owner, host);
                let reference = BackendRef {
                    service: name,
                    port,
                    http2: is_grpc,
                    stream: None,
                    variant: Some(crate::shared::variant::always("istio", &spec)),
                };
                return Some((reference, Arc::new(spec)));
            }
            None => Place::Host {
                host: host.into(),
                port,
            },
        },
    };
    Some(upstream::reference("istio", &owner, place, is_grpc, spec))
}

/// The endpoints of a ServiceEntry for the host.
fn hosts(reader: &Reader<'_>, client: &str, host: &str, port: u16) -> Option<Vec<ExternalHost>> {
    let pattern = HostPattern::Exact(host.into());
    let entry = service_entry::find(reader, client, &pattern)?;
    let found = service_entry::backend(reader, entry, host, (Some(port), &[])).ok()?;
    let all = BTreeMap::new();
    Some(service_entry::with_labels(found.hosts, &all))
}

/// The rules as alternatives of conditions that must all hold; empty is every request.
fn alternatives(rules: &[AccessRule]) -> Vec<Vec<Predicate>> {
    let mut all: Vec<Vec<Predicate>> = Vec::new();
    for rule in rules {
        let mut joined: Vec<Vec<Predicate>> = vec![Vec::new()];
        for group in &rule.all {
            let pairs = joined.iter().flat_map(|head| {
                group.iter().map(move |tail| {
                    let mut both = head.clone();
                    both.extend(tail.iter().cloned());
                    both
                })
            });
            joined = pairs.take(MOST + 1).collect();
        }
        if joined.iter().any(Vec::is_empty) {
            return Vec::new();
        }
        all.extend(joined);
        if all.len() > MOST {
            return Vec::new();
        }
    }
    all
}

/// What providers that cannot be asked come to: nobody passes.
pub(crate) fn denial(custom: &Custom) -> routing::model::Authorization {
    routing::model::Authorization {
        deny: custom.rules.clone(),
        denied: Some(values::plain(403, "RBAC: access denied")),
        ..routing::model::Authorization::default()
    }
}
