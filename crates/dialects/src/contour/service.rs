//! `services` of a route: which backend each means, how it is spoken to, and what its share is.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::tls::{TlsVersion, TlsVersions, Trust, UpstreamTls};
use routing::model::{
    Arm, BackendId, CookieEdit, Crypto, FilterSet, HealthCheck, Protocol, SlowStart,
};

use super::DIALECT;
use super::balance::{self, Balancing};
use super::certificates::Refusal;
use super::policy::Times;
use super::status::{Problem, Told, kind};
use super::tls::Validation;
use super::{cookie, endpoint, header};
use crate::backend::{self, BackendRef, TargetKind, Unresolved};
use crate::fields::Fields;
use crate::foreign::BackendSpec;
use crate::objects::{Name, Reader};
use crate::shared::variant;

pub(super) const VERSIONS: TlsVersions = TlsVersions {
    min: TlsVersion::V1_2,
    max: TlsVersion::V1_3,
};

/// A service as it is written.
pub(super) struct Service {
    pub(super) field: String,
    pub(super) name: Name,
    pub(super) port: i64,
    health_port: Option<u16>,
    protocol: Option<String>,
    pub(super) weight: u32,
    pub(super) mirror: bool,
    validation: Option<Validation>,
    request: Result<header::Policy, String>,
    response: Result<header::Policy, String>,
    cookies: Result<Option<Arc<[CookieEdit]>>, String>,
    slow_start: Option<Result<SlowStart, String>>,
}

/// What the route says about all of its services.
pub(super) struct Way<'w> {
    pub(super) balancing: &'w Balancing,
    pub(super) times: &'w Times,
    pub(super) health: Option<&'w HealthCheck>,
    /// The host that the route sends upstream.
    pub(super) host: Option<&'w Arc<str>>,
}

impl Service {
    pub(super) fn read(fields: &Fields<'_>, namespace: &str) -> Self {
        let name = fields.str("name").unwrap_or_default();
        let port = fields.int("port").unwrap_or(0);
        let mirror = fields.bool("mirror").unwrap_or(false);
        let shown = port.to_string();
        let variables = [
            ("CONTOUR_NAMESPACE", namespace),
            ("CONTOUR_SERVICE_NAME", name),
            ("CONTOUR_SERVICE_PORT", shown.as_str()),
        ];
        let policy = |key, may_set_host| {
            let Some(policy) = fields.object(key) else {
                return Ok(header::Policy::default());
            };
            if mirror {
                policy.pass_over();
                let text = "the copy for a mirror is sent as the request is";
                fields.refuse(key, "FieldNotSupported", text);
                return Ok(header::Policy::default());
            }
            header::read(&policy, may_set_host, &variables)
        };
        let cookies = if mirror {
            fields.unsupported("cookieRewritePolicies", "answers of a mirror are dropped");
            Ok(None)
        } else {
            cookie::read(fields)
        };
        let weight = fields.int("weight").unwrap_or(0);
        if weight < 0 {
            fields.refuse("weight", "WeightNegative", "a weight below 0 counts as 0");
        }
        let slow = fields.object("slowStartPolicy");
        Self {
            field: fields.path().to_owned(),
            name: Name::new(namespace, name),
            port,
            health_port: fields.number("healthPort").filter(|port| *port > 0),
            protocol: fields.text("protocol").map(str::to_owned),
            weight: u32::try_from(weight.max(0)).unwrap_or(u32::MAX),
            mirror,
            validation: fields.object("validation").map(|it| Validation::read(&it)),
            request: policy("requestHeadersPolicy", true),
            response: policy("responseHeadersPolicy", false),
            cookies,
            slow_start: slow.map(|fields| balance::slow_start(&fields)),
        }
    }

    pub(super) fn problem(&self, reason: &'static str, text: impl Into<String>) -> Problem {
        Problem::new(kind::SERVICE, reason, &self.field, text)
    }

