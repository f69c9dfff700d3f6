//! The files in /etc that Kubernetes manages for a pod: hostname, hosts, resolv.conf.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use crate::hostname;
use crate::resolv::Resolv;

/// The files' names, in the pod's directory and in /etc.
pub(super) const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

const LOCAL: &str = "127.0.0.1\tlocalhost\n\
                     ::1\tlocalhost ip6-localhost ip6-loopback\n\
                     fe00::\tip6-localnet\n\
                     fe00::\tip6-mcastprefix\n\
                     fe00::1\tip6-allnodes\n\
                     fe00::2\tip6-allrouters\n";

/// Writes them. `dns` is the address of the cluster's own name server, if it runs.
pub(super) fn write(
    pod: &Pod,
    directory: &Path,
    ip: IpAddr,
    dns: Option<IpAddr>,
) -> io::Result<()> {
    let names = hostname::of(pod);
    fs::write(directory.join("hostname"), format!("{}\n", names.kernel))?;
    let in_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let start = match in_host {
        true => fs::read_to_string("/etc/hosts").unwrap_or_else(|_| LOCAL.to_owned()),
        false => format!(
            "# Kubernetes-managed hosts file.\n{LOCAL}{}",
            own_line(ip, &names)
        ),
    };
    fs::write(directory.join("hosts"), start + &aliases(pod))?;
    let resolv = Resolv::of_pod(pod, &Resolv::of_machine(), dns);
    fs::write(directory.join("resolv.conf"), resolv.text())
}

fn own_line(ip: IpAddr, names: &hostname::Hostname) -> String {
    match &names.full {
        Some(full) => format!("{ip}\t{full}\t{}\n", names.short),
        None => format!("{ip}\t{}\n", names.short),
    }
}

fn aliases(pod: &Pod) -> String {
    let aliases = pod
        .spec
        .iter()
        .flat_map(|spec| spec.host_aliases.iter().flatten());
    let lines: Vec<_> = aliases
        .map(|alias| {
            let names = alias.hostnames.as_deref().unwrap_or_default();
            format!("{}\t{}\n", alias.ip, names.join("\t"))
        })
        .collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("\n# Entries added by HostAliases.\n{}", lines.concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_finds_itself_and_its_aliases_in_its_hosts_file() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pod = json!({
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "containers": [],
                "subdomain": "db",
                "hostAliases": [{ "ip": "192.0.2.9", "hostnames": ["a.example", "b.example"] }],
            },
        });
        let pod = serde_json::from_value(pod).expect("a pod");
        write(&pod, dir.path(), [10, 99, 0, 7].into(), None).expect("written");
        let hosts = fs::read_to_string(dir.path().join("hosts")).expect("there");
        assert!(
            hosts.contains("\n10.99.0.7\tweb.db.shop.svc.cluster.local\tweb\n"),
            "{hosts}"
        );
        assert!(
            hosts.ends_with("192.0.2.9\ta.example\tb.example\n"),
            "{hosts}"
        );
    }
}
