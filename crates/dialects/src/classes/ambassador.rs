//! Ambassador: a Host for each host, and a Mapping for each share of each path.

use routing::model::Visibility;
use serde_json::{Map, Value, json};

use super::plan::{Arm, Plan, Rule, Site};
use super::{Generated, Head, Maker, digest, escaped};

const API_VERSION: &str = "getambassador.io/v3alpha1";

pub(super) fn generate(plan: &Plan, maker: &Maker<'_>, out: &mut Generated) {
    for site in &plan.sites {
        for host in &site.hosts {
            out.objects.push(self::host(maker, site, host));
            // Mappings are tried by precedence first, whatever their lengths are.
            let first = site.rules.len();
            for (at, rule) in site.rules.iter().enumerate() {
                for (number, arm) in rule.arms.iter().enumerate() {
                    let place = (first - at, number);
                    let mapping = mapping(maker, (site, host), (rule, arm), place);
                    out.objects.push(mapping);
                }
            }
        }
    }
}

fn side(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::External => "external",
        Visibility::ClusterLocal => "local",
    }
}

fn host(maker: &Maker<'_>, site: &Site, host: &str) -> Value {
    let suffix = format!("-{}-{}", digest(host), side(site.visibility));
    let head = Head::new(API_VERSION, "Host", suffix, site.visibility);
    let action = if site.redirects { "Redirect" } else { "Route" };
    let mut spec = json!({
        "hostname": host,
        "requestPolicy": {"insecure": {"action": action}},
    });
    if let Some(secret) = &site.secret {
        spec["tlsSecret"] = json!({"name": secret});
    }
    maker.object(head, spec)
}

fn mapping(
    maker: &Maker<'_>,
    (site, host): (&Site, &str),
    (rule, arm): (&Rule, &Arm),
    (precedence, number): (usize, usize),
) -> Value {
    let key = format!("{host} {} {:?} {number}", rule.prefix, rule.headers);
    let suffix = format!("-{}-{}", digest(&key), side(site.visibility));
    let head = Head::new(API_VERSION, "Mapping", suffix, site.visibility);
    let mut spec = json!({
        "hostname": host,
        "prefix": rule.prefix,
        // The prefix stays.
        "rewrite": "",
        "service": format!("{}.{}:{}", arm.service.name, arm.service.namespace, arm.port),
        "precedence": precedence,
        "weight": arm.weight,
        "timeout_ms": 0,
        "idle_timeout_ms": 0,
        "allow_upgrade": ["websocket"],
    });
    if arm.http2 {
        spec["grpc"] = true.into();
    }
    if let Some(host) = &rule.rewrite_host {
        spec["host_rewrite"] = host.as_str().into();
    }
    if !rule.headers.is_empty() {
        let headers = rule.headers.iter();
        let headers: Map<String, Value> = headers
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        spec["headers"] = headers.into();
    }
    let set = rule.set.iter().chain(&arm.set);
    let set: Map<String, Value> = set
        .map(|(name, value)| {
            let value = json!({"value": escaped(value), "append": false});
            (name.clone(), value)
        })
        .collect();
    if !set.is_empty() {
        spec["add_request_headers"] = set.into();
    }
    maker.object(head, spec)
}
