//! Upstream and UpstreamGroup, and what destinations of routes mean.
//!
//! An Upstream that Gloo's discovery would make (`namespace-service-port`) need not be there: its
//! name is understood.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{BackendId, Protocol};

use super::matcher::flag;
use super::status::Judgement;
use super::{DIALECT, UPSTREAM, policy, tls};
use crate::backend::{self, BackendRef, TargetKind, Unresolved};
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, ExternalHost, Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::overlay;
use crate::shared::upstream::judge_hosts;
use crate::shared::variant;

mod destination;

use destination::destinations;
pub(super) use destination::{Destination, Way, group};

/// Kinds of Upstreams that nothing here can speak to.
const OTHERS: [&str; 7] = ["aws", "azure", "consul", "awsEc2", "gcp", "pipe", "ai"];

/// What was found.
struct Found {
    reference: BackendRef,
    spec: BackendSpec,
    /// The name of a host outside.
    host: Option<Arc<str>>,
    /// A revision's, or this gateway itself.
    is_plain: bool,
    /// Its port says that it speaks HTTP/2.
    is_http2: bool,
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
}

impl Backends<'_, '_> {
    fn put(&mut self, mut reference: BackendRef, spec: BackendSpec) -> BackendId {
        reference.variant = variant::of(DIALECT, &spec);
        let id = reference.id();
        self.found.insert(reference, Arc::new(spec));
        id
    }

    /// Whether hashes decide where requests for this backend go.
    pub(super) fn hashes(&self, id: &BackendId) -> bool {
        let found = self.found.iter().find(|(one, _)| one.id() == *id);
        let policy = found.and_then(|(_, spec)| spec.policy.as_ref());
        policy.is_some_and(|policy| !policy.hash.is_empty())
    }
}

/// The backend of `name.namespace:port` in the cluster, which is asked over gRPC.
pub(super) fn at(
    address: &str,
    namespace: &str,
    backends: &mut Backends<'_, '_>,
) -> Result<BackendId, String> {
    let form = || format!("{address:?} is not of the form name.namespace.svc:port, of a Service");
    let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
    let port = port.parse().map_err(|_| form())?;
    let host = host.trim_end_matches('.');
    let name = host.strip_suffix(".cluster.local").unwrap_or(host);
    let name = name.strip_suffix(".svc").unwrap_or(name);
    let service = match name.split_once('.') {
        None => Name::new(namespace, name),
        Some((name, namespace)) if !namespace.contains('.') => Name::new(namespace, name),
        Some(_) => return Err(form()),
    };
    let mut found = self::service(backends.reader, &service, port)?;
    found.spec.protocol = Some(Protocol::H2c);
    found.reference.http2 = true;
    Ok(backends.put(found.reference, found.spec))
}

/// The backend of a server that is asked for authorization.
pub(super) fn asked(
    name: &Name,
    is_grpc: bool,
    backends: &mut Backends<'_, '_>,
) -> Result<BackendId, String> {
    let mut found = upstream(backends.reader, name)?;
    if is_grpc {
        found.spec.protocol = Some(Protocol::H2c);
        found.reference.http2 = true;
    }
    Ok(backends.put(found.reference, found.spec))
}

/// Where an Upstream is asked for something besides requests: scheme, host and port of a URL.
pub(super) fn base(name: &Name, backends: &Backends<'_, '_>) -> Result<String, String> {
    let found = upstream(backends.reader, name)?;
    let scheme = match found.spec.tls {
        Some(_) => "https",
        None => "http",
    };
    let (host, port) = match found.spec.hosts.first() {
        Some(first) => (Arc::clone(&first.host), first.port),
        None => {
            let service = &found.reference.service;
            (dns_name(service), found.reference.port)
        }
    };
    Ok(match host.contains(':') {
        true => format!("{scheme}://[{host}]:{port}"),
        false => format!("{scheme}://{host}:{port}"),
    })
}

/// Why an Upstream leads nowhere, if it does.
pub(super) fn missing(reader: &Reader<'_>, name: &Name) -> Option<String> {
    upstream(reader, name).err()
}

