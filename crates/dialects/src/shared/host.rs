//! Host names of Kubernetes Services and their short forms.

use std::collections::BTreeSet;

use api::names::CLUSTER_DOMAIN;
use routing::model::HostPattern;

/// A host with the shorter names that a pod in the cluster may call it by: `x.ns.svc.cluster.local`
/// is also `x.ns.svc` and `x.ns` (knative.dev/networking `ExpandedHosts`). A name whose last label
/// is longer than 63 bytes or all digits is left out: it cannot be a host name.
pub(crate) fn expand(host: &str) -> BTreeSet<HostPattern> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let suffixes = [
        String::new(),
        format!(".{CLUSTER_DOMAIN}"),
        format!(".svc.{CLUSTER_DOMAIN}"),
    ];
    let names = suffixes
        .iter()
        .filter_map(|suffix| host.strip_suffix(suffix.as_str()));
    names
        .filter(|name| is_name(name))
        .map(|name| HostPattern::Exact(name.into()))
        .collect()
}

/// Whether a host can have this name: a Service, a domain, a subdomain.
pub(crate) fn is_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    name.bytes().all(allowed) && last.len() <= 63 && last.bytes().any(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_name_is_also_served_by_its_short_forms() {
        let check = |host: &str, expected: &[&str]| {
            let names = expected
                .iter()
                .map(|name| HostPattern::Exact((*name).into()))
                .collect();
            assert_eq!(expand(host), names, "{host}");
        };
        check(
            "hello.default.svc.cluster.local",
            &[
                "hello.default.svc.cluster.local",
                "hello.default.svc",
                "hello.default",
            ],
        );
        check("Hello.Example.com.", &["hello.example.com"]);
        check("10.0.0.1", &[]);
        check("a b", &[]);
        check("", &[]);
    }
}
