//! `ServiceEntry`: hosts outside of the cluster, or workloads that no Service has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::HostPattern;
use serde_json::Value;

use super::kinds::{SERVICE_ENTRY, WILDCARD, WORKLOAD_ENTRY, workload_key};
use super::{conditions, names, values};
use crate::fields::Fields;
use crate::foreign::{ExternalHost, Object};
use crate::objects::Reader;
use crate::shared::upstream;

/// Endpoints of one entry.
const MOST_ENDPOINTS: usize = 4096;

/// A host of an entry with the labels of its endpoint.
pub(super) struct Labeled {
    host: ExternalHost,
    labels: BTreeMap<String, String>,
}

/// A port of an entry.
pub(super) struct EntryBackend {
    pub(super) port: u16,
    pub(super) http2: bool,
    pub(super) grpc_web: bool,
    pub(super) wants_tls: bool,
    pub(super) hosts: Vec<Labeled>,
}

/// The entry of a host, as seen from a namespace: the most specific one there, then elsewhere the
/// oldest.
pub(super) fn find<'o>(
    reader: &Reader<'o>,
    client: &str,
    host: &HostPattern,
) -> Option<&'o Arc<Object>> {
    if !reader.any_foreign(&SERVICE_ENTRY) {
        return None;
    }
    let HostPattern::Exact(name) = host else {
        return None;
    };
    let exact = reader.foreign_by_key(&SERVICE_ENTRY, name);
    let wild = reader.foreign_by_key(&SERVICE_ENTRY, WILDCARD);
    let mut found: Vec<_> = exact
        .chain(wild)
        .filter(|object| names::is_exported(object.spec(), &object.name.namespace, client))
        .filter_map(|object| Some((rank(object, host)?, object)))
        .collect();
    found.sort_by_key(|(rank, object)| {
        (
            *rank,
            *object.name.namespace != *client,
            object.created,
            &object.name,
        )
    });
    found.first().map(|(_, object)| *object)
}

fn rank(object: &Object, host: &HostPattern) -> Option<(u8, std::cmp::Reverse<usize>)> {
    let hosts = object.spec()["hosts"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str);
    let patterns =
        hosts.filter_map(|text| names::pattern(&names::fqdn(text, &object.name.namespace)));
    patterns
        .filter(|pattern| names::covers(pattern, host))
        .map(|pattern| names::rank(&pattern))
        .min()
}