/// A Service's port.
fn service(reader: &Reader<'_>, name: &Name, port: u16) -> Result<Found, String> {
    let found = backend::resolve(reader, name, &IntOrString::Int(i32::from(port)));
    let mut usual = BackendSpec {
        policy: Some(Arc::new(policy::plain())),
        ..BackendSpec::default()
    };
    let mut is_http2 = false;
    let (reference, is_plain) = match found {
        Ok(target) => {
            let is_plain = !matches!(target.kind, TargetKind::Endpoints);
            is_http2 = target.protocol() == Protocol::H2c;
            (target.reference, is_plain)
        }
        Err(Unresolved::Tls { .. }) => {
            // Gloo does not look at the port's name: TLS is for an Upstream to say.
            usual.protocol = Some(Protocol::Http1);
            let reference = BackendRef {
                service: name.clone(),
                port,
                http2: false,
                stream: None,
                variant: None,
            };
            (reference, false)
        }
        Err(error) => return Err(error.to_string()),
    };
    if is_plain {
        // The endpoints of a revision are chosen by who counts its requests.
        usual.policy = None;
    }
    Ok(Found {
        reference,
        spec: overlay::endpoints(reader, name, port, usual),
        host: None,
        is_plain,
        is_http2,
    })
}

/// An Upstream, or the one that discovery would make.
fn upstream(reader: &Reader<'_>, name: &Name) -> Result<Found, String> {
    if let Some(object) = reader.foreign(&UPSTREAM, name) {
        return read(object, reader, &Findings::default());
    }
    let missing = || {
        format!(
            "*v1.Upstream {{ {name} }} not found, and no Service that discovery would call so \
             (NAMESPACE-NAME-PORT)"
        )
    };
    let (rest, port) = name.name.rsplit_once('-').ok_or_else(missing)?;
    let port: u16 = port.parse().map_err(|_| missing())?;
    // Namespaces and Services may have dashes in their names: every split is tried.
    let splits = rest.match_indices('-').take(16);
    for (at, _) in splits {
        let service_name = Name::new(&rest[..at], &rest[at + 1..]);
        if reader.service(&service_name).is_some() {
            return service(reader, &service_name, port);
        }
    }
    Err(missing())
}

fn read(object: &Object, reader: &Reader<'_>, findings: &Findings) -> Result<Found, String> {
    let root = Fields::new(&object.body, String::new(), findings);
    let Some(spec) = root.object("spec") else {
        return Err(format!("Upstream {} is empty", object.name));
    };
    let namespace = &*object.name.namespace;
    spec.ignore("discoveryMetadata");
    spec.unsupported("failover", "priorities of endpoints are not served");
    let h2 = flag(&spec, "useHttp2").unwrap_or(false);
    for key in OTHERS {
        spec.unsupported(key, "write an Upstream of kind kube or static for it");
    }
    let secured = spec
        .object("sslConfig")
        .map(|it| tls::upstream(&it, namespace, reader));
    let found = match (spec.object("kube"), spec.object("static")) {
        (Some(kube), _) => of_kube(&kube, reader, namespace),
        (None, Some(hosts)) => of_hosts(&hosts, &object.name),
        (None, None) => Err(format!(
            "Upstream {} is neither kube nor static",
            object.name
        )),
    };
    let said = found.as_ref().ok();
    let said = said.and_then(|found| found.spec.policy.as_deref().cloned());
    let policy = policy::read(&spec, said.clone().unwrap_or_else(policy::plain));
    let mut found = found?;
    if h2 {
        found.spec.protocol = Some(Protocol::H2c);
    }
    let has_policy = !found.is_plain || said.is_some() || policy != policy::plain();
    found.spec.policy = has_policy.then(|| Arc::new(policy));
    let wants_tls = found.spec.tls.take();
    found.spec.tls = match secured {
        Some(secured) => {
            let name = found
                .host
                .clone()
                .unwrap_or_else(|| dns_name(&found.reference.service));
            Some(Arc::new(secured?.finish(name)))
        }
        None => wants_tls,
    };
    if found.spec.tls.is_some() {
        found.spec.protocol.get_or_insert(Protocol::Http1);
    }
    Ok(found)
}

