//! core/v1 Endpoints of Services with selectors: the older form of EndpointSlices, which some
//! clients (Knative's conformance tests among them) still read.
//!
//! A controller of its own: the gateway reads slices, and must not wait for this write. It comes
//! after the slices: whoever waits for an address here may send the gateway there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::write::owner_reference;
use reconcile::{Action, Cluster, Error, Informer, Key, Queue, write};
use serde_json::json;

use crate::endpointslice::plan::{self, Member};
use crate::endpointslice::watch_members;

const WORKERS: usize = 2;
/// Most addresses of one object (Kubernetes' limit); slices hold the rest.
const MOST: usize = 1000;
/// Set while addresses were left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

struct Context {
    cluster: Cluster,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
}

pub(crate) fn start(cluster: &Cluster, tasks: &Tasks) {
    let services = cluster.informer::<Service>(tasks);
    let pods = cluster.informer::<Pod>(tasks);
    let endpoints = cluster.informer::<Endpoints>(tasks);
    let slices = cluster.informer::<EndpointSlice>(tasks);
    let queue = Queue::new();
    watch_members(&services, &pods, &queue);
    endpoints.enqueue_self(&queue);
    slices.enqueue_owner::<Service>(&queue);
    let synced = vec![
        services.synced(),
        pods.synced(),
        endpoints.synced(),
        slices.synced(),
    ];
    let context = Arc::new(Context {
        cluster: cluster.clone(),
        services,
        pods,
        endpoints,
        slices,
    });
    reconcile::run("endpoints", queue, WORKERS, synced, tasks, move |key| {
        reconcile(Arc::clone(&context), key)
    });
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Action, Error> {
    let Some(service) = ctx.services.get(&key) else {
        return Ok(Action::Await);
    };
    let selects = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.selector.as_ref().is_some_and(|s| !s.is_empty()));
    if !selects || service.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Await);
    }
    let pods = plan::members(&service, &ctx.pods);
    let wanted = desired(&service, &pods);
    if !are_in_slices(&ctx, &service, &wanted) {
        // The write that is missing brings us back.
        return Ok(Action::Await);
    }
    let client = ctx.cluster.client();
    match ctx.endpoints.get(&key) {
        None => {
            if write::create_if_absent(client, &wanted).await?.is_none() {
                write_subsets(&ctx, &key, &wanted).await?;
            }
        }
        Some(stored)
            if stored.subsets.clone().unwrap_or_default()
                != wanted.subsets.clone().unwrap_or_default() =>
        {
            write_subsets(&ctx, &key, &wanted).await?;
        }
        Some(_) => {}
    }
    Ok(Action::Await)
}

/// Whether the Service's slices name every address that is ready.
fn are_in_slices(ctx: &Context, service: &Service, wanted: &Endpoints) -> bool {
    let namespace = service.namespace().unwrap_or_default();
    let uid = service.uid().unwrap_or_default();
    let slices = ctx.slices.owned_by(&namespace, &uid);
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints).flatten();
    let is_ready = |endpoint: &&Endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.is_none_or(|conditions| conditions.ready != Some(false))
    };
    let known: HashSet<&str> = endpoints
        .filter(is_ready)
        .flat_map(|endpoint| &endpoint.addresses)
        .map(String::as_str)
        .collect();
    let subsets = wanted.subsets.iter().flatten();
    let mut ready = subsets.flat_map(|subset| subset.addresses.iter().flatten());
    ready.all(|address| known.contains(&*address.ip))
}

async fn write_subsets(ctx: &Context, key: &Key, wanted: &Endpoints) -> Result<(), Error> {
    let over = wanted.annotations().get(OVER_CAPACITY);
    let patch =
        json!({"metadata": {"annotations": {OVER_CAPACITY: over}}, "subsets": wanted.subsets});
    match write::merge::<Endpoints>(ctx.cluster.client(), key, &patch).await {
        // Deleted meanwhile; its event brings us back.
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// The object as it should be: one subset per set of ports.
fn desired(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let members: Vec<Member<'_>> = pods
        .iter()
        .filter_map(|pod| plan::member(service, pod))
        .filter(|member| !member.terminating)
        .collect();
    let over = members.len() > MOST;
    let mut subsets: BTreeMap<Vec<(String, i32)>, EndpointSubset> = BTreeMap::new();
    for member in members.iter().take(MOST) {
        let ports = member.ports.iter();
        let key = ports
            .clone()
            .map(|(port, number)| (port.name.clone().unwrap_or_default(), *number))
            .collect();
        let subset = subsets.entry(key).or_insert_with(|| EndpointSubset {
            ports: Some(
                ports
                    .map(|(port, number)| EndpointPort {
                        name: port.name.clone(),
                        port: *number,
                        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                        app_protocol: port.app_protocol.clone(),
                    })
                    .collect(),
            ),
            ..EndpointSubset::default()
        });
        let list = if member.ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(EndpointAddress {
            ip: member.address.clone(),
            node_name: member
                .pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone()),
            target_ref: Some(plan::target_ref(member.pod)),
            hostname: None,
        });
    }
    Endpoints {
        metadata: ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            labels: service.metadata.labels.clone(),
            annotations: over.then(|| [(OVER_CAPACITY.to_owned(), "truncated".to_owned())].into()),
            owner_references: Some(vec![owner_reference(service)]),
            ..ObjectMeta::default()
        },
        subsets: Some(subsets.into_values().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_and_unready_pods_are_told_apart_and_terminating_ones_left_out() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }))
        .expect("a Service");
        let pod = |name: &str, ready: &str, more: serde_json::Value| {
            let mut value = json!({
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"containers": []},
                "status": {"podIP": format!("10.0.0.{name}"), "conditions": [{"type": "Ready", "status": ready}]},
            });
            for (key, entry) in more.as_object().into_iter().flatten() {
                value["metadata"][key] = entry.clone();
            }
            Arc::new(serde_json::from_value::<Pod>(value).expect("a Pod"))
        };
        let pods = [
            pod("1", "True", json!({})),
            pod("2", "False", json!({})),
            pod(
                "3",
                "True",
                json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            ),
        ];
        let subsets = desired(&service, &pods).subsets.expect("subsets");
        let ips = |list: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            list.iter()
                .flatten()
                .map(|address| address.ip.clone())
                .collect()
        };
        assert_eq!(subsets.len(), 1);
        assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.2"]);
        assert_eq!(subsets[0].ports.as_ref().expect("ports")[0].port, 8080);
    }
}