    /// A share of a route, whose backend was found.
    pub(super) fn arm(
        &self,
        target: Target<'_>,
        way: &Way<'_>,
        backends: &mut Backends<'_, '_>,
    ) -> Told<Arm> {
        let policy = |policy: &Result<header::Policy, String>, reason, what: &str| {
            let policy = policy.clone();
            policy.map_err(|text| self.problem(reason, format!("{text} on {what} headers")))
        };
        let request = policy(&self.request, "RequestHeadersPolicyInvalid", "request")?;
        let response = policy(&self.response, "ResponseHeadersPolicyInvalid", "response")?;
        let cookies = self.cookies.clone().map_err(|text| {
            let text = format!("{text} on service cookie rewrite rules");
            Problem::new(kind::ROUTE, cookie::INVALID, &self.field, text)
        })?;
        let host = request.host.as_ref().or(way.host);
        let spec = self.spec(&target, way, host, backends.reader)?;
        let own = target.protocol;
        let mut reference = target.reference;
        reference.http2 = spec.protocol == Some(Protocol::H2c) && spec.tls.is_none();
        let protocol = spec.protocol.unwrap_or(own);
        let mut arm = Arm::new(self.weight, backends.put(reference, spec));
        // Contour: at every listener, whatever is written.
        arm.grpc_web = protocol == Protocol::H2c;
        arm.request_headers = request.ops;
        arm.filters = FilterSet {
            response_headers: response.ops,
            cookies,
            rewrite_host: request.host,
            request_templates: request.templates,
            response_templates: response.templates,
            ..FilterSet::default()
        }
        .into();
        Ok(arm)
    }

    fn spec(
        &self,
        target: &Target<'_>,
        way: &Way<'_>,
        host: Option<&Arc<str>>,
        reader: &Reader<'_>,
    ) -> Told<BackendSpec> {
        let number = target.reference.port;
        let protocol = match self.protocol.as_deref() {
            Some(protocol @ ("h2" | "h2c" | "tls")) => Some(protocol),
            Some(other) => {
                let text = format!("unsupported protocol: {other}");
                return Err(self.problem("UnsupportedProtocol", text));
            }
            None => target
                .service
                .and_then(|service| balance::protocol(service, number)),
        };
        let tls = match protocol {
            Some("h2" | "tls") => Some(self.tls(target, host, reader)?),
            _ => None,
        };
        let slow_start = match &self.slow_start {
            None => None,
            Some(_) if !way.balancing.can_start_slowly() => {
                let text = "slow start is only supported with RoundRobin or WeightedLeastRequest \
                            load balancer strategy";
                return Err(self.problem("SlowStartInvalid", text));
            }
            Some(Ok(slow)) => Some(slow.clone()),
            Some(Err(text)) => {
                return Err(self.problem("SlowStartInvalid", format!("{text} on slow start")));
            }
        };
        let mut health_check = way.health.cloned();
        if let Some(check) = &mut health_check {
            check.port = self.health_port;
        }
        let mut spec = endpoint::said(target, way.times, reader);
        if way.balancing.is_written || slow_start.is_some() || health_check.is_some() {
            let plain = || Arc::new(endpoint::plain(target, way.times.idle_connection));
            let policy = Arc::make_mut(spec.policy.get_or_insert_with(plain));
            if way.balancing.is_written {
                policy.balancer = way.balancing.balancer.clone();
                policy.hash.clone_from(&way.balancing.hash);
            }
            policy.slow_start = slow_start.or_else(|| policy.slow_start.take());
            policy.health_check = health_check;
        }
        if protocol.is_some() {
            spec.tls = tls.map(Arc::new);
        }
        spec.protocol = match protocol {
            Some("h2" | "h2c") => Some(Protocol::H2c),
            Some(_) => Some(Protocol::Http1),
            None => spec
                .protocol
                .or_else(|| target.wants_tls.then_some(Protocol::Http1)),
        };
        Ok(spec)
    }

