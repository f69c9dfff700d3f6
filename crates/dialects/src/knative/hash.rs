//! The hash that a prober expects from a gateway that serves this very Ingress.
//!
//! knative.dev/networking `ComputeHash`: SHA-256 of the defaulted spec as Go's `encoding/json`
//! writes it, then namespace and name. Probers compute it themselves, so every byte counts:
//! field order, empty fields left out, `<`, `>`, `&` and line separators escaped.

use std::collections::BTreeMap;

use api::networking::v1alpha1 as networking;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The hash in lower-case hex.
pub(super) fn hash(ingress: &networking::Ingress) -> String {
    let meta = &ingress.metadata;
    let mut digest = Sha256::new();
    digest.update(go_json(&ingress.spec));
    digest.update(meta.namespace.as_deref().unwrap_or_default());
    digest.update(meta.name.as_deref().unwrap_or_default());
    hex::encode(digest.finalize())
}

fn go_json(spec: &networking::IngressSpec) -> String {
    // Plain structs and string maps always encode.
    let text = serde_json::to_string(&Spec::of(spec)).unwrap_or_default();
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn is_empty(text: &&str) -> bool {
    text.is_empty()
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls: Vec<Tls<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule<'a>>,
    #[serde(skip_serializing_if = "is_empty")]
    http_option: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tls<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    hosts: &'a [String],
    #[serde(skip_serializing_if = "is_empty")]
    secret_name: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    secret_namespace: &'a str,
}

#[derive(Serialize)]
struct Rule<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    hosts: &'a [String],
    visibility: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http<'a>>,
}

#[derive(Serialize)]
struct Http<'a> {
    paths: Vec<Path<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Path<'a> {
    #[serde(skip_serializing_if = "is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    rewrite_host: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, Exact<'a>>,
    splits: Vec<Split<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    append_headers: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Exact<'a> {
    exact: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Split<'a> {
    service_namespace: &'a str,
    service_name: &'a str,
    service_port: &'a IntOrString,
    #[serde(skip_serializing_if = "is_zero")]
    percent: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    append_headers: &'a BTreeMap<String, String>,
}

impl<'a> Spec<'a> {
    fn of(spec: &'a networking::IngressSpec) -> Self {
        let tls = spec.tls.iter().map(|tls| Tls {
            hosts: &tls.hosts,
            secret_name: tls.secret_name.as_deref().unwrap_or_default(),
            secret_namespace: tls.secret_namespace.as_deref().unwrap_or_default(),
        });
        let rules = spec.rules.iter().map(|rule| Rule {
            hosts: &rule.hosts,
            visibility: rule
                .visibility
                .as_deref()
                .filter(|text| !text.is_empty())
                .unwrap_or("ExternalIP"),
            http: rule.http.as_ref().map(|http| Http {
                paths: http.paths.iter().map(Path::of).collect(),
            }),
        });
        Self {
            tls: tls.collect(),
            rules: rules.collect(),
            http_option: spec.http_option.as_deref().unwrap_or_default(),
        }
    }
}

impl<'a> Path<'a> {
    fn of(path: &'a networking::HttpIngressPath) -> Self {
        let headers = path.headers.iter().map(|(name, value)| {
            (
                name.as_str(),
                Exact {
                    exact: &value.exact,
                },
            )
        });
        let alone = path.splits.len() == 1;
        let splits = path.splits.iter().map(|split| Split {
            service_namespace: &split.service_namespace,
            service_name: &split.service_name,
            service_port: &split.service_port,
            percent: match split.percent.unwrap_or(0) {
                0 if alone => 100,
                percent => percent,
            },
            append_headers: &split.append_headers,
        });
        Self {
            path: path.path.as_deref().unwrap_or_default(),
            rewrite_host: path.rewrite_host.as_deref().unwrap_or_default(),
            headers: headers.collect(),
            splits: splits.collect(),
            append_headers: &path.append_headers,
        }
    }
}
