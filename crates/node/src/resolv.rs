//! `resolv.conf`: the machine's, read, and a pod's, by its DNS policy. Pure but for one file.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use crate::dns;

const MACHINE: &str = "/etc/resolv.conf";
/// Where systemd-resolved keeps the servers that it asks itself.
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// What resolvers read at most (resolv.conf(5)); Kubernetes has the same bounds.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 32;
const LONGEST_SEARCH: usize = 2048;

/// What is in such a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolv {
    pub(crate) nameservers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Resolv {
    /// This machine's.
    pub(crate) fn of_machine() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let machine = Self::parse(&read(MACHINE));
        let stub = machine.nameservers.iter().all(IpAddr::is_loopback);
        let behind = Self::parse(&read(BEHIND_STUB));
        match stub && !behind.nameservers.is_empty() {
            true => behind,
            false => machine,
        }
    }

    fn parse(text: &str) -> Self {
        let mut resolv = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => resolv
                    .nameservers
                    .extend(words.next().and_then(|ip| ip.parse::<IpAddr>().ok())),
                // The last one counts.
                Some("search" | "domain") => resolv.search = words.map(str::to_owned).collect(),
                Some("options") => resolv.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolv
    }

    /// A pod's. `cluster` is where our own server listens, if it does.
    pub(crate) fn of_pod(pod: &Pod, machine: &Self, cluster: Option<IpAddr>) -> Self {
        let spec = pod.spec.as_ref();
        let in_host = spec.and_then(|spec| spec.host_network) == Some(true);
        let policy = spec.and_then(|spec| spec.dns_policy.as_deref());
        let mut resolv = match (policy.unwrap_or("ClusterFirst"), cluster) {
            ("None", _) => Self::default(),
            ("ClusterFirst", Some(server)) if !in_host => Self::cluster(pod, machine, server),
            ("ClusterFirstWithHostNet", Some(server)) => Self::cluster(pod, machine, server),
            _ => machine.clone(),
        };
        if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
            let servers = config.nameservers.iter().flatten();
            resolv
                .nameservers
                .extend(servers.filter_map(|ip| ip.parse::<IpAddr>().ok()));
            resolv
                .search
                .extend(config.searches.iter().flatten().cloned());
            for option in config.options.iter().flatten() {
                let Some(name) = &option.name else { continue };
                resolv
                    .options
                    .retain(|known| known.split(':').next() != Some(name));
                resolv.options.push(match &option.value {
                    Some(value) => format!("{name}:{value}"),
                    None => name.clone(),
                });
            }
        }
        resolv.cut();
        resolv
    }

    fn cluster(pod: &Pod, machine: &Self, server: IpAddr) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let domain = dns::DOMAIN;
        let ours = [
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_owned(),
        ];
        Self {
            nameservers: vec![server],
            search: ours
                .into_iter()
                .chain(machine.search.iter().cloned())
                .collect(),
            options: vec!["ndots:5".to_owned()],
        }
    }

    /// Repetitions and what no resolver would read.
    fn cut(&mut self) {
        let mut seen = std::collections::HashSet::new();
        self.nameservers
            .retain(|server| seen.insert(server.to_string()));
        self.nameservers.truncate(MOST_SERVERS);
        let mut length = 0;
        self.search.retain(|domain| {
            length += domain.len() + 1;
            length <= LONGEST_SEARCH && seen.insert(domain.clone())
        });
        self.search.truncate(MOST_DOMAINS);
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            text.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(spec: serde_json::Value) -> String {
        let machine =
            Resolv::parse("# mine\nnameserver 192.0.2.53\nsearch example.org\noptions edns0\n");
        let pod = json!({ "metadata": { "namespace": "shop" }, "spec": spec });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        Resolv::of_pod(&pod, &machine, Some([10, 99, 0, 1].into())).text()
    }

    #[test]
    fn each_dns_policy_has_its_file() {
        let containers = json!([]);
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local example.org\n\
                       nameserver 10.99.0.1\noptions ndots:5\n";
        let machine = "search example.org\nnameserver 192.0.2.53\noptions edns0\n";
        for (spec, expected) in [
            (json!({ "containers": containers }), cluster),
            (
                json!({ "containers": containers, "dnsPolicy": "Default" }),
                machine,
            ),
            (
                json!({ "containers": containers, "hostNetwork": true }),
                machine,
            ),
            (
                json!({ "containers": containers, "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet" }),
                cluster,
            ),
        ] {
            assert_eq!(text(spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn dns_config_adds_and_its_options_win() {
        let config = json!({
            "nameservers": ["192.0.2.1"],
            "searches": ["a.example"],
            "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }],
        });
        let none = text(json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": config }));
        assert_eq!(
            none,
            "search a.example\nnameserver 192.0.2.1\noptions ndots:2 edns0\n"
        );
        let first = text(json!({ "containers": [], "dnsConfig": config }));
        assert!(
            first.contains("nameserver 10.99.0.1\nnameserver 192.0.2.1\n"),
            "{first}"
        );
        assert!(first.ends_with("options ndots:2 edns0\n"), "{first}");
    }
}