fn dns_name(service: &Name) -> Arc<str> {
    format!(
        "{}.{}.svc.{}",
        service.name,
        service.namespace,
        api::names::CLUSTER_DOMAIN
    )
    .into()
}

fn of_kube(kube: &Fields<'_>, reader: &Reader<'_>, namespace: &str) -> Result<Found, String> {
    let of = kube.text("serviceNamespace").unwrap_or(namespace);
    let name = Name::new(of, kube.str("serviceName").unwrap_or_default());
    let port = kube.number::<u16>("servicePort").unwrap_or(0);
    let labels = kube.string_map("selector");
    kube.ignore("subsetSpec"); // Subsets need not be announced here.
    kube.unsupported(
        "serviceSpec",
        "functions are not called, requests are passed on",
    );
    let mut found = service(reader, &name, port)?;
    let labels = labels
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    found.spec.labels = labels.collect();
    Ok(found)
}

fn of_hosts(fields: &Fields<'_>, name: &Name) -> Result<Found, String> {
    let mut hosts = Vec::new();
    let mut sni = None;
    for host in fields.objects("hosts") {
        let weight = policy::number(&host, "loadBalancingWeight").unwrap_or(1);
        sni = sni.or_else(|| host.text("sniAddr").map(Arc::from));
        host.unsupported(
            "healthCheckConfig",
            "all hosts are checked at the same path",
        );
        hosts.push(ExternalHost {
            host: host.str("addr").unwrap_or_default().into(),
            port: host.number("port").unwrap_or(0),
            weight,
            locality: None,
        });
    }
    fields.unsupported(
        "serviceSpec",
        "functions are not called, requests are passed on",
    );
    if flag(fields, "autoSniRewrite") == Some(false) {
        let text = "the name of the first host is asked for in any case; write sniAddr for another";
        fields.refuse("autoSniRewrite", "FieldDiffers", text);
    }
    let use_tls = flag(fields, "useTls").unwrap_or_else(|| hosts.iter().any(|it| it.port == 443));
    let first = hosts
        .first()
        .filter(|first| !first.host.is_empty() && first.port > 0);
    let first = first.ok_or_else(|| format!("Upstream {name} has no host with a port"))?;
    let is_name = first.host.parse::<std::net::IpAddr>().is_err();
    let host = is_name.then(|| Arc::clone(&first.host));
    let asked = sni.or_else(|| host.clone());
    let unverified = || {
        Arc::new(tls::unverified(
            asked.unwrap_or_else(|| Arc::clone(&first.host)),
        ))
    };
    Ok(Found {
        reference: BackendRef {
            service: name.clone(),
            port: first.port,
            http2: false,
            stream: None,
            variant: None,
        },
        host,
        is_plain: false,
        is_http2: false,
        spec: BackendSpec {
            tls: use_tls.then(unverified),
            hosts,
            ..BackendSpec::default()
        },
    })
}

/// The status of an Upstream.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut judgement = Judgement::default();
    match read(object, &reader, &findings) {
        Ok(found) => {
            let hosts = found.spec.hosts.iter().map(|host| &*host.host);
            judge_hosts(&reader, &findings, "spec", hosts);
        }
        Err(text) => judgement.warn("UpstreamUnresolved", "spec", text),
    }
    judgement.absorb(&findings);
    told(&judgement, reader)
}

/// The status of a group.
pub(super) fn judge_group(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut judgement = Judgement::default();
    let mut backends = Backends::new(&reader);
    let way = Way {
        hash: &[],
        idle: None,
        auto_host: false,
        grpc_web: false,
    };
    for destination in destinations(object, &findings) {
        if let Err(text) = destination.resolve(&way, &mut backends) {
            judgement.warn("UpstreamUnresolved", &destination.field, text);
        }
    }
    judgement.absorb(&findings);
    told(&judgement, reader)
}

/// A status, and what was read for it.
pub(super) fn told(judgement: &Judgement, reader: Reader<'_>) -> Translation {
    Translation {
        diagnostics: judgement.diagnostics(),
        status: Some(judgement.status("gloo")),
        reads: reader.into_read(),
        ..Translation::default()
    }
}
