//! What a pod is called, inside it and in the cluster's DNS.

use k8s_openapi::api::core::v1::Pod;

use crate::dns;

/// Longest host name that Linux and the DNS take.
const LONGEST: usize = 63;

/// A pod's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hostname {
    /// `hostname`, else the pod's name, cut to what a host name may be.
    pub(crate) short: String,
    /// With `subdomain`: the name that the DNS knows.
    pub(crate) full: Option<String>,
    /// What `hostname(1)` says: the short name, or the full one if the pod asks for it.
    pub(crate) kernel: String,
}

/// The names of a pod.
pub(crate) fn of(pod: &Pod) -> Hostname {
    let spec = pod.spec.as_ref();
    let asked = spec.and_then(|spec| spec.hostname.as_deref());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let short = cut(asked.filter(|name| !name.is_empty()).unwrap_or(name));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let full = spec
        .and_then(|spec| spec.subdomain.as_deref())
        .filter(|subdomain| !subdomain.is_empty())
        .map(|subdomain| format!("{short}.{subdomain}.{namespace}.svc.{}", dns::DOMAIN));
    let wants_full = spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    let kernel = match &full {
        Some(full) if wants_full && full.len() <= LONGEST + 1 => full.clone(),
        _ => short.clone(),
    };
    Hostname {
        short,
        full,
        kernel,
    }
}

fn cut(name: &str) -> String {
    let cut: String = name.chars().take(LONGEST).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_called_by_its_hostname_and_subdomain_or_by_its_name() {
        let names = |spec| {
            let metadata = json!({ "name": "web-0", "namespace": "shop" });
            let pod = json!({ "metadata": metadata, "spec": spec });
            of(&serde_json::from_value(pod).expect("a pod"))
        };
        let plain = names(json!({ "containers": [] }));
        assert_eq!((plain.short.as_str(), plain.full), ("web-0", None));
        let named = names(json!({ "containers": [], "hostname": "a", "subdomain": "db" }));
        assert_eq!(named.full.as_deref(), Some("a.db.shop.svc.cluster.local"));
        assert_eq!(named.kernel, "a");
        let long = cut(&format!("{}-{}", "x".repeat(62), "y"));
        assert_eq!(long, "x".repeat(62));
    }
}
