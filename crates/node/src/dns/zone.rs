//! What the names below `cluster.local` stand for. Pure: from a question and a [`View`] to
//! records.
//!
//! | name | records |
//! |---|---|
//! | `SERVICE.NAMESPACE.svc` | its cluster IP; headless: every ready endpoint; ExternalName: an alias |
//! | `HOST.SERVICE.NAMESPACE.svc` | one endpoint of a headless Service, by host name or dashed address |
//! | `_PORT._PROTOCOL.SERVICE.NAMESPACE.svc` | SRV of a named port |
//! | `1-2-3-4.NAMESPACE.pod` | the address, if a pod has it |
//! | reverse names of cluster IPs and headless endpoints | PTR |

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::DOMAIN;
pub(crate) use super::view::View;

/// How long clients may keep an answer, in seconds. Objects change quickly here.
const TTL: u32 = 5;
/// Aliases that are followed within the zone.
const MOST_ALIASES: usize = 8;
/// Records of one answer.
const MOST_RECORDS: usize = 1000;

/// What a question leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Somebody else's name.
    NotOurs,
    /// The name does not exist.
    Unknown,
    /// The name exists; the records of the asked type may be none.
    Found(Vec<Record>),
}

/// Answers one question.
pub(crate) fn lookup(name: &Name, kind: RecordType, view: &impl View) -> Outcome {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    if let Some(ip) = reverse(text) {
        return pointers(name, ip, kind, view);
    }
    let Some(inside) = inside(text) else {
        return Outcome::NotOurs;
    };
    let labels: Vec<&str> = inside
        .split('.')
        .filter(|label| !label.is_empty())
        .collect();
    let Some(targets) = targets(&labels, view) else {
        return Outcome::Unknown;
    };
    Outcome::Found(records(name, kind, targets, view))
}

/// The start of authority, which tells clients how long a name stays unknown.
pub(crate) fn authority() -> Record {
    let name = |prefix: &str| parse(&format!("{prefix}{DOMAIN}"));
    let soa = SOA::new(
        name("ns.dns."),
        name("hostmaster."),
        1,
        7200,
        1800,
        86_400,
        TTL,
    );
    Record::from_rdata(name(""), TTL, RData::SOA(soa))
}

/// The name outside the zone that the last alias leads to.
pub(crate) fn alias_outside(records: &[Record]) -> Option<Name> {
    match &records.last()?.data {
        RData::CNAME(CNAME(target)) => {
            let text = target.to_ascii().to_ascii_lowercase();
            inside(text.trim_end_matches('.'))
                .is_none()
                .then(|| target.clone())
        }
        _ => None,
    }
}

/// What stands before `.cluster.local`; empty for the domain itself.
fn inside(name: &str) -> Option<&str> {
    let rest = name.strip_suffix(DOMAIN)?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_suffix('.')
}

/// What a name stands for, whatever type is asked.
enum Target {
    Address(IpAddr),
    Alias(Name),
    Service { port: u16, host: String },
    Text(&'static str),
}

/// `None` if the name does not exist; empty if it is only on the way to names that do.
fn targets(labels: &[&str], view: &impl View) -> Option<Vec<Target>> {
    match labels {
        [] | ["svc" | "pod"] => Some(Vec::new()),
        ["dns-version"] => Some(vec![Target::Text("1.1.0")]),
        [namespace, "svc" | "pod"] => view.has_namespace(namespace).then(Vec::new),
        [address, namespace, "pod"] => {
            let ip = dashed(address)?;
            view.has_pod(namespace, &ip.to_string())
                .then(|| vec![Target::Address(ip)])
        }
        [service, namespace, "svc"] => {
            let found = view.service(namespace, service)?;
            Some(of_service(&found, &|| view.slices(namespace, service)))
        }
        [port, protocol, service, namespace, "svc"] if protocol.starts_with('_') => {
            let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            let found = view.service(namespace, service)?;
            let slices = view.slices(namespace, service);
            let targets = ports(&found, &slices, (service, namespace), port, protocol);
            (!targets.is_empty()).then_some(targets)
        }
        [host, service, namespace, "svc"] => {
            let found = view.service(namespace, service)?;
            let slices = view.slices(namespace, service);
            let addresses: Vec<_> = endpoints(&found, &slices)
                .filter(|(endpoint, ip)| host_name(endpoint, *ip) == *host)
                .map(|(_, ip)| Target::Address(ip))
                .collect();
            (!addresses.is_empty() && is_headless(&found)).then_some(addresses)
        }
        _ => None,
    }
}

fn of_service(service: &Service, slices: &dyn Fn() -> Vec<Arc<EndpointSlice>>) -> Vec<Target> {
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let target = spec.and_then(|spec| spec.external_name.as_deref());
        let name = target.and_then(|name| Name::from_ascii(name.trim_end_matches('.')).ok());
        return name
            .map(|mut name| {
                name.set_fqdn(true);
                Target::Alias(name)
            })
            .into_iter()
            .collect();
    }
    if is_headless(service) {
        return endpoints(service, &slices())
            .map(|(_, ip)| Target::Address(ip))
            .collect();
    }
    cluster_ips(service).map(Target::Address).collect()
}

