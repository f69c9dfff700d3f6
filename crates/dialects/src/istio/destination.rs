//! `destination`: the Service or ServiceEntry that is meant, its subset, and what DestinationRules
//! say about it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{BackendId, Guards, HostPattern, Protocol, Transport};

use super::{custom, destination_rule, names, service_entry};
use crate::backend::{self, BackendRef, Unresolved};
use crate::diagnostic::Effect;
use crate::fields::Fields;
use crate::foreign::BackendSpec;
use crate::objects::{Name, Reader};
use crate::overlay;

const GRPC_WEB: &[u8] = b"grpc-web";

/// Finds the backends of one object.
pub(super) struct Finder<'t, 'o> {
    reader: &'t Reader<'o>,
    /// Where short names are looked up.
    pub(super) namespace: Arc<str>,
    /// Where requests come in: the port of a Service with several, if the destination does not say.
    listeners: Vec<u16>,
    /// Connections are passed on as they are: the client speaks TLS to the backend.
    pub(super) is_passthrough: bool,
    /// The same, and rules about TLS to the backend hold: the client speaks none.
    pub(super) is_stream: bool,
    /// What was found.
    pub(super) backends: RefCell<BTreeMap<BackendRef, Arc<BackendSpec>>>,
}

/// A destination that was found.
pub(super) struct Found {
    reference: BackendRef,
    /// What policies ask of requests for it.
    pub(super) guards: Option<Arc<Guards>>,
    /// Its port says that clients speak gRPC-Web.
    pub(super) grpc_web: bool,
}

impl Found {
    pub(super) fn id(&self) -> BackendId {
        self.reference.id()
    }
}

/// A destination that cannot be used; it was reported.
#[derive(Debug)]
pub(super) struct Missing;

impl<'t, 'o> Finder<'t, 'o> {
    pub(super) fn new(reader: &'t Reader<'o>, namespace: &Arc<str>, listeners: Vec<u16>) -> Self {
        Self {
            reader,
            namespace: Arc::clone(namespace),
            listeners,
            is_passthrough: false,
            is_stream: false,
            backends: RefCell::default(),
        }
    }

    /// The same for names of another namespace. What it finds is its own.
    pub(super) fn in_namespace(&self, namespace: &Arc<str>) -> Self {
        Self::new(self.reader, namespace, self.listeners.clone())
    }

    pub(super) fn reader(&self) -> &'t Reader<'o> {
        self.reader
    }

    /// The backend that a `destination` names.
    pub(super) fn find(&self, fields: &Fields<'_>) -> Result<Found, Missing> {
        let port = fields.object("port").and_then(|port| {
            port.unsupported("name", "write its number");
            port.number::<u16>("number")
        });
        let subset = fields.text("subset");
        let Some(host) = fields.text("host") else {
            fields.refuse("host", "HostMissing", "a destination needs a host");
            return Err(Missing);
        };
        let host = names::fqdn(host, &self.namespace);
        match self.service(&host) {
            Some(service) => self.at_service(fields, &service, port, subset),
            None => self.at_entry(fields, &host, port, subset),
        }
    }

    /// The Service of a host. A short name that no ServiceEntry has may be one too.
    fn service(&self, host: &str) -> Option<Name> {
        names::service(host).or_else(|| {
            let name = names::short_service(host)?;
            self.reader.service(&name).map(|_| name)
        })
    }

    fn at_service(
        &self,
        fields: &Fields<'_>,
        name: &Name,
        port: Option<u16>,
        subset: Option<&str>,
    ) -> Result<Found, Missing> {
        let service = self.reader.service(name);
        let number = port.or_else(|| implied_port(service?, &self.listeners));
        let Some(number) = number else {
            return Err(self.no_port(fields, name, service.is_some()));
        };
        let host = names::of_service(name);
        let hosts = overlay::names(self.reader, name);
        let rules = destination_rule::find(self.reader, &self.namespace, &name.namespace, &hosts);
        let nothing = BackendSpec::default();
        let spec = destination_rule::spec(self.reader, &rules, (&host, number), subset, &nothing);
        let (rule, mut spec) = spec.map_err(|wrong| subset_missing(fields, &wrong))?;
        let variant = overlay::with_policy(self.reader, name, &nothing, (rule, &mut spec));
        let (variant, spec) = self.passed_on(variant, spec);
        let says_how = spec.tls.is_some() || spec.protocol.is_some();
        let port = IntOrString::Int(i32::from(number));
        let target = match (self.is_stream, says_how) {
            (true, _) => backend::resolve_stream(self.reader, name, &port, Transport::Tcp),
            (false, true) => backend::resolve_any(self.reader, name, &port),
            (false, false) => backend::resolve(self.reader, name, &port),
        };
        let target = target.map_err(|error| unresolved(fields, &error))?;
        let service_port = service.and_then(|service| find_port(service, number));
        let grpc_web = service_port.is_some_and(is_grpc_web);
        let http2 = !self.is_stream && (grpc_web || service_port.is_some_and(is_http2));
        let mut reference = target.over_http2(http2).reference;
        reference.variant = variant;
        let guards = overlay::by_service(self.reader, name, number, &mut |custom| {
            custom::external(self.reader, custom, &self.backends)
        });
        self.backends
            .borrow_mut()
            .insert(reference.clone(), Arc::new(spec));
        Ok(Found {
            reference,
            guards,
            grpc_web,
        })
    }

