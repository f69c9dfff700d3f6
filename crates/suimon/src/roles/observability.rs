//! `config-observability` as far as it is about the gateway: the log of requests to revisions.

use std::collections::BTreeMap;

use api::config::Observability;
use api::config::name;
use api::names::SYSTEM_NAMESPACE;
use k8s_openapi::api::core::v1::ConfigMap;
use lifecycle::Tasks;
use proxy::{AccessLogs, RequestLog};
use reconcile::{Change, Cluster};

/// Follows the ConfigMap. Bad values keep the ones before; the Serving controllers tell of them.
pub fn follow(cluster: &Cluster, logs: AccessLogs, tasks: &Tasks) {
    let config_maps = cluster.informer::<ConfigMap>(tasks);
    config_maps.on_change(move |change| {
        let metadata = &change.object().metadata;
        if metadata.namespace.as_deref() != Some(SYSTEM_NAMESPACE)
            || metadata.name.as_deref() != Some(name::OBSERVABILITY)
        {
            return;
        }
        let data = match change {
            Change::Applied(config_map) => config_map.data.clone().unwrap_or_default(),
            Change::Deleted(_) => BTreeMap::new(),
        };
        if let Ok(config) = Observability::parse(&data) {
            let probes = config.probe_request_log;
            let log = config
                .request_log
                .map(|template| RequestLog { template, probes });
            logs.set_request_log(log);
        }
    });
}
