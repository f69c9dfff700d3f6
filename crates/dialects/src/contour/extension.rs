//! External authorization: `authorization` of a virtual host, and the ExtensionService that it
//! names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use routing::model::tls::{Trust, UpstreamTls};
use routing::model::{
    AskedBody, AuthorizationProtocol, BackendId, BackendPolicy, Balancer, Crypto,
    ExternalAuthorization, Limits, Protocol,
};

use super::EXTENSION_SERVICE;
use super::balance::Balancing;
use super::certificates::Refusal;
use super::plan::AuthorizationChoice;
use super::policy::{self, Limit};
use super::service::{self, Backends, VERSIONS};
use super::status::{Judgement, Problem, Told, kind};
use super::tls::Validation;
use crate::backend::BackendRef;
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::{Name, Objects, Reader};

/// Envoy's, where neither object says a time.
const TIMEOUT: Duration = Duration::from_millis(200);
/// For those who say that it may take forever.
const ENDLESS: Duration = Duration::from_secs(60 * 60);
const API_VERSION: &str = "projectcontour.io/v1alpha1";

/// `authorization` as it is written.
pub(super) struct Asked {
    field: String,
    version: String,
    /// `None` if no ExtensionService is named.
    name: Option<Name>,
    http: Option<HttpSettings>,
    is_http: bool,
    pub(super) choice: AuthorizationChoice,
    timeout: Result<Limit, String>,
    fail_open: bool,
    body: Option<AskedBody>,
}

struct HttpSettings {
    prefix: Arc<str>,
    request: Result<Vec<Arc<str>>, String>,
    upstream: Result<Vec<Arc<str>>, String>,
}

impl Asked {
    pub(super) fn read(fields: &Fields<'_>, namespace: &Arc<str>) -> Self {
        let reference = fields.object("extensionRef");
        let reference = reference.as_ref();
        let version = reference
            .and_then(|it| it.text("apiVersion"))
            .unwrap_or(API_VERSION);
        let name = reference.and_then(|it| it.text("name"));
        let of = reference
            .and_then(|it| it.text("namespace"))
            .unwrap_or(namespace);
        let kind = fields.text("serviceType").unwrap_or("grpc");
        if !matches!(kind, "grpc" | "http") {
            let text = format!("{kind:?} is neither grpc nor http; grpc is used");
            fields.refuse("serviceType", "ServiceTypeUnknown", text);
        }
        let timeout = policy::limit(fields.str("responseTimeout").unwrap_or_default());
        let is_http = kind == "http";
        if !is_http {
            fields.unsupported("httpSettings", "it counts with serviceType http alone");
        }
        let http = is_http.then(|| fields.object("httpSettings")).flatten();
        let body = fields.object("withRequestBody");
        Self {
            body: body.map(|it| body_settings(&it, is_http)),
            field: fields.path().to_owned(),
            version: version.to_owned(),
            name: name.map(|name| Name::new(of, name)),
            http: http.map(|it| HttpSettings::read(&it)),
            is_http,
            choice: super::route::choice(fields.object("authPolicy").as_ref()),
            timeout,
            fail_open: fields.bool("failOpen").unwrap_or(false),
        }
    }

    pub(super) fn is_named(&self) -> bool {
        self.name.is_some()
    }

