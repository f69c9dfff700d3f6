//! `config-observability` as far as it is about the gateway: the log of requests to revisions, and
//! the traces of requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use api::config::name;
use api::config::{Observability, SpanTarget, Tracing};
use api::names::SYSTEM_NAMESPACE;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use lifecycle::Tasks;
use otlp::{Endpoint, EndpointError, EntryKind, Exporter, LogExporter, LogSettings, Protocol};
use proxy::{AccessLogs, LogServices, RequestLog, Traces};
use reconcile::{Change, Cluster, Key};
use routing::model::{LogEntries, SpanProtocol};

/// The resource's name in traces.
const SERVICE: &str = "suimon-gateway";

/// Follows the ConfigMap. Bad values keep the ones before; the Serving controllers tell of them.
pub fn follow(cluster: &Cluster, gateway: &proxy::Gateway, tasks: &Tasks) {
    let (logs, traces) = (gateway.access_logs().clone(), gateway.traces().clone());
    let resolve = resolve(cluster, tasks);
    let tasks_of_exporters = tasks.clone();
    traces.start_with(for_routes(&resolve, &traces, tasks));
    let log_services = gateway.log_services();
    log_services.start_with(for_logs(&resolve, log_services, tasks));
    let in_force: Mutex<Option<Tracing>> = Mutex::default();
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
        let Ok(config) = Observability::parse(&data) else {
            return;
        };
        set_log(&logs, &config);
        let mut in_force = in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_force != config.tracing {
            let chosen = config.tracing.as_ref();
            let started =
                chosen.map(|chosen| start(chosen, &resolve, &traces, &tasks_of_exporters));
            match started.transpose() {
                Ok(tracing) => traces.set(tracing),
                Err(error) => return tracing::error!(%error, "tracing-endpoint is not used"),
            }
            in_force.clone_from(&config.tracing);
        }
    });
}

fn set_log(logs: &AccessLogs, config: &Observability) {
    let probes = config.probe_request_log;
    let template = config.request_log.clone();
    logs.set_request_log(template.map(|template| RequestLog { template, probes }));
}

/// Collectors that routes name: by URLs that the dialects have checked.
fn for_routes(resolve: &otlp::Resolve, traces: &Traces, tasks: &Tasks) -> proxy::Start {
    let (resolve, counts, tasks) = (Arc::clone(resolve), traces.counts().clone(), tasks.clone());
    Box::new(move |collector| {
        let protocol = match collector.protocol {
            SpanProtocol::OtlpGrpc => Protocol::Grpc,
            SpanProtocol::OtlpHttp => Protocol::Http,
            SpanProtocol::Zipkin => Protocol::Zipkin,
        };
        match Endpoint::parse(&collector.url, protocol) {
            Ok(endpoint) => {
                let settings = exporter(Some(endpoint), &resolve);
                Some(Exporter::start(settings, counts.clone(), &tasks))
            }
            Err(error) => {
                tracing::error!(%error, "spans of some routes are dropped");
                None
            }
        }
    })
}

/// Log services that routes name: by URLs that the dialects have checked.
fn for_logs(resolve: &otlp::Resolve, services: &LogServices, tasks: &Tasks) -> proxy::StartLog {
    let (resolve, counts) = (Arc::clone(resolve), services.counts().clone());
    let tasks = tasks.clone();
    Box::new(move |service| {
        let endpoint = Endpoint::parse(&service.url, Protocol::LogService);
        let endpoint = endpoint.inspect_err(|error| {
            tracing::error!(%error, "entries for a log service are dropped");
        });
        let settings = LogSettings {
            endpoint: endpoint.ok()?,
            resolve: Arc::clone(&resolve),
            kind: match service.entries {
                LogEntries::Http { .. } => EntryKind::Http,
                LogEntries::Connection => EntryKind::Tcp,
            },
            name: service.log.to_string(),
            node: SERVICE.to_owned(),
            cluster: SERVICE.to_owned(),
            delay: service.delay,
            bytes: service.bytes as usize,
        };
        Some(LogExporter::start(settings, counts.clone(), &tasks))
    })
}

fn exporter(endpoint: Option<Endpoint>, resolve: &otlp::Resolve) -> otlp::Settings {
    otlp::Settings {
        endpoint,
        service: SERVICE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        resolve: Arc::clone(resolve),
    }
}

fn start(
    chosen: &Tracing,
    resolve: &otlp::Resolve,
    traces: &Traces,
    tasks: &Tasks,
) -> Result<proxy::Tracing, EndpointError> {
    let endpoint = match &chosen.to {
        SpanTarget::Stdout => None,
        SpanTarget::Grpc(url) => Some(Endpoint::parse(url, Protocol::Grpc)?),
        SpanTarget::Http(url) => Some(Endpoint::parse(url, Protocol::Http)?),
    };
    let settings = exporter(endpoint, resolve);
    Ok(proxy::Tracing {
        rate: chosen.rate,
        exporter: Exporter::start(settings, traces.counts().clone(), tasks),
    })
}

/// A collector may be a Service of this cluster, whose names the machine does not know.
fn resolve(cluster: &Cluster, tasks: &Tasks) -> otlp::Resolve {
    let services = cluster.informer::<Service>(tasks);
    Arc::new(move |host| {
        let key = service(host)?;
        let service = services.get(&key)?;
        let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
        address.parse::<IpAddr>().ok()
    })
}

/// `name.namespace`, `name.namespace.svc` or that with a cluster's domain.
fn service(host: &str) -> Option<Key> {
    let mut parts = host.split('.');
    let (name, namespace) = (parts.next()?, parts.next()?);
    let is_service = parts.next().is_none_or(|part| part == "svc");
    is_service.then(|| Key::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_told_from_other_hosts() {
        let key = Some(Key::new("observability", "jaeger"));
        for host in [
            "jaeger.observability",
            "jaeger.observability.svc",
            "jaeger.observability.svc.cluster.local",
        ] {
            assert_eq!(service(host), key, "{host}");
        }
        for host in ["localhost", "otel.example.com"] {
            assert_eq!(service(host), None, "{host}");
        }
    }
}