/// What a port of an entry is: the one that is wanted; else the only one, or the one with the number
/// of a port that requests come in at.
///
/// # Errors
/// In words for the user.
pub(super) fn backend(
    reader: &Reader<'_>,
    entry: &Object,
    host: &str,
    (wanted, listeners): (Option<u16>, &[u16]),
) -> Result<EntryBackend, String> {
    let spec = entry.spec();
    let ports = spec["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let number = |port: &Value| {
        port["number"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
    };
    let port = match (wanted, ports) {
        (Some(wanted), all) => all.iter().find(|port| number(port) == Some(wanted)),
        (None, [only]) => Some(only),
        (None, all) => {
            let of = |listener: &u16| all.iter().find(|port| number(port) == Some(*listener));
            listeners.iter().find_map(of)
        }
    };
    let name = &entry.name;
    let port = port.ok_or_else(|| match wanted {
        Some(wanted) => format!("ServiceEntry {name} has no port {wanted}"),
        None => format!("ServiceEntry {name} has several ports or none; write port.number"),
    })?;
    let own =
        number(port).ok_or_else(|| format!("ServiceEntry {name} has a port without number"))?;
    let target = port["targetPort"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let protocol = port["protocol"]
        .as_str()
        .unwrap_or_default()
        .to_ascii_uppercase();
    let port_name = port["name"].as_str().unwrap_or_default();
    let hosts = endpoints(reader, entry, host, (port_name, target.unwrap_or(own)))?;
    Ok(EntryBackend {
        port: own,
        grpc_web: protocol == "GRPC-WEB",
        http2: ["HTTP2", "GRPC", "GRPC-WEB"].contains(&protocol.as_str()),
        wants_tls: ["HTTPS", "TLS"].contains(&protocol.as_str()),
        hosts,
    })
}

fn endpoints(
    reader: &Reader<'_>,
    entry: &Object,
    host: &str,
    port: (&str, u16),
) -> Result<Vec<Labeled>, String> {
    let spec = entry.spec();
    let resolution = spec["resolution"].as_str().unwrap_or("NONE");
    let written = spec["endpoints"].as_array().into_iter().flatten();
    let mut found: Vec<_> = written.filter_map(|value| endpoint(value, port)).collect();
    found.extend(selected(reader, entry, port));
    found.truncate(MOST_ENDPOINTS);
    let is_host = found.is_empty() && resolution != "STATIC";
    if is_host {
        // The host itself is where it is: by its addresses, or else by its name.
        let addresses = spec["addresses"].as_array().into_iter().flatten();
        let addresses = addresses
            .filter_map(Value::as_str)
            .filter(|text| !text.contains('/'));
        let addresses: Vec<_> = addresses.filter(|_| resolution == "NONE").collect();
        let names = if addresses.is_empty() {
            vec![host]
        } else {
            addresses
        };
        found.extend(names.into_iter().map(|name| plain(name, port.1)));
    }
    if found.is_empty() {
        return Err(format!("ServiceEntry {} has no endpoints", entry.name));
    }
    Ok(found)
}

fn plain(host: &str, port: u16) -> Labeled {
    Labeled {
        host: ExternalHost {
            host: host.into(),
            port,
            weight: 1,
            locality: None,
        },
        labels: BTreeMap::new(),
    }
}

/// An endpoint, or the workload of a WorkloadEntry, which is written the same way.
fn endpoint(value: &Value, (port_name, port): (&str, u16)) -> Option<Labeled> {
    let address = value["address"].as_str().filter(|text| !text.is_empty())?;
    if address.starts_with("unix:") {
        return None;
    }
    let own = value["ports"][port_name].as_u64();
    let own = own.and_then(|port| u16::try_from(port).ok());
    let weight = value["weight"].as_u64().unwrap_or(1).max(1);
    let labels = values::pairs(&value["labels"]).into_iter();
    Some(Labeled {
        host: ExternalHost {
            host: address.into(),
            port: own.unwrap_or(port),
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            locality: value["locality"].as_str().map(Arc::from),
        },
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    })
}

/// The WorkloadEntries that the entry selects.
fn selected(reader: &Reader<'_>, entry: &Object, port: (&str, u16)) -> Vec<Labeled> {
    let labels = values::pairs(&entry.spec()["workloadSelector"]["labels"]);
    let Some((key, value)) = labels.first() else {
        return Vec::new();
    };
    let key = workload_key(&entry.name.namespace, key, value);
    let mut workloads: Vec<_> = reader.foreign_by_key(&WORKLOAD_ENTRY, &key).collect();
    conditions::oldest_first(&mut workloads);
    let found = workloads
        .iter()
        .filter_map(|workload| endpoint(workload.spec(), port));
    let has_all = |found: &Labeled| {
        labels
            .iter()
            .all(|(key, value)| found.labels.get(*key).is_some_and(|own| own == value))
    };
    found.filter(has_all).collect()
}

/// The hosts that have all labels of a subset.
pub(super) fn with_labels(
    hosts: Vec<Labeled>,
    wanted: &BTreeMap<String, String>,
) -> Vec<ExternalHost> {
    let has = |labels: &BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    };
    let hosts = hosts.into_iter().filter(|host| has(&host.labels));
    hosts.map(|host| host.host).collect()
}

/// Reads a whole entry, for its status.
pub(super) fn judge(object: &Object, spec: &Fields<'_>, reader: &Reader<'_>) {
    let hosts = spec.strings("hosts");
    if hosts.is_empty() {
        spec.refuse("hosts", "HostsMissing", "a ServiceEntry needs hosts");
    }
    let resolution = spec.text("resolution").unwrap_or("NONE");
    if !["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"].contains(&resolution) {
        let message = format!("{resolution} is not supported; use STATIC or DNS");
        spec.refuse("resolution", "FieldNotSupported", message);
    }
    if resolution != "STATIC" && spec.list("endpoints").is_empty() {
        let own = &object.name.namespace;
        let names = hosts.iter().map(|host| names::fqdn(host, own));
        let names: Vec<_> = names.collect();
        let names = names.iter().map(String::as_str);
        upstream::judge_hosts(reader, spec.findings(), &spec.at("hosts"), names);
    }
    if spec.text("location") == Some("MESH_INTERNAL") {
        let message =
            "workloads of the mesh have no certificates here; they are spoken to in plain";
        spec.refuse("location", "MutualTLSNotSupported", message);
    }
    let addresses = spec.strings("addresses");
    if resolution == "NONE" && addresses.iter().any(|address| address.contains('/')) {
        let message = "networks are not supported; name the addresses or use DNS";
        spec.refuse("addresses", "FieldNotSupported", message);
    }
    spec.strings("exportTo");
    spec.unsupported(
        "subjectAltNames",
        "write tls.subjectAltNames into a DestinationRule",
    );
    let mut names = BTreeSet::new();
    for port in spec.objects("ports") {
        if port.number::<u16>("number").is_none() {
            port.refuse("number", "PortMissing", "write the port's number");
        }
        port.number::<u16>("targetPort");
        names.extend(port.text("name"));
        let protocol = port
            .text("protocol")
            .unwrap_or_default()
            .to_ascii_uppercase();
        if ["TCP", "MONGO", "MYSQL", "REDIS", "UDP"].contains(&protocol.as_str()) {
            let message =
                format!("protocol {protocol} is not routed; pods reach the host themselves");
            port.refuse("protocol", "ProtocolNotSupported", message);
        }
    }
    for endpoint in spec.objects("endpoints") {
        judge_workload(&endpoint, reader);
        if let Some(ports) = endpoint.object("ports") {
            ports.pass_over();
            for name in ports.keys().filter(|name| !names.contains(name)) {
                let message = format!("the entry has no port of the name {name:?}");
                ports.refuse(name, "PortMissing", message);
            }
        }
    }
    if let Some(selector) = spec.object("workloadSelector")
        && selector.string_map("labels").is_empty()
    {
        let message = "an empty selector selects nothing here; name labels of WorkloadEntries";
        selector.refuse("labels", "FieldNotSupported", message);
    }
}

/// Reads an endpoint or a WorkloadEntry.
pub(super) fn judge_workload(fields: &Fields<'_>, reader: &Reader<'_>) {
    match fields.text("address") {
        None => fields.refuse(
            "address",
            "AddressMissing",
            "write an address or a host name",
        ),
        Some(address) if address.starts_with("unix:") => {
            fields.refuse(
                "address",
                "FieldNotSupported",
                "sockets of files are not supported",
            );
        }
        Some(address) => {
            upstream::judge_hosts(reader, fields.findings(), &fields.at("address"), [address]);
        }
    }
    if let Some(ports) = fields.object("ports") {
        for name in ports.keys() {
            ports.number::<u16>(name);
        }
    }
    fields.string_map("labels");
    fields.number::<u32>("weight");
    fields.text("locality");
    // There is one network, and nobody asks for identities yet.
    fields.unsupported("network", "there is one network");
    fields.unsupported("serviceAccount", "workloads have no identity here");
}