pub(super) fn is_headless(service: &Service) -> bool {
    let ip = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref());
    ip == Some("None")
}

pub(super) fn cluster_ips(service: &Service) -> impl Iterator<Item = IpAddr> {
    let spec = service.spec.as_ref();
    let all = spec
        .and_then(|spec| spec.cluster_ips.as_deref())
        .unwrap_or_default();
    let first = spec.and_then(|spec| spec.cluster_ip.as_ref());
    let mut ips: Vec<IpAddr> = all
        .iter()
        .chain(first)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    ips.sort_unstable();
    ips.dedup();
    ips.into_iter()
}

/// The endpoints that may be told of: ready ones, or all if the Service says so.
fn endpoints<'a>(
    service: &Service,
    slices: &'a [Arc<EndpointSlice>],
) -> impl Iterator<Item = (&'a Endpoint, IpAddr)> + use<'a> {
    let spec = service.spec.as_ref();
    let all = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(move |endpoint| {
            let conditions = endpoint.conditions.as_ref();
            all || conditions.and_then(|conditions| conditions.ready) != Some(false)
        })
        .flat_map(|endpoint| {
            let ips = endpoint.addresses.iter();
            ips.filter_map(move |ip| Some((endpoint, ip.parse().ok()?)))
        })
        .take(MOST_RECORDS)
}

/// The name of an endpoint below its Service.
fn host_name(endpoint: &Endpoint, ip: IpAddr) -> String {
    endpoint
        .hostname
        .clone()
        .unwrap_or_else(|| ip.to_string().replace(['.', ':'], "-"))
}

/// Targets of an SRV name: the Service itself, or each endpoint of a headless one.
fn ports(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    (name, namespace): (&str, &str),
    port: &str,
    protocol: &str,
) -> Vec<Target> {
    let base = format!("{name}.{namespace}.svc.{DOMAIN}");
    let is = |found: Option<&str>, transport: Option<&str>| {
        found == Some(port) && transport.unwrap_or("TCP").eq_ignore_ascii_case(protocol)
    };
    if !is_headless(service) {
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        return ports
            .filter(|found| is(found.name.as_deref(), found.protocol.as_deref()))
            .filter_map(|found| {
                Some(Target::Service {
                    port: u16::try_from(found.port).ok()?,
                    host: base.clone(),
                })
            })
            .collect();
    }
    let mut targets = Vec::new();
    for slice in slices {
        let found = slice.ports.iter().flatten();
        let number = found
            .filter(|found| is(found.name.as_deref(), found.protocol.as_deref()))
            .find_map(|found| u16::try_from(found.port?).ok());
        let Some(number) = number else { continue };
        let one = [Arc::clone(slice)];
        targets.extend(
            endpoints(service, &one).map(|(endpoint, ip)| Target::Service {
                port: number,
                host: format!("{}.{base}", host_name(endpoint, ip)),
            }),
        );
    }
    targets
}

/// The records of the asked type; aliases within the zone are followed.
fn records(
    name: &Name,
    kind: RecordType,
    mut targets: Vec<Target>,
    view: &impl View,
) -> Vec<Record> {
    let mut owner = name.clone();
    let mut records = Vec::new();
    for _ in 0..MOST_ALIASES {
        let Some(alias) = targets.iter().find_map(|target| match target {
            Target::Alias(alias) => Some(alias.clone()),
            _ => None,
        }) else {
            break;
        };
        let data = RData::CNAME(CNAME(alias.clone()));
        records.push(Record::from_rdata(owner.clone(), TTL, data));
        if kind == RecordType::CNAME {
            return records;
        }
        let text = alias.to_ascii().to_ascii_lowercase();
        let Some(inside) = inside(text.trim_end_matches('.')) else {
            return records;
        };
        let labels: Vec<&str> = inside
            .split('.')
            .filter(|label| !label.is_empty())
            .collect();
        targets = self::targets(&labels, view).unwrap_or_default();
        owner = alias;
    }
    let wanted = targets.into_iter().filter_map(|target| data(target, kind));
    records.extend(wanted.map(|data| Record::from_rdata(owner.clone(), TTL, data)));
    records
}

fn data(target: Target, kind: RecordType) -> Option<RData> {
    let wants = |wanted| kind == wanted || kind == RecordType::ANY;
    match target {
        Target::Address(IpAddr::V4(ip)) if wants(RecordType::A) => Some(RData::A(A(ip))),
        Target::Address(IpAddr::V6(ip)) if wants(RecordType::AAAA) => Some(RData::AAAA(AAAA(ip))),
        Target::Service { port, host } if wants(RecordType::SRV) => {
            Some(RData::SRV(SRV::new(0, 100, port, parse(&host))))
        }
        Target::Text(text) if wants(RecordType::TXT) => {
            Some(RData::TXT(TXT::new(vec![text.to_owned()])))
        }
        _ => None,
    }
}

/// PTR records of an address, if it is a Service's or a headless endpoint's.
fn pointers(name: &Name, ip: IpAddr, kind: RecordType, view: &impl View) -> Outcome {
    let mut found = Vec::new();
    for service in view.services_at(ip) {
        let (Some(namespace), Some(short)) = (&service.metadata.namespace, &service.metadata.name)
        else {
            continue;
        };
        let base = format!("{short}.{namespace}.svc.{DOMAIN}");
        if is_headless(&service) {
            let slices = view.slices(namespace, short);
            let hosts = endpoints(&service, &slices).filter(|(_, endpoint)| *endpoint == ip);
            found.extend(hosts.map(|(endpoint, ip)| format!("{}.{base}", host_name(endpoint, ip))));
        } else if cluster_ips(&service).any(|known| known == ip) {
            found.push(base);
        }
    }
    if found.is_empty() {
        return Outcome::NotOurs;
    }
    let pointers = found
        .into_iter()
        .filter(|_| matches!(kind, RecordType::PTR | RecordType::ANY));
    Outcome::Found(
        pointers
            .map(|host| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(parse(&host)))))
            .collect(),
    )
}

/// `4.3.2.1.in-addr.arpa` → `1.2.3.4`.
fn reverse(name: &str) -> Option<IpAddr> {
    let labels: Vec<u8> = name
        .strip_suffix(".in-addr.arpa")?
        .split('.')
        .map(|label| label.parse().ok())
        .collect::<Option<_>>()?;
    let [d, c, b, a] = labels.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
}

/// `1-2-3-4` → `1.2.3.4`.
fn dashed(label: &str) -> Option<IpAddr> {
    label
        .replace('-', ".")
        .parse()
        .ok()
        .or_else(|| label.replace('-', ":").parse().ok())
}

/// A full name. One that cannot be a name of the DNS becomes the root, which leads nowhere.
fn parse(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap_or_else(|_| Name::root());
    name.set_fqdn(true);
    name
}