    /// Who decides, and how; without the context, which is each route's own.
    pub(super) fn resolve(
        &self,
        backends: &mut Backends<'_, '_>,
    ) -> Told<Option<ExternalAuthorization>> {
        let Some(name) = &self.name else {
            return Ok(None);
        };
        let problem = |reason, text: String| {
            let text = format!("Spec.Virtualhost.Authorization{text}");
            Problem::new(kind::AUTH, reason, &self.field, text)
        };
        if self.version != API_VERSION {
            let version = &self.version;
            let text =
                format!(".extensionRef specifies an unsupported resource version {version:?}");
            return Err(problem("AuthBadResourceVersion", text));
        }
        let Some(object) = backends.reader.foreign(&EXTENSION_SERVICE, name) else {
            let text = format!(".ServiceRef extension service \"{name}\" not found");
            return Err(problem("ExtensionServiceNotFound", text));
        };
        let service = Extension::read(object, backends.reader, &Findings::default());
        let invalid = |text: String| {
            problem(
                "AuthResponseTimeoutInvalid",
                format!(".ResponseTimeout is invalid: {text}"),
            )
        };
        let timeout = match self.timeout.clone().map_err(invalid)? {
            Limit::Default => service.response,
            own => own,
        };
        if self.is_http && !self.choice.context.is_empty() {
            let text = ".AuthPolicy.Context are only applied to grpc service type";
            return Err(problem("AuthContextForHTTP", text.to_owned()));
        }
        let listed = |headers: &Result<Vec<Arc<str>>, String>| {
            let headers = headers.clone();
            headers.map_err(|text| {
                let text = format!(".HTTPServerSettings allowed headers are invalid: {text}");
                problem("AuthBadAllowedHeader", text)
            })
        };
        let (mut request_headers, mut upstream_headers) = (Vec::new(), Vec::new());
        let mut path_prefix = Arc::from("");
        if let Some(http) = &self.http {
            request_headers = listed(&http.request)?;
            upstream_headers = listed(&http.upstream)?;
            path_prefix = Arc::clone(&http.prefix);
        }
        let backend = match service.target {
            Some((reference, spec)) => backends.put(reference, spec),
            // Nobody can be asked: whether requests pass then is for `failOpen`.
            None => BackendId(format!("contour/{name}").into()),
        };
        Ok(Some(ExternalAuthorization {
            backend,
            protocol: if self.is_http {
                AuthorizationProtocol::Http { path_prefix }
            } else {
                AuthorizationProtocol::Grpc
            },
            timeout: timeout.or(TIMEOUT).unwrap_or(ENDLESS),
            fail_open: self.fail_open,
            status_on_error: 403,
            request_headers,
            upstream_headers,
            client_headers: Vec::new(),
            reserved_headers: Vec::new(),
            when: Vec::new(),
            context: Vec::new(),
            body: self.body,
        }))
    }

    /// The context of one route.
    pub(super) fn context(&self, of_route: &AuthorizationChoice) -> Vec<(Arc<str>, Arc<str>)> {
        let mut all: BTreeMap<&String, &String> = self.choice.context.iter().collect();
        all.extend(&of_route.context);
        let pairs = all.into_iter();
        pairs
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect()
    }
}

impl HttpSettings {
    fn read(fields: &Fields<'_>) -> Self {
        Self {
            prefix: fields.str("pathPrefix").unwrap_or_default().into(),
            request: allowed(fields, "allowedAuthorizationHeaders"),
            upstream: allowed(fields, "allowedUpstreamHeaders"),
        }
    }
}

/// `withRequestBody`; the defaults are those of Contour's definition.
fn body_settings(fields: &Fields<'_>, is_http: bool) -> AskedBody {
    let as_bytes = fields.bool("packAsBytes").unwrap_or(false);
    if is_http && as_bytes {
        let text = "over HTTP a body is always sent as it is";
        fields.refuse("packAsBytes", "FieldWithoutEffect", text);
    }
    AskedBody {
        most: fields.number("maxRequestBytes").unwrap_or(1024),
        partial: fields.bool("allowPartialMessage").unwrap_or(false),
        as_bytes,
    }
}

/// Names of headers. Only whole names are served.
fn allowed(fields: &Fields<'_>, key: &str) -> Result<Vec<Arc<str>>, String> {
    let mut out = Vec::new();
    let mut error = None;
    for entry in fields.objects(key) {
        entry.ignore("ignoreCase"); // Names of headers never differ by case.
        let exact = entry.text("exact");
        let others = ["prefix", "suffix", "contains"];
        let count = others
            .iter()
            .filter(|key| entry.text(key).is_some())
            .count();
        match (exact, count) {
            (None, 0) => {
                error = Some(
                    "one of prefix, suffix, exact or contains is required for each allowedHeader",
                );
            }
            (Some(exact), 0) => out.push(exact.to_ascii_lowercase().into()),
            (None, 1) => {
                let text = "only exact names of headers are supported; these are not passed on";
                entry.refuse("exact", "FieldNotSupported", text);
            }
            _ => {
                error = Some(
                    "only one of prefix, suffix, exact, and contains should be set in the allowedHeader",
                );
            }
        }
    }
    error.map_or(Ok(out), |text| Err(text.to_owned()))
}

