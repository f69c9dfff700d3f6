//! Gateway API: HTTPRoutes for each group of hosts, and a Gateway for hosts that have certificates
//! of their own.
//!
//! A Knative path is a prefix of the text, which only a regular expression says there.

use api::names::SYSTEM_NAMESPACE;
use routing::model::Visibility;
use serde_json::{Value, json};

use super::plan::{Plan, Rule, Site};
use super::{CLUSTER_LOCAL, EXTERNAL, EXTERNAL_GATEWAY, Generated, Head, LOCAL_GATEWAY, Maker};
use super::{digest, shared};

const API_VERSION: &str = "gateway.networking.k8s.io/v1";
/// The API allows no more of each in one route.
const MOST_RULES: usize = 16;
const MOST_HOSTS: usize = 16;

pub(super) fn generate(plan: &Plan, maker: &Maker<'_>, out: &mut Generated) {
    for (name, visibility) in [(EXTERNAL_GATEWAY, EXTERNAL), (LOCAL_GATEWAY, CLUSTER_LOCAL)] {
        let spec = json!({
            "gatewayClassName": api::gateway::CLASS,
            "listeners": [{
                "name": "http", "port": 80, "protocol": "HTTP",
                "allowedRoutes": {"namespaces": {"from": "All"}},
            }],
        });
        out.shared.push(shared(API_VERSION, name, visibility, spec));
    }
    for site in &plan.sites {
        let key = digest(&site.hosts.join(" "));
        let suffix = format!("-{key}-{}", listeners(site.visibility));
        match &site.secret {
            None => {
                let name = match site.visibility {
                    Visibility::External => EXTERNAL_GATEWAY,
                    Visibility::ClusterLocal => LOCAL_GATEWAY,
                };
                let parent = json!({"name": name, "namespace": SYSTEM_NAMESPACE});
                routes(maker, site, &suffix, &parent, Says::Forward, out);
            }
            Some(secret) => secured(maker, site, &suffix, secret, out),
        }
    }
}

fn listeners(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::External => "external",
        Visibility::ClusterLocal => "local",
    }
}

/// What the routes of a listener do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Forward,
    /// All but probes.
    Redirect,
}

fn secured(maker: &Maker<'_>, site: &Site, suffix: &str, secret: &str, out: &mut Generated) {
    let mut head = Head::new(API_VERSION, "Gateway", suffix.to_owned(), site.visibility);
    let visibility = match site.visibility {
        Visibility::External => EXTERNAL,
        Visibility::ClusterLocal => CLUSTER_LOCAL,
    };
    head.labels = vec![(api::names::label::VISIBILITY, visibility.to_owned())];
    let secure = site.hosts.iter().enumerate().map(|(at, host)| {
        json!({
            "name": format!("https-{at}"), "port": 443, "protocol": "HTTPS", "hostname": host,
            "tls": {"mode": "Terminate", "certificateRefs": [{"name": secret}]},
        })
    });
    let mut all = vec![json!({"name": "http", "port": 80, "protocol": "HTTP"})];
    all.extend(secure);
    let spec = json!({"gatewayClassName": api::gateway::CLASS, "listeners": all});
    let gateway = maker.object(head, spec);
    let parent = json!({"name": gateway["metadata"]["name"]});
    out.objects.push(gateway);
    if !site.redirects {
        return routes(maker, site, suffix, &parent, Says::Forward, out);
    }
    let mut plain = parent.clone();
    plain["sectionName"] = "http".into();
    let plain_suffix = format!("{suffix}-http");
    routes(maker, site, &plain_suffix, &plain, Says::Redirect, out);
    let mut secure = parent;
    secure["port"] = 443.into();
    routes(maker, site, suffix, &secure, Says::Forward, out);
}

fn routes(
    maker: &Maker<'_>,
    site: &Site,
    suffix: &str,
    parent: &Value,
    says: Says,
    out: &mut Generated,
) {
    for (at, hosts) in site.hosts.chunks(MOST_HOSTS).enumerate() {
        for (part, rules) in site.rules.chunks(MOST_RULES).enumerate() {
            let suffix = match at + part {
                0 => suffix.to_owned(),
                _ => format!("{suffix}-{at}-{part}"),
            };
            let head = Head::new(API_VERSION, "HTTPRoute", suffix, site.visibility);
            let rules = rules.iter().map(|rule| self::rule(rule, says));
            let spec = json!({
                "parentRefs": [parent],
                "hostnames": hosts,
                "rules": rules.collect::<Vec<_>>(),
            });
            out.objects.push(maker.object(head, spec));
        }
    }
}

fn rule(rule: &Rule, says: Says) -> Value {
    let path = if rule.prefix == "/" {
        json!({"type": "PathPrefix", "value": "/"})
    } else {
        let value = format!("{}.*", escape(&rule.prefix));
        json!({"type": "RegularExpression", "value": value})
    };
    let headers = rule.headers.iter();
    let headers =
        headers.map(|(name, value)| json!({"type": "Exact", "name": name, "value": value}));
    let matches = json!([{"path": path, "headers": headers.collect::<Vec<_>>()}]);
    if says == Says::Redirect && !rule.is_probe {
        let redirect = json!({"scheme": "https", "statusCode": 301});
        return json!({
            "matches": matches,
            "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}],
        });
    }
    let mut filters = set(&rule.set);
    if let Some(host) = &rule.rewrite_host {
        filters.push(json!({"type": "URLRewrite", "urlRewrite": {"hostname": host}}));
    }
    let backends = rule.arms.iter().map(|arm| {
        json!({
            "name": &*arm.service.name, "port": arm.port, "weight": arm.weight,
            "filters": set(&arm.set),
        })
    });
    json!({
        "matches": matches,
        "filters": filters,
        "backendRefs": backends.collect::<Vec<_>>(),
        "timeouts": {"request": "0s"},
    })
}

fn set(pairs: &[(String, String)]) -> Vec<Value> {
    if pairs.is_empty() {
        return Vec::new();
    }
    let pairs = pairs.iter();
    let set: Vec<_> = pairs
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    vec![json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": set}})]
}

/// A text as an expression that finds just it.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() && !"/_-".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