    fn tls(
        &self,
        target: &Target<'_>,
        host: Option<&Arc<str>>,
        reader: &Reader<'_>,
    ) -> Told<UpstreamTls> {
        let Some(validation) = &self.validation else {
            return Ok(unverified(target, host));
        };
        let namespace = &self.name.namespace;
        let (bundle, names) = validation.resolve(reader, namespace).map_err(|refusal| {
            match refusal {
                Refusal::NotDelegated => Problem::new(
                    kind::TLS,
                    "CACertificateNotDelegated",
                    &format!("{}.validation", self.field),
                    format!(
                        "service.UpstreamValidation.CACertificate Secret {:?} is not configured for certificate delegation",
                        validation.secret()
                    ),
                ),
                Refusal::Invalid(why) => self.problem(
                    "TLSUpstreamValidation",
                    format!(
                        "Service [{}:{}] TLS upstream validation policy error: {why}",
                        self.name.name, self.port
                    ),
                ),
            }
        })?;
        Ok(UpstreamTls {
            server_name: host
                .or_else(|| names.first())
                .cloned()
                .unwrap_or_else(|| target.dns_name()),
            accepted_names: names,
            trust: Trust::Bundle(bundle),
            client: None,
            versions: VERSIONS,
            crypto: Crypto::ANY,
        })
    }
}

/// TLS to whoever answers.
pub(super) fn unverified(target: &Target<'_>, host: Option<&Arc<str>>) -> UpstreamTls {
    UpstreamTls {
        server_name: host.cloned().unwrap_or_else(|| target.dns_name()),
        accepted_names: Vec::new(),
        trust: Trust::Unverified,
        client: None,
        versions: VERSIONS,
        crypto: Crypto::ANY,
    }
}

/// A Service's port that was found.
pub(super) struct Target<'o> {
    pub(super) reference: BackendRef,
    pub(super) service: Option<&'o core::Service>,
    /// A revision's, or this gateway itself.
    pub(super) is_plain: bool,
    /// The port's name or protocol says TLS, which Contour does not look at.
    wants_tls: bool,
    /// What the port's name or protocol says.
    protocol: Protocol,
}

impl Target<'_> {
    fn dns_name(&self) -> Arc<str> {
        let name = &self.reference.service;
        format!(
            "{}.{}.svc.{}",
            name.name,
            name.namespace,
            api::names::CLUSTER_DOMAIN
        )
        .into()
    }
}

/// Follows a reference to a Service.
pub(super) fn find<'o>(
    reader: &Reader<'o>,
    name: &Name,
    port: u16,
) -> Result<Target<'o>, Unresolved> {
    let found = backend::resolve(reader, name, &IntOrString::Int(i32::from(port)));
    let service = reader.service(name).map(Arc::as_ref);
    match found {
        Ok(target) => Ok(Target {
            is_plain: !matches!(target.kind, TargetKind::Endpoints),
            protocol: target.protocol(),
            reference: target.reference,
            service,
            wants_tls: false,
        }),
        Err(Unresolved::Tls { .. }) => Ok(Target {
            is_plain: false,
            reference: BackendRef {
                service: name.clone(),
                port,
                http2: false,
                stream: None,
                variant: None,
            },
            service,
            protocol: Protocol::Http1,
            wants_tls: true,
        }),
        Err(error) => Err(error),
    }
}

/// The backends of one root.
pub(super) struct Backends<'r, 'o> {
    pub(super) reader: &'r Reader<'o>,
    pub(super) found: BTreeMap<BackendRef, Arc<BackendSpec>>,
}

impl<'r, 'o> Backends<'r, 'o> {
    pub(super) fn new(reader: &'r Reader<'o>) -> Self {
        Self {
            reader,
            found: BTreeMap::new(),
        }
    }

    /// Remembers a backend. Equal specifications of one port are one backend, whoever wrote them.
    pub(super) fn put(&mut self, mut reference: BackendRef, spec: BackendSpec) -> BackendId {
        let mut own = spec.clone();
        if reference.http2 && own.protocol == Some(Protocol::H2c) {
            own.protocol = None; // The reference says it.
        }
        reference.variant = variant::of(DIALECT, &own);
        let id = reference.id();
        self.found.insert(reference, Arc::new(spec));
        id
    }
}