/// An ExtensionService, resolved.
struct Extension {
    target: Option<(BackendRef, BackendSpec)>,
    response: Limit,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Extension {
    fn read(object: &Object, reader: &Reader<'_>, findings: &Findings) -> Self {
        let root = Fields::new(&object.body, String::new(), findings);
        let mut out = Self {
            target: None,
            response: Limit::Default,
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        let Some(spec) = root.object("spec") else {
            let text = "spec.services names no Service";
            let none = Problem::new(kind::SPEC, "NothingDefined", "spec", text);
            out.errors.push(none);
            return out;
        };
        spec.ignore("protocolVersion"); // There is one version of the protocol that is spoken.
        let protocol = spec.text("protocol").unwrap_or("h2");
        if !matches!(protocol, "h2" | "h2c" | "http/1.1") {
            let text = format!("protocol {protocol:?} is not known; h2 is used");
            spec.refuse("protocol", "ProtocolUnknown", text);
        }
        let policy = out.policy(&spec);
        let validation = spec.object("validation").map(|it| Validation::read(&it));
        if validation.is_some() && matches!(protocol, "h2c" | "http/1.1") {
            let text = format!("upstream TLS validation not supported for {protocol:?} protocol");
            let problem = Problem::new(kind::SPEC, "InconsistentProtocol", "spec.protocol", text);
            out.errors.push(problem);
        }
        let found = out.service(&spec, reader, &object.name.namespace);
        let Some(target) = found else { return out };
        let is_tls = !matches!(protocol, "h2c" | "http/1.1");
        let tls = match (is_tls, &validation) {
            (false, _) => None,
            (true, None) => Some(service::unverified(&target, None)),
            (true, Some(validation)) => {
                match out.trust(validation, reader, &object.name.namespace) {
                    Some(tls) => Some(tls),
                    None => return out,
                }
            }
        };
        let mut reference = target.reference;
        reference.http2 = protocol == "h2c";
        let h2 = protocol != "http/1.1";
        out.target = Some((
            reference,
            BackendSpec {
                policy: Some(Arc::new(policy)),
                protocol: Some(if h2 { Protocol::H2c } else { Protocol::Http1 }),
                tls: tls.map(Arc::new),
                ..BackendSpec::default()
            },
        ));
        out
    }

    /// Times and limits, and how its endpoints are chosen.
    fn policy(&mut self, spec: &Fields<'_>) -> BackendPolicy {
        let times = spec.object("timeoutPolicy");
        let read = |key| times.as_ref().and_then(|times| times.text(key));
        let (response, idle, connection) = (read("response"), read("idle"), read("idleConnection"));
        let mut limit = |text: Option<&str>| {
            policy::limit(text.unwrap_or_default()).unwrap_or_else(|error| {
                let text = format!("spec.timeoutPolicy failed to parse: {error}");
                let reason = "TimeoutPolicyNotValid";
                self.errors
                    .push(Problem::new(kind::SPEC, reason, "spec.timeoutPolicy", text));
                Limit::Default
            })
        };
        let (response, connection) = (limit(response), limit(connection));
        self.response = response;
        if idle.is_some() {
            self.ignored(
                ".Spec.TimeoutPolicy.Idle",
                "idle timeouts are not supported",
            );
        }
        let balancing = spec
            .object("loadBalancerPolicy")
            .map(|it| Balancing::read(&it));
        let mut balancer = balancing.map_or(Balancer::RoundRobin, |it| it.balancer);
        if matches!(balancer, Balancer::RingHash { .. }) {
            let text = "load balancer policies that hash are not supported";
            self.ignored(".Spec.LoadBalancerPolicy", text);
            balancer = Balancer::RoundRobin;
        }
        let limits = spec.object("circuitBreakerPolicy");
        let number = |key| {
            let limits = limits.as_ref()?;
            limits.number::<u32>(key).filter(|number| *number > 0)
        };
        BackendPolicy {
            balancer,
            limits: Limits {
                connections: Some(number("maxConnections").unwrap_or(1024)),
                pending: Some(number("maxPendingRequests").unwrap_or(1024)),
                requests: Some(number("maxRequests").unwrap_or(1024)),
                retries: Some(number("maxRetries").unwrap_or(3)),
                connections_per_endpoint: number("perHostMaxConnections"),
                retry_budget: None,
            },
            connect_timeout: Some(Duration::from_secs(2)),
            idle_timeout: connection.or(Duration::from_secs(60 * 60)),
            ..BackendPolicy::default()
        }
    }

    fn ignored(&mut self, field: &str, why: &str) {
        let text = format!("ignoring field {field:?}; {why} for ExtensionClusters");
        let problem = Problem::new(kind::SPEC, "IgnoredField", "spec", text);
        self.warnings.push(problem);
    }

    /// The first of its services that is there.
    fn service<'o>(
        &mut self,
        spec: &Fields<'_>,
        reader: &Reader<'o>,
        namespace: &str,
    ) -> Option<service::Target<'o>> {
        let mut first = None;
        let services = spec.objects("services");
        let is_shared = services.len() > 1;
        for entry in services {
            let name = Name::new(namespace, entry.str("name").unwrap_or_default());
            if is_shared {
                entry.unsupported("weight", "the first service that is there is asked alone");
            } else {
                entry.ignore("weight");
            }
            match service::find(reader, &name, entry.number("port").unwrap_or(0)) {
                Ok(target) if first.is_none() => first = Some(target),
                Ok(_) => {
                    let text = "one service is asked, the first that is there; others get nothing";
                    entry.refuse("name", "OneServiceOnly", text);
                }
                Err(error) => {
                    let text = format!("unresolved service \"{name}\": {error}");
                    let reason = "ServiceUnresolvedReference";
                    let problem = Problem::new(kind::SERVICE, reason, entry.path(), text);
                    self.errors.push(problem);
                }
            }
        }
        first
    }

