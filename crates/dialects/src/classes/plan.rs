//! The routes of a Knative Ingress as other gateways' objects want them: by host, in order.
//!
//! Hosts with the same rules on the same listeners are one site.

use std::collections::BTreeMap;

use routing::model::tls::TlsAction;
use routing::model::{
    Action, BackendId, HeaderOps, HostPattern, PathMatch, Protocol, Route, TextMatch, Visibility,
};

use crate::backend::{self, BackendRef};
use crate::knative::Translation;
use crate::objects::{Name, Objects, Reader};

/// The whole Ingress.
pub(super) struct Plan {
    pub(super) sites: Vec<Site>,
    /// Fields of rules that are for every host.
    pub(super) without_host: Vec<String>,
}

/// Hosts that are served alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    /// Sorted.
    pub(super) hosts: Vec<String>,
    pub(super) visibility: Visibility,
    /// The Secret of the hosts' certificate.
    pub(super) secret: Option<String>,
    /// Plain HTTP is sent to HTTPS, but for probes.
    pub(super) redirects: bool,
    /// The first that applies wins; none applies to the same requests as one before.
    pub(super) rules: Vec<Rule>,
}

/// One path with its headers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    /// Begins with a slash; `/` is every path.
    pub(super) prefix: String,
    /// Sorted; each once.
    pub(super) headers: Vec<(String, String)>,
    pub(super) set: Vec<(String, String)>,
    pub(super) rewrite_host: Option<String>,
    pub(super) arms: Vec<Arm>,
    /// For probes, which are never redirected.
    pub(super) is_probe: bool,
}

/// One share of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arm {
    pub(super) service: Name,
    pub(super) port: u16,
    /// HTTP/2 without TLS.
    pub(super) http2: bool,
    /// Percent.
    pub(super) weight: u32,
    pub(super) set: Vec<(String, String)>,
}

impl Arm {
    /// `service.namespace.svc.cluster.local`.
    pub(super) fn dns_name(&self) -> String {
        let (service, domain) = (&self.service, api::names::CLUSTER_DOMAIN);
        format!("{}.{}.svc.{domain}", service.name, service.namespace)
    }
}

/// Arranges the routes of a translated Ingress.
pub(super) fn of(translation: &Translation, objects: &Objects) -> Plan {
    let mut plan = Plan {
        sites: Vec::new(),
        without_host: Vec::new(),
    };
    let mut by_host: BTreeMap<(&str, Visibility), Vec<&Route>> = BTreeMap::new();
    for (_, route) in &translation.routes {
        for host in &route.hosts {
            match host {
                HostPattern::Exact(name) => by_host
                    .entry((name, route.visibility))
                    .or_default()
                    .push(route),
                _ => plan.without_host.push(route.origin.field.to_string()),
            }
        }
    }
    plan.without_host.dedup();
    let known: BTreeMap<BackendId, &BackendRef> = translation
        .backends
        .iter()
        .map(|reference| (reference.id(), reference))
        .collect();
    let reader = Reader::new(objects);
    let mut sites: BTreeMap<Site, Vec<String>> = BTreeMap::new();
    for ((host, visibility), mut routes) in by_host {
        // Stable: what is equal stays as it was written.
        routes.sort_by(|a, b| a.sort_key.cmp(&b.sort_key));
        let secret = secret(translation, host);
        let is_secure = |route: &&Route| matches!(route.action, Action::ForwardSecure(_));
        let mut rules: Vec<Rule> = Vec::new();
        for route in &routes {
            let Some(rule) = rule(route, &known, &reader) else {
                continue;
            };
            let same = |other: &Rule| other.prefix == rule.prefix && other.headers == rule.headers;
            if !rules.iter().any(same) {
                rules.push(rule);
            }
        }
        let site = Site {
            hosts: Vec::new(),
            visibility,
            redirects: secret.is_some() && routes.iter().any(is_secure),
            secret,
            rules,
        };
        sites.entry(site).or_default().push(host.to_owned());
    }
    plan.sites = sites
        .into_iter()
        .map(|(site, hosts)| Site { hosts, ..site })
        .collect();
    plan.sites.sort_by(|a, b| a.hosts.cmp(&b.hosts));
    plan
}

fn secret(translation: &Translation, host: &str) -> Option<String> {
    let is_of = |name: &HostPattern| matches!(name, HostPattern::Exact(name) if **name == *host);
    let mut records = translation.tls.iter().map(|(_, record)| record);
    let record = records.find(|record| record.names.iter().any(is_of))?;
    let TlsAction::Terminate(termination) = &record.action else {
        return None;
    };
    let name = &termination.certificates.first()?.name;
    let name = name.rsplit('/').next().unwrap_or(name);
    Some(name.to_owned())
}

/// `None` if it does not send on, which routes of an Ingress do.
fn rule(
    route: &Route,
    known: &BTreeMap<BackendId, &BackendRef>,
    reader: &Reader<'_>,
) -> Option<Rule> {
    let split = match &route.action {
        Action::Forward(split) | Action::ForwardSecure(split) => split,
        Action::Respond(_) | Action::Redirect(_) => return None,
    };
    let matched = route.matches.first();
    let prefix = match matched.and_then(|one| one.path.as_ref()) {
        Some(PathMatch::StringPrefix(prefix)) => prefix.to_string(),
        _ => "/".to_owned(),
    };
    let headers = matched.into_iter().flat_map(|one| &one.headers);
    let headers = headers.filter_map(|header| match &header.value {
        TextMatch::Exact(value) => Some((header.name.to_string(), value.to_string())),
        TextMatch::Regex(_) => None,
    });
    let mut headers: Vec<_> = headers.collect();
    headers.sort();
    headers.dedup();
    let arms = split.arms().iter().filter_map(|arm| {
        let reference = known.get(&arm.backend)?;
        Some(Arm {
            service: reference.service.clone(),
            port: reference.port,
            http2: speaks_http2(reference, reader),
            weight: arm.weight,
            set: pairs(&arm.request_headers),
        })
    });
    let mut arms: Vec<Arm> = arms.collect();
    let set = settled(pairs(&route.request_headers), &mut arms);
    Some(Rule {
        prefix,
        is_probe: headers
            .iter()
            .any(|(name, _)| name == crate::knative::HASH_HEADER),
        headers,
        set,
        rewrite_host: route.rewrite_host.as_deref().map(str::to_owned),
        arms,
    })
}

/// What is set for every share. What one of them sets itself is set by each: whose value counts
/// differs between gateways, and with Knative it is the share's.
fn settled(all: Vec<(String, String)>, arms: &mut [Arm]) -> Vec<(String, String)> {
    let (own, all): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| {
        let mut own = arms.iter().flat_map(|arm| &arm.set);
        own.any(|(set, _)| set == name)
    });
    for pair in own {
        for arm in &mut *arms {
            if !arm.set.iter().any(|(name, _)| *name == pair.0) {
                arm.set.push(pair.clone());
            }
        }
    }
    all
}

fn speaks_http2(reference: &BackendRef, reader: &Reader<'_>) -> bool {
    let port =
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(reference.port.into());
    backend::resolve(reader, &reference.service, &port)
        .is_ok_and(|target| target.protocol() == Protocol::H2c)
}

fn pairs(ops: &HeaderOps) -> Vec<(String, String)> {
    let set = ops.set.iter();
    set.map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}
