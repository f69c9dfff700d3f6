//! Istio: VirtualService `NAME-ingress` for the gateways, `NAME-mesh` for calls between services,
//! and a Gateway for the hosts that have certificates of their own.

use std::collections::BTreeSet;

use api::names::{CLUSTER_DOMAIN, SYSTEM_NAMESPACE};
use routing::model::Visibility;
use serde_json::{Map, Value, json};

use super::plan::{Plan, Rule, Site};
use super::{CLUSTER_LOCAL, EXTERNAL, EXTERNAL_GATEWAY, Generated, Head, LOCAL_GATEWAY, Maker};
use super::{escaped, object_name, shared};

const API_VERSION: &str = "networking.istio.io/v1";
const MESH: &str = "mesh";

pub(super) fn generate(plan: &Plan, maker: &Maker<'_>, out: &mut Generated) {
    for (name, visibility, port) in [
        (EXTERNAL_GATEWAY, EXTERNAL, 80),
        (LOCAL_GATEWAY, CLUSTER_LOCAL, 8081),
    ] {
        let spec = json!({
            "selector": {"istio": "ingressgateway"},
            "servers": [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
        });
        out.shared.push(shared(API_VERSION, name, visibility, spec));
    }
    for (at, site) in plan.sites.iter().enumerate() {
        if let Some(secret) = &site.secret {
            out.objects.push(gateway(maker, site, at, secret));
        }
    }
    let gateway = |site: &Site, at: usize| match (site.visibility, &site.secret) {
        (_, Some(_)) => format!(
            "{}/{}",
            maker.namespace(),
            object_name(maker.name(), &gateway_suffix(at))
        ),
        (Visibility::External, None) => format!("{SYSTEM_NAMESPACE}/{EXTERNAL_GATEWAY}"),
        (Visibility::ClusterLocal, None) => format!("{SYSTEM_NAMESPACE}/{LOCAL_GATEWAY}"),
    };
    let sites = plan.sites.iter().enumerate();
    let sites = sites.map(|(at, site)| (site.hosts.clone(), gateway(site, at), site));
    let sites: Vec<_> = sites.collect();
    if !sites.is_empty() {
        out.objects.push(virtual_service(maker, "-ingress", &sites));
    }
    let local = |host: &&String| host.ends_with(&format!(".svc.{CLUSTER_DOMAIN}"));
    let mesh = plan.sites.iter().filter_map(|site| {
        let names: Vec<String> = site.hosts.iter().filter(local).cloned().collect();
        (!names.is_empty()).then(|| (names, MESH.to_owned(), site))
    });
    let mesh: Vec<_> = mesh.collect();
    if !mesh.is_empty() {
        out.objects.push(virtual_service(maker, "-mesh", &mesh));
    }
}

fn gateway_suffix(at: usize) -> String {
    format!("-gateway-{at}")
}

fn gateway(maker: &Maker<'_>, site: &Site, at: usize, secret: &str) -> Value {
    let head = Head::new(API_VERSION, "Gateway", gateway_suffix(at), site.visibility);
    let mut plain = json!({
        "port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": site.hosts,
    });
    if site.redirects {
        plain["tls"] = json!({"httpsRedirect": true});
    }
    let secure = json!({
        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
        "hosts": site.hosts,
        "tls": {"mode": "SIMPLE", "credentialName": secret},
    });
    let spec = json!({
        "selector": {"istio": "ingressgateway"},
        "servers": [plain, secure],
    });
    maker.object(head, spec)
}

fn virtual_service(
    maker: &Maker<'_>,
    suffix: &str,
    sites: &[(Vec<String>, String, &Site)],
) -> Value {
    let hosts: BTreeSet<_> = sites.iter().flat_map(|(hosts, _, _)| hosts).collect();
    let gateways: BTreeSet<_> = sites.iter().map(|(_, gateway, _)| gateway).collect();
    let rules = sites.iter().flat_map(|(hosts, gateway, site)| {
        let rules = site.rules.iter();
        rules.map(move |rule| http(rule, hosts, gateway))
    });
    let spec = json!({
        "hosts": hosts,
        "gateways": gateways,
        "http": rules.collect::<Vec<_>>(),
    });
    // Its gateways say which listeners it is for.
    let visibility = Visibility::External;
    let head = Head::new(API_VERSION, "VirtualService", suffix.to_owned(), visibility);
    maker.object(head, spec)
}

fn http(rule: &Rule, hosts: &[String], gateway: &str) -> Value {
    let mut names: BTreeSet<&str> = hosts.iter().map(String::as_str).collect();
    if gateway == MESH {
        for host in hosts {
            let short = host.strip_suffix(&format!(".svc.{CLUSTER_DOMAIN}"));
            names.extend(short);
            names.extend(host.strip_suffix(&format!(".{CLUSTER_DOMAIN}")));
        }
    }
    let matches = names.into_iter().map(|host| {
        let mut one = json!({
            "gateways": [gateway],
            // With and without a port.
            "authority": {"regex": format!(r"{}(?::\d{{1,5}})?", host.replace('.', r"\."))},
            "uri": {"prefix": rule.prefix},
        });
        if !rule.headers.is_empty() {
            let headers = rule.headers.iter();
            let headers: Map<String, Value> = headers
                .map(|(name, value)| (name.clone(), json!({"exact": value})))
                .collect();
            one["headers"] = headers.into();
        }
        one
    });
    let routes = rule.arms.iter().map(|arm| {
        let mut route = json!({
            "destination": {"host": arm.dns_name(), "port": {"number": arm.port}},
            "weight": arm.weight,
        });
        if !arm.set.is_empty() {
            route["headers"] = set(&arm.set);
        }
        route
    });
    let mut http = json!({
        "match": matches.collect::<Vec<_>>(),
        "route": routes.collect::<Vec<_>>(),
        // Without this there would be two further tries.
        "retries": {"attempts": 0},
    });
    if !rule.set.is_empty() {
        http["headers"] = set(&rule.set);
    }
    if let Some(host) = &rule.rewrite_host {
        http["rewrite"] = json!({"authority": host});
    }
    http
}

fn set(pairs: &[(String, String)]) -> Value {
    let pairs = pairs.iter();
    let pairs: Map<String, Value> = pairs
        .map(|(name, value)| (name.clone(), escaped(value).into()))
        .collect();
    json!({"request": {"set": pairs}})
}
