//! Addresses of Kubernetes Services in standalone mode: where they come from, who answers them,
//! and the Services that lead into this process itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use serde_json::json;

use crate::roles::system;
use crate::settings::Settings;

/// How Deployments and Services work here.
pub fn workloads(
    settings: &Settings,
    range: services::Range,
) -> anyhow::Result<workloads::Settings> {
    let balancers = settings.load_balancer_range.unwrap_or_else(|| {
        // Two processes on a machine differ in the one as in the other.
        let second = match range.address.octets() {
            [10, second, ..] => second,
            _ => 96,
        };
        services::Range {
            address: [127, second, 0, 0].into(),
            prefix: 16,
        }
    });
    Ok(workloads::Settings {
        node_name: system::NODE.to_owned(),
        service_addresses: workloads::ServiceAddresses {
            cluster_ips: range.to_string().parse()?,
            load_balancers: balancers.to_string().parse()?,
            node_ports: 30_000..=32_767,
        },
        root_ca: Some(root_ca(settings)?),
        zone: settings.zone.clone(),
        volumes: std::path::absolute(&settings.data_dir)
            .context("the data directory has no path")?
            .join("volumes"),
    })
}

/// The API server's certificate authority, which it keeps beside its store.
fn root_ca(settings: &Settings) -> anyhow::Result<String> {
    let path = settings.data_dir.join("store/pki/ca.crt");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// How the addresses of Services are answered.
pub fn services(settings: &Settings, claim: &services::Claim) -> services::Settings {
    services::Settings {
        node_address: settings.listen,
        no_cluster_ips: claim.problem.clone(),
        handover: services::Handover::default(),
    }
}

/// The cluster IP of the API: the first of the range, as everywhere.
pub fn api(range: services::Range) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.address) + 1)
}

/// Shows the range of the cluster IPs as the one ServiceCIDR that there is.
pub fn show_range(server: &apiserver::Server, range: services::Range) {
    let since = json!(reconcile::now());
    let shown = json!({
        "kind": "ServiceCIDR",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": { "name": "kubernetes", "creationTimestamp": since },
        "spec": { "cidrs": [range.to_string()] },
        "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": since,
            "message": "Kubernetes Service CIDR is ready",
        }] },
    });
    let measure = move |_: String, wanted: String| {
        let found = wanted.is_empty() || shown["metadata"]["name"] == wanted;
        let all = found.then(|| shown.clone()).into_iter().collect();
        futures::FutureExt::boxed(std::future::ready(all))
    };
    let measure = std::sync::Arc::new(measure);
    server.measure("servicecidrs.networking.k8s.io", measure);
}

/// The Service by which pods find the API, with the first address of the range.
pub async fn publish_api(
    client: &Client,
    range: services::Range,
    api: SocketAddr,
) -> anyhow::Result<()> {
    let first = self::api(range);
    let service: Service = serde_json::from_value(json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "clusterIP": first.to_string(),
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": api.port() }],
        },
    }))?;
    reconcile::write::create_if_absent(client, &service).await?;
    let ports = [("https", api.port())];
    lead_to(client, "default", "kubernetes", api.ip(), &ports).await
}

/// Makes the named ports of a Service without selector lead to ports of this process.
pub async fn lead_to(
    client: &Client,
    namespace: &str,
    service: &str,
    address: IpAddr,
    ports: &[(&str, u16)],
) -> anyhow::Result<()> {
    let ip = match address {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        ip => ip,
    };
    let ports = ports.iter();
    let ports: Vec<_> = ports
        .map(|(name, port)| json!({ "name": name, "port": port, "protocol": "TCP" }))
        .collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {
            "name": format!("{service}-self"),
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "suimon.dev",
            },
        },
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [ip.to_string()], "conditions": { "ready": true } }],
        "ports": ports,
    }))?;
    reconcile::write::apply(client, &slice).await?;
    Ok(())
}