    /// What a rule says of a backend that clients speak TLS to themselves.
    fn passed_on(
        &self,
        variant: Option<Arc<str>>,
        mut spec: BackendSpec,
    ) -> (Option<Arc<str>>, BackendSpec) {
        if !self.is_passthrough {
            return (variant, spec);
        }
        spec.tls = None;
        spec.protocol = Some(Protocol::Http1);
        let rule = variant.as_deref().unwrap_or("istio");
        (Some(format!("{rule}/passthrough").into()), spec)
    }

    fn no_port(&self, fields: &Fields<'_>, name: &Name, exists: bool) -> Missing {
        if exists {
            let message = format!("Service {name} has several ports; write port.number");
            fields.refuse("port", "PortMissing", message);
        } else {
            unresolved(fields, &Unresolved::NoService(name.clone()));
        }
        Missing
    }

    fn at_entry(
        &self,
        fields: &Fields<'_>,
        host: &str,
        port: Option<u16>,
        subset: Option<&str>,
    ) -> Result<Found, Missing> {
        let entry = HostPattern::Exact(host.into());
        let Some(entry) = service_entry::find(self.reader, &self.namespace, &entry) else {
            let message = format!(
                "{host} is neither a Service nor a host of a ServiceEntry; create one of them"
            );
            fields
                .findings()
                .say(Effect::Waiting, "HostUnknown", &fields.at("host"), message);
            return Err(Missing);
        };
        let ports = (port, &*self.listeners);
        let found = service_entry::backend(self.reader, entry, host, ports);
        let found = found.map_err(|why| {
            fields.refuse("host", "ServiceEntryUnusable", why);
            Missing
        })?;
        let hosts = [host.to_owned()];
        let rules =
            destination_rule::find(self.reader, &self.namespace, &entry.name.namespace, &hosts);
        let nothing = BackendSpec::default();
        let spec =
            destination_rule::spec(self.reader, &rules, (host, found.port), subset, &nothing);
        let (variant, spec) = spec.map_err(|wrong| subset_missing(fields, &wrong))?;
        let (variant, mut spec) = self.passed_on(variant, spec);
        let is_http = !self.is_passthrough && !self.is_stream;
        if found.wants_tls && spec.tls.is_none() && is_http {
            let message = format!(
                "port {} of ServiceEntry {} speaks TLS; write a DestinationRule with tls.mode \
                 SIMPLE for {host}, or requests are sent in plain",
                found.port, entry.name
            );
            fields.refuse("host", "TLSMissing", message);
        }
        spec.hosts = service_entry::with_labels(found.hosts, &spec.labels);
        spec.labels = BTreeMap::new();
        let rule = variant
            .as_deref()
            .map_or_else(String::new, |rule| format!("+{rule}"));
        let reference = BackendRef {
            service: Name::new(&entry.name.namespace, host),
            port: found.port,
            http2: found.http2 && !self.is_stream,
            stream: self.is_stream.then_some(Transport::Tcp),
            variant: Some(format!("istio/{}{rule}", entry.name).into()),
        };
        self.backends
            .borrow_mut()
            .insert(reference.clone(), Arc::new(spec));
        let guards = overlay::by_host_of_backend(self.reader, host);
        Ok(Found {
            reference,
            guards,
            grpc_web: found.grpc_web,
        })
    }
}

fn unresolved(fields: &Fields<'_>, error: &Unresolved) -> Missing {
    let effect = if error.may_appear() {
        Effect::Waiting
    } else {
        Effect::Refused
    };
    let key = if error.field() == "servicePort" {
        "port"
    } else {
        "host"
    };
    let remedy = match error {
        Unresolved::Tls { .. } => "; write a DestinationRule with tls.mode SIMPLE",
        _ => "",
    };
    let message = format!("{error}{remedy}");
    fields
        .findings()
        .say(effect, error.reason(), &fields.at(key), message);
    Missing
}

fn subset_missing(fields: &Fields<'_>, why: &str) -> Missing {
    let field = fields.at("subset");
    fields
        .findings()
        .say(Effect::Waiting, "SubsetMissing", &field, why);
    Missing
}

fn ports(service: &Service) -> &[ServicePort] {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default()
}

fn find_port(service: &Service, number: u16) -> Option<&ServicePort> {
    ports(service)
        .iter()
        .find(|port| port.port == i32::from(number))
}

/// The only port, or the first one with the number of a port that requests come in at.
fn implied_port(service: &Service, listeners: &[u16]) -> Option<u16> {
    match ports(service) {
        [only] => u16::try_from(only.port).ok(),
        _ => {
            let mut listeners = listeners.iter().copied();
            listeners.find(|number| find_port(service, *number).is_some())
        }
    }
}

/// Istio: the name of a port begins with its protocol.
fn is_http2(port: &ServicePort) -> bool {
    let named = port.app_protocol.as_deref().or(port.name.as_deref());
    let protocol = named
        .unwrap_or_default()
        .split('-')
        .next()
        .unwrap_or_default();
    ["grpc", "http2", "h2c"].contains(&protocol)
}

/// The one protocol with a dash in its name.
fn is_grpc_web(port: &ServicePort) -> bool {
    let named = port.app_protocol.as_deref().or(port.name.as_deref());
    let named = named.unwrap_or_default().as_bytes();
    named
        .get(..GRPC_WEB.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(GRPC_WEB))
}
