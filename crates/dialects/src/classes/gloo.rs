//! Gloo: a VirtualService for each group of hosts, a second one over TLS, and an Upstream for each
//! Service.

use std::collections::BTreeMap;

use routing::model::Visibility;
use serde_json::{Value, json};

use super::plan::{Arm, Plan, Rule, Site};
use super::{Generated, Head, Maker, digest, escaped, object_name};

const GATEWAY: &str = "gateway.solo.io/v1";

pub(super) fn generate(plan: &Plan, maker: &Maker<'_>, out: &mut Generated) {
    let rules = plan.sites.iter().flat_map(|site| &site.rules);
    let arms = rules.flat_map(|rule| &rule.arms);
    let arms: BTreeMap<String, &Arm> = arms.map(|arm| (upstream_suffix(arm), arm)).collect();
    for (suffix, arm) in arms {
        let head = Head::new("gloo.solo.io/v1", "Upstream", suffix, Visibility::External);
        let mut spec = json!({"kube": {
            "serviceName": &*arm.service.name,
            "serviceNamespace": &*arm.service.namespace,
            "servicePort": arm.port,
        }});
        if arm.http2 {
            spec["useHttp2"] = true.into();
        }
        out.objects.push(maker.object(head, spec));
    }
    for site in &plan.sites {
        out.objects.push(virtual_service(maker, site, None));
        if let Some(secret) = &site.secret {
            out.objects.push(virtual_service(maker, site, Some(secret)));
        }
    }
}

fn upstream_suffix(arm: &Arm) -> String {
    format!("-{}-{}", arm.service.name, arm.port)
}

/// Over TLS if there is a Secret.
fn virtual_service(maker: &Maker<'_>, site: &Site, secret: Option<&str>) -> Value {
    let side = match site.visibility {
        Visibility::External => "external",
        Visibility::ClusterLocal => "local",
    };
    let over = if secret.is_some() { "-tls" } else { "" };
    let suffix = format!("-{}-{side}{over}", digest(&site.hosts.join(" ")));
    let head = Head::new(GATEWAY, "VirtualService", suffix, site.visibility);
    let redirects = site.redirects && secret.is_none();
    let routes = site.rules.iter().map(|rule| {
        if redirects && !rule.is_probe {
            let redirect = json!({"httpsRedirect": true, "responseCode": "MOVED_PERMANENTLY"});
            json!({"matchers": [matcher(rule)], "redirectAction": redirect})
        } else {
            route(maker, rule)
        }
    });
    let mut spec = json!({
        "virtualHost": {"domains": site.hosts, "routes": routes.collect::<Vec<_>>()},
    });
    if let Some(secret) = secret {
        spec["sslConfig"] = json!({
            "secretRef": {"name": secret, "namespace": maker.namespace()},
            "sniDomains": site.hosts,
        });
    }
    maker.object(head, spec)
}

fn matcher(rule: &Rule) -> Value {
    let headers = rule.headers.iter();
    let headers = headers.map(|(name, value)| json!({"name": name, "value": value}));
    json!({"prefix": rule.prefix, "headers": headers.collect::<Vec<_>>()})
}

fn route(maker: &Maker<'_>, rule: &Rule) -> Value {
    let destinations = rule.arms.iter().map(|arm| {
        let name = object_name(maker.name(), &upstream_suffix(arm));
        let mut destination = json!({
            "destination": {"upstream": {"name": name, "namespace": maker.namespace()}},
            "weight": arm.weight,
        });
        if !arm.set.is_empty() {
            destination["options"] = json!({"headerManipulation": set(&arm.set)});
        }
        destination
    });
    let mut options = json!({
        "timeout": "0s",
        "idleTimeout": "0s",
        "upgrades": [{"websocket": {"enabled": true}}],
    });
    if !rule.set.is_empty() {
        options["headerManipulation"] = set(&rule.set);
    }
    if let Some(host) = &rule.rewrite_host {
        options["hostRewrite"] = host.as_str().into();
    }
    json!({
        "matchers": [matcher(rule)],
        "routeAction": {"multi": {"destinations": destinations.collect::<Vec<_>>()}},
        "options": options,
    })
}

fn set(pairs: &[(String, String)]) -> Value {
    let pairs = pairs.iter();
    let set: Vec<_> = pairs
        .map(|(name, value)| {
            json!({"header": {"key": name, "value": escaped(value)}, "append": false})
        })
        .collect();
    json!({"requestHeadersToAdd": set})
}
