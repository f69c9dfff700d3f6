//! `tcpproxy`: TLS by the name that the client asks for, passed on as it is, or ended here and what
//! was inside passed on.

use std::sync::Arc;

use routing::model::{Arm, Split};

use super::balance::Balancing;
use super::endpoint;
use super::host::VirtualHost;
use super::policy::Times;
use super::service::{self, Service, Way};
use super::spec::{self, Spec};
use super::status::{Problem, Told, kind};
use super::tls;
use super::walk::Walk;
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::objects::Name;

/// Connections have none of a request's times.
const TIMES: Times = Times {
    response: None,
    idle: None,
    is_idle_written: false,
    idle_connection: None,
    is_connection_written: false,
};

/// As it is written.
pub(super) struct TcpProxy {
    services: Vec<Service>,
    include: Option<Name>,
    is_hashed: bool,
}

impl TcpProxy {
    pub(super) fn read(fields: &Fields<'_>, namespace: &Arc<str>) -> Self {
        let services = fields.objects("services").into_iter();
        let one = fields.object("include");
        let many = fields.object("includes");
        let balancing = fields
            .object("loadBalancerPolicy")
            .map(|it| Balancing::read(&it));
        fields.unsupported(
            "healthCheckPolicy",
            "passed-through connections go to endpoints that their pods call ready",
        );
        let include = one.as_ref().or(many.as_ref());
        let include = include.map(|fields| spec::reference(fields, namespace));
        if let (Some(_), Some(many)) = (&one, &many) {
            many.pass_over();
        }
        Self {
            services: services.map(|it| Service::read(&it, namespace)).collect(),
            include,
            is_hashed: balancing.is_some_and(|it| !it.hash.is_empty()),
        }
    }
}

fn problem(reason: &'static str, text: impl Into<String>) -> Problem {
    Problem::new(kind::TCP, reason, "spec.tcpproxy", text)
}

/// Where the connections of a root go.
pub(super) fn resolve(
    object: &Object,
    tcp: &TcpProxy,
    host: &VirtualHost,
    walk: &mut Walk<'_, '_>,
) -> Told<Split> {
    let Some(tls) = &host.tls else {
        let text = "Spec.TCPProxy requires that either Spec.TLS.Passthrough or \
                    Spec.TLS.SecretName be set";
        return Err(problem("TLSMustBeConfigured", text));
    };
    follow(object, tcp, tls, walk, &mut vec![object.name.clone()])
}

fn follow(
    object: &Object,
    tcp: &TcpProxy,
    tls: &tls::Spec,
    walk: &mut Walk<'_, '_>,
    way: &mut Vec<Name>,
) -> Told<Split> {
    let Some(name) = &tcp.include else {
        return services(object, tcp, tls, walk);
    };
    if !tcp.services.is_empty() {
        let text = "cannot specify services and include in the same httpproxy";
        return Err(problem("NoServicesAndInclude", text));
    }
    let include = |reason, text: String| {
        Problem::new(kind::TCP_INCLUDE, reason, "spec.tcpproxy.include", text)
    };
    let Some(included) = walk.reader.foreign(object.kind, name) else {
        return Err(include(
            "IncludeNotFound",
            format!("include {name} not found"),
        ));
    };
    if !included.spec()["virtualhost"].is_null() {
        let text = format!("root httpproxy cannot include another root httpproxy ({name})");
        return Err(include("RootIncludesRoot", text));
    }
    if way.contains(name) || way.len() > 32 {
        let shown: Vec<_> = way.iter().chain([name]).map(Name::to_string).collect();
        let text = format!("include creates a cycle: {}", shown.join(" -> "));
        return Err(include("IncludeCreatesCycle", text));
    }
    way.push(name.clone());
    let findings = Findings::default();
    let spec = Spec::read(included, walk.reader, &findings);
    walk.judge(name).absorb(&findings);
    if walk.judge(name).has_misread() {
        return Err(problem("NothingDefined", format!("{name} cannot be read")));
    }
    let split = match &spec.tcp {
        Some(tcp) => follow(included, tcp, tls, walk, way),
        None => Err(problem("NothingDefined", format!("{name} has no tcpproxy"))),
    };
    split.inspect_err(|error| walk.judge(name).error(error.clone()))
}

fn services(
    object: &Object,
    tcp: &TcpProxy,
    tls: &tls::Spec,
    walk: &mut Walk<'_, '_>,
) -> Told<Split> {
    if tcp.services.is_empty() {
        let text = "either services or inclusion must be specified";
        return Err(problem("NothingDefined", text));
    }
    if tcp.is_hashed {
        let text = "ignoring field \"Spec.TCPProxy.LoadBalancerPolicy\"; policies that hash are \
                    not supported for TCPProxies";
        walk.judge(&object.name).warn(problem("IgnoredField", text));
    }
    let mut arms = Vec::new();
    for service in &tcp.services {
        let unresolved = |text: String| {
            let text = format!("Spec.TCPProxy unresolved service reference: {text}");
            problem("ServiceUnresolvedReference", text)
        };
        let port = u16::try_from(service.port).unwrap_or(0);
        let target = service::find(walk.reader, &service.name, port);
        let target = target.map_err(|error| unresolved(error.to_string()))?;
        if !tls.passthrough {
            let way = Way {
                balancing: &Balancing::default(),
                times: &TIMES,
                health: None,
                host: None,
            };
            arms.push(service.arm(target, &way, &mut walk.facts.backends)?);
            continue;
        }
        let mut spec = endpoint::said(&target, &TIMES, walk.reader);
        let plain = || Arc::new(endpoint::plain(&target, None));
        spec.policy.get_or_insert_with(plain);
        // What is passed on is not looked into; this only says that TLS is no hindrance.
        (spec.tls, spec.protocol) = (None, Some(routing::model::Protocol::Http1));
        let backend = walk.facts.backends.put(target.reference, spec);
        arms.push(Arm::new(service.weight, backend));
    }
    if arms.iter().all(|arm| arm.weight == 0) {
        arms.iter_mut().for_each(|arm| arm.weight = 1);
    }
    Split::new(arms).ok_or_else(|| problem("NothingDefined", "no service has a weight"))
}
