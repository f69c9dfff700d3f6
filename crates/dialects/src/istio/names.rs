//! Hosts as Istio writes them: short names of Services, wildcards, `namespace/host`.

use api::names::CLUSTER_DOMAIN;
use routing::model::HostPattern;
use serde_json::Value;

use crate::objects::Name;
use crate::shared::host;

/// A host in lower case; one without a dot is a Service of the namespace.
pub(crate) fn fqdn(host: &str, namespace: &str) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.is_empty() || host.contains(['.', '*']) {
        return host;
    }
    format!("{host}.{namespace}.svc.{CLUSTER_DOMAIN}")
}

/// The full host name of a Service.
pub(crate) fn of_service(service: &Name) -> String {
    format!(
        "{}.{}.svc.{CLUSTER_DOMAIN}",
        service.name, service.namespace
    )
}

/// The Service that a full host name stands for, also without the cluster's domain.
pub(crate) fn service(fqdn: &str) -> Option<Name> {
    let name = fqdn.strip_suffix(CLUSTER_DOMAIN);
    let name = name.map_or(fqdn, |name| name.trim_end_matches('.'));
    let (name, namespace) = name.strip_suffix(".svc")?.split_once('.')?;
    (!namespace.contains('.')).then(|| Name::new(namespace, name))
}

/// `name.namespace`, which may be a Service too.
pub(super) fn short_service(host: &str) -> Option<Name> {
    let (name, namespace) = host.split_once('.')?;
    let is_short = !name.is_empty() && !namespace.is_empty() && !namespace.contains('.');
    is_short.then(|| Name::new(namespace, name))
}

/// As the model has it: `*` stands for any number of labels. `None` for what is no host.
pub(super) fn pattern(host: &str) -> Option<HostPattern> {
    match host.strip_prefix("*.") {
        _ if host == "*" => Some(HostPattern::Any),
        Some(suffix) => host::is_name(suffix).then(|| HostPattern::Suffix(suffix.into())),
        None => (host::is_name(host) && !host.is_empty()).then(|| HostPattern::Exact(host.into())),
    }
}

/// Whether every host of `narrow` is one of `wide`.
pub(super) fn covers(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Any, _) => true,
        (HostPattern::Suffix(wide), HostPattern::Suffix(narrow)) if wide == narrow => true,
        (
            HostPattern::Suffix(wide),
            HostPattern::Exact(narrow) | HostPattern::Suffix(narrow) | HostPattern::Label(narrow),
        ) => narrow
            .strip_suffix(&**wide)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        (wide, narrow) => wide == narrow,
    }
}

/// The hosts of both: the narrower of the two, if one is within the other.
pub(super) fn intersection(a: &HostPattern, b: &HostPattern) -> Option<HostPattern> {
    if covers(a, b) {
        Some(b.clone())
    } else {
        covers(b, a).then(|| a.clone())
    }
}

/// How narrow a pattern is: exact hosts first, then the longest suffix.
pub(super) fn rank(pattern: &HostPattern) -> (u8, std::cmp::Reverse<usize>) {
    match pattern {
        HostPattern::Exact(_) => (0, std::cmp::Reverse(0)),
        HostPattern::Label(suffix) | HostPattern::Suffix(suffix) => {
            (1, std::cmp::Reverse(suffix.len()))
        }
        HostPattern::Any => (2, std::cmp::Reverse(0)),
    }
}

/// Whether an object with this `spec` in `own` may be used from `other`.
pub(super) fn is_exported(spec: &Value, own: &str, other: &str) -> bool {
    let Some(list) = spec["exportTo"].as_array() else {
        return true;
    };
    let mut to = list.iter().filter_map(Value::as_str);
    list.is_empty()
        || to.any(|to| match to {
            "*" => true,
            "." => own == other,
            "~" => false,
            namespace => namespace == other,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_dot_is_a_service_of_the_namespace() {
        assert_eq!(fqdn("Reviews", "prod"), "reviews.prod.svc.cluster.local");
        assert_eq!(fqdn("api.example.com.", "prod"), "api.example.com");
        let reviews = Some(Name::new("prod", "reviews"));
        assert_eq!(service("reviews.prod.svc.cluster.local"), reviews);
        assert_eq!(service("reviews.prod.svc"), reviews);
        assert_eq!(service("a.reviews.prod.svc.cluster.local"), None);
        assert_eq!(service("api.example.com"), None);
        assert_eq!(short_service("reviews.prod"), reviews);
        assert_eq!(short_service("api.example.com"), None);
    }

    #[test]
    fn the_hosts_of_both_are_those_of_the_narrower() {
        let check = |a: &str, b: &str, expected: Option<&str>| {
            let (a, b) = (pattern(a).expect("a host"), pattern(b).expect("a host"));
            let found = intersection(&a, &b).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{a} {b}");
            assert_eq!(intersection(&a, &b), intersection(&b, &a));
        };
        check("*", "a.com", Some("a.com"));
        check("*.a.com", "x.y.a.com", Some("x.y.a.com"));
        check("*.a.com", "a.com", None);
        check("*.a.com", "xa.com", None);
        check("*.a.com", "*.b.a.com", Some("*.b.a.com"));
        check("*.a.com", "*.a.com", Some("*.a.com"));
        check("a.com", "b.com", None);
        assert_eq!(pattern("*a.com"), None);
        assert_eq!(pattern("a b"), None);
    }
}
