//! Contour: one HTTPProxy for each host, of the class of its listeners.

use routing::model::Visibility;
use serde_json::{Value, json};

use super::plan::{Plan, Rule, Site};
use super::{Generated, Head, Maker, digest, label_value};

const PARENT: &str = "contour.networking.knative.dev/parent";
const CLASS: &str = "contour.networking.knative.dev/class";
const DOMAIN: &str = "contour.networking.knative.dev/domainHash";

pub(super) fn generate(plan: &Plan, maker: &Maker<'_>, out: &mut Generated) {
    for site in &plan.sites {
        let class = match site.visibility {
            Visibility::External => "contour-external",
            Visibility::ClusterLocal => "contour-internal",
        };
        for host in &site.hosts {
            let suffix = format!("-{class}-{host}");
            let mut head = Head::new("projectcontour.io/v1", "HTTPProxy", suffix, site.visibility);
            head.labels = vec![
                (PARENT, label_value(maker.name())),
                (CLASS, class.to_owned()),
                (DOMAIN, digest(host)),
            ];
            head.annotations = vec![("projectcontour.io/ingress.class", class.to_owned())];
            let mut virtual_host = json!({"fqdn": host});
            if let Some(secret) = &site.secret {
                virtual_host["tls"] = json!({"secretName": secret});
            }
            let routes: Vec<_> = site.rules.iter().map(|rule| route(rule, site)).collect();
            let spec = json!({"virtualhost": virtual_host, "routes": routes});
            out.objects.push(maker.object(head, spec));
        }
    }
}

fn route(rule: &Rule, site: &Site) -> Value {
    let mut conditions = vec![json!({"prefix": rule.prefix})];
    let headers = rule.headers.iter();
    conditions
        .extend(headers.map(|(name, value)| json!({"header": {"name": name, "exact": value}})));
    let services = rule.arms.iter().map(|arm| {
        let mut service = json!({
            "name": &*arm.service.name, "port": arm.port, "weight": arm.weight,
        });
        if arm.http2 {
            service["protocol"] = "h2c".into();
        }
        if !arm.set.is_empty() {
            service["requestHeadersPolicy"] = json!({"set": set(&arm.set)});
        }
        service
    });
    let mut route = json!({
        "conditions": conditions,
        "services": services.collect::<Vec<_>>(),
        // Nothing is cut off, however long a stream lasts.
        "timeoutPolicy": {"response": "infinity", "idle": "infinity"},
        "enableWebsockets": true,
        "permitInsecure": rule.is_probe || !site.redirects,
    });
    let mut headers = set(&rule.set);
    if let Some(host) = &rule.rewrite_host {
        headers.push(json!({"name": "Host", "value": host}));
    }
    if !headers.is_empty() {
        route["requestHeadersPolicy"] = json!({"set": headers});
    }
    route
}

/// Percent signs are themselves, unless they enclose the name of a variable.
fn set(pairs: &[(String, String)]) -> Vec<Value> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}