    fn trust(
        &mut self,
        validation: &Validation,
        reader: &Reader<'_>,
        namespace: &str,
    ) -> Option<UpstreamTls> {
        let (kind, reason, text) = match validation.resolve(reader, namespace) {
            Ok((bundle, names)) => {
                return Some(UpstreamTls {
                    server_name: names.first().cloned()?,
                    accepted_names: names,
                    trust: Trust::Bundle(bundle),
                    client: None,
                    versions: VERSIONS,
                    crypto: Crypto::ANY,
                });
            }
            Err(Refusal::NotDelegated) => {
                let secret = validation.secret();
                let text = format!(
                    "service.UpstreamValidation.CACertificate Secret {secret:?} is not configured for certificate delegation"
                );
                (kind::TLS, "CACertificateNotDelegated", text)
            }
            Err(Refusal::Invalid(why)) => {
                let text = format!("TLS upstream validation policy error: {why}");
                (kind::SPEC, "TLSUpstreamValidation", text)
            }
        };
        self.errors
            .push(Problem::new(kind, reason, "spec.validation", text));
        None
    }
}

/// Whether there is such an ExtensionService.
pub(super) fn is_there(reader: &Reader<'_>, name: &Name) -> bool {
    reader.foreign(&EXTENSION_SERVICE, name).is_some()
}

/// Where an ExtensionService is asked, and how long for; `None` if nobody is there to be asked.
pub(super) fn asked(
    name: &Name,
    usual: Duration,
    backends: &mut Backends<'_, '_>,
) -> Option<(BackendId, Duration)> {
    let object = backends.reader.foreign(&EXTENSION_SERVICE, name)?;
    let service = Extension::read(object, backends.reader, &Findings::default());
    let (reference, spec) = service.target?;
    let timeout = service.response.or(usual).unwrap_or(ENDLESS);
    Some((backends.put(reference, spec), timeout))
}

/// The status of an ExtensionService.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let extension = Extension::read(object, &reader, &findings);
    let mut judgement = Judgement::default();
    extension
        .errors
        .into_iter()
        .for_each(|one| judgement.error(one));
    extension
        .warnings
        .into_iter()
        .for_each(|one| judgement.warn(one));
    judgement.absorb(&findings);
    Translation {
        diagnostics: judgement.diagnostics(),
        status: Some(judgement.conditions("ExtensionService", object.generation)),
        reads: reader.into_read(),
        ..Translation::default()
    }
}
