//! What Emissary calls a Mapping's backend in Envoy, which rate limit services may have rules for.
//!
//! The name is made of what the Mapping says: its `cluster_tag`, the service as it is written, how
//! TLS is begun, the namespace, the bounds and the balancer. A long one ends in a digest.

use serde_json::Value;
use sha1::{Digest, Sha1};

use super::service::Written;
use crate::fields::Fields;

/// What Emissary calls itself unless somebody says otherwise.
pub(super) const SOURCE: &str = "ambassador-default";

/// The namespace where Emissary is.
const HOME: &str = "default";

/// The longest name that is left as it is; of others so much is kept.
const LONGEST: usize = 60;
const KEPT: usize = 40;

/// The name of the backend of a Mapping (`spec`) in a namespace. `defaults` are the Module's.
pub(super) fn name(spec: &Fields<'_>, defaults: &Value, namespace: &str) -> String {
    let or_usual = |key: &str| match spec.has(key) {
        true => spec.raw(key),
        false => defaults.get(key),
    };
    let mut parts = vec!["cluster".to_owned()];
    parts.extend(spec.text("cluster_tag").map(str::to_owned));
    let written = spec.str("service").and_then(|it| Written::parse(it).ok());
    parts.push(written.as_ref().map_or_else(
        || "none".to_owned(),
        |written| service(spec, written, namespace),
    ));
    let is_https = written.is_some_and(|written| written.is_https);
    let context = match spec.raw("tls") {
        Some(Value::String(name)) if !name.is_empty() => Some(name.as_str()),
        Some(Value::Bool(true)) => Some("no-cert-upstream"),
        _ => None,
    };
    if is_https || context.is_some() {
        parts.push("otls".to_owned());
        let has_scheme = spec.str("service").is_some_and(|it| it.contains("://"));
        parts.extend(context.filter(|_| !has_scheme).map(str::to_owned));
        let host = spec.text("host_rewrite");
        parts.extend(host.map(|host| format!("hr-{host}")));
    }
    parts.push(namespace.to_owned());
    let bounds = or_usual("circuit_breakers").and_then(Value::as_array);
    parts.extend(bounds.into_iter().flatten().map(bound));
    parts.extend(or_usual("load_balancer").and_then(balance));
    shortened(&plain(&parts.join("_")))
}

/// The service with its scheme and port as they are written.
fn service(spec: &Fields<'_>, written: &Written, namespace: &str) -> String {
    let scheme = spec.str("service").and_then(|it| it.split_once("://"));
    let scheme = scheme.map(|(scheme, _)| format!("{}://", scheme.to_ascii_lowercase()));
    let host = &written.host;
    let is_whole = host.contains(['.', ':']) || host == "localhost";
    let of = (!is_whole && namespace != HOME).then(|| format!(".{namespace}"));
    let port = written.port.map(|port| format!(":{port}"));
    format!(
        "{}{host}{}{}",
        scheme.unwrap_or_default(),
        of.unwrap_or_default(),
        port.unwrap_or_default()
    )
}

/// One of `circuit_breakers`.
fn bound(breaker: &Value) -> String {
    let priority = breaker["priority"].as_str().unwrap_or("n");
    let letter = priority.chars().next().map(|it| it.to_ascii_lowercase());
    let mut name = String::from("cb");
    name.extend(letter);
    for (key, letter) in [
        ("max_connections", 'c'),
        ("max_pending_requests", 'p'),
        ("max_requests", 'r'),
        ("max_retries", 't'),
    ] {
        if let Some(number) = breaker[key].as_i64() {
            name.push(letter);
            name.push_str(&number.to_string());
        }
    }
    name
}

/// A balancer that knows of endpoints.
fn balance(balancer: &Value) -> Option<String> {
    let policy = balancer["policy"].as_str()?;
    let knows = ["round_robin", "least_request", "ring_hash", "maglev"];
    if !knows.contains(&policy) {
        return None;
    }
    let mut name = format!("er-{policy}");
    if let Some(header) = balancer["header"].as_str() {
        name.push_str(&format!("-hdr-{header}"));
    }
    if let Some(cookie) = balancer["cookie"]["name"].as_str() {
        name.push_str(&format!("-cookie-{cookie}"));
    }
    if balancer.get("source_ip").is_some() {
        name.push_str("-srcip");
    }
    Some(name)
}

fn plain(name: &str) -> String {
    let letter = |it: char| if it.is_ascii_alphanumeric() { it } else { '_' };
    name.chars().map(letter).collect()
}

fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let digest = hex::encode_upper(&Sha1::digest(name.as_bytes())[..8]);
    // One of several that begin alike and have the same digest would have another number.
    format!("{}-{digest}-0", &name[..KEPT])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Findings;
    use serde_json::json;

    #[test]
    fn a_backend_is_called_as_emissary_calls_it() {
        let check = |spec: Value, namespace: &str, expected: &str| {
            let findings = Findings::default();
            let fields = Fields::new(&spec, "spec".to_owned(), &findings);
            fields.pass_over();
            let defaults = json!({"circuit_breakers": [{"max_requests": 9}]});
            let defaults = if namespace == "bounded" {
                defaults
            } else {
                Value::Null
            };
            assert_eq!(name(&fields, &defaults, namespace), expected, "{spec}");
        };
        check(json!({"service": "web:80"}), HOME, "cluster_web_80_default");
        check(json!({"service": "Web"}), "team", "cluster_web_team_team");
        check(
            json!({"service": "web.a:80"}),
            "team",
            "cluster_web_a_80_team",
        );
        check(
            json!({"service": "https://web", "host_rewrite": "a.b"}),
            HOME,
            "cluster_https___web_otls_hr_a_b_default",
        );
        check(
            json!({"service": "web", "tls": "ctx"}),
            HOME,
            "cluster_web_otls_ctx_default",
        );
        check(
            json!({"service": "web", "cluster_tag": "blue"}),
            HOME,
            "cluster_blue_web_default",
        );
        check(
            json!({"service": "web"}),
            "bounded",
            "cluster_web_bounded_bounded_cbnr9",
        );
        check(
            json!({
                "service": "web",
                "circuit_breakers": [{"priority": "high", "max_connections": 3, "max_retries": 4}],
                "load_balancer": {"policy": "ring_hash", "cookie": {"name": "sticky"}},
            }),
            HOME,
            "cluster_web_default_cbhc3t4_er_ring_hash_cookie_sticky",
        );
        let long = format!("cluster_{}_default", "a".repeat(60));
        assert_eq!(
            shortened(&long),
            format!("cluster_{}-{}-0", "a".repeat(32), "3B76FE3198FE61CC"),
            "the digest of {long}"
        );
    }
}
