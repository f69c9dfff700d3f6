//! Envoy's configuration.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Child;

use super::{Certificate, Job, Table};

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// A whole configuration: a listener whose connection manager has these fields besides what is
/// always there, and clusters. `socket`: what the filter chain says of TLS.
pub fn frame(port: u16, socket: Option<Value>, manager: Value, clusters: Vec<Value>) -> Value {
    let mut all = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "b",
        "generate_request_id": false,
        "http_filters": [{"name": "router", "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.http.router.v3.Router"),
            "dynamic_stats": false,
        }}],
    });
    merge(&mut all, manager);
    let mut chain = json!({"filters": [{"name": "hcm", "typed_config": all}]});
    if let Some(socket) = socket {
        chain["transport_socket"] = socket;
    }
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{
                "name": "l",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [chain],
            }],
            "clusters": clusters,
        },
    })
}

/// A cluster with these fields besides its name and its bounds.
pub fn cluster(name: &str, more: Value) -> Value {
    let most = json!({"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096});
    let mut cluster = json!({
        "name": name, "connect_timeout": "5s", "circuit_breakers": {"thresholds": [most]},
    });
    merge(&mut cluster, more);
    cluster
}

/// The endpoints of a cluster.
pub fn endpoints(name: &str, ports: &[u16]) -> Value {
    let endpoint = |port: &u16| {
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
        json!({"endpoint": {"address": address}})
    };
    let endpoints: Vec<Value> = ports.iter().map(endpoint).collect();
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

/// A cluster whose endpoints do not change.
pub fn fixed(name: &str, port: u16) -> Value {
    let endpoints = endpoints(name, &[port]);
    cluster(
        name,
        json!({"type": "STATIC", "load_assignment": endpoints}),
    )
}

/// Starts a program with this configuration, which is written to `file`.
pub fn start_with(cpu: &str, workers: usize, file: &Path, config: &Value) -> anyhow::Result<Child> {
    std::fs::write(file, config.to_string())?;
    let (file, workers) = (file.display().to_string(), workers.to_string());
    let flags = [
        "--concurrency",
        &workers,
        "-l",
        "off",
        "--disable-hot-restart",
    ];
    super::start(cpu, "envoy", &[&["-c", &file], &flags[..]].concat())
}

/// Starts it with one worker that serves the same over TCP and over QUIC.
#[cfg(feature = "http3")]
pub fn start_with_quic(job: &Job<'_>) -> anyhow::Result<Child> {
    let socket = job.tls.map(|tls| tls_context(job, tls)).transpose()?;
    let manager = || json!({"route_config": {"virtual_hosts": hosts(job.table)}});
    let origin = fixed("o", job.origin);
    let quic = socket.as_ref().map(|socket| {
        let mut context = socket["typed_config"].clone();
        // Its type is known here, and must not be said.
        if let Value::Object(context) = &mut context {
            context.remove("@type");
        }
        json!({"name": "quic", "typed_config": {
            "@type": format!("{EXTENSIONS}.transport_sockets.quic.v3.QuicDownstreamTransport"),
            "downstream_tls_context": context,
        }})
    });
    let mut http3 = manager();
    http3["codec_type"] = json!("HTTP3");
    let mut beside = frame(job.port, quic, http3, Vec::new());
    let mut listener = beside["static_resources"]["listeners"][0].take();
    listener["name"] = json!("q");
    listener["address"]["socket_address"]["protocol"] = json!("UDP");
    listener["udp_listener_config"] = json!({
        "quic_options": {}, "downstream_socket_config": {"prefer_gro": true},
    });
    let mut config = frame(job.port, socket, manager(), vec![origin]);
    let listeners = config["static_resources"]["listeners"].as_array_mut();
    listeners
        .into_iter()
        .for_each(|all| all.push(listener.take()));
    start_with(job.cpu, 1, &job.dir.join("envoy.json"), &config)
}

/// Starts it with one worker.
pub(super) fn start(job: &Job<'_>) -> anyhow::Result<Child> {
    let socket = job.tls.map(|tls| tls_context(job, tls)).transpose()?;
    let mut manager = json!({"route_config": {"virtual_hosts": hosts(job.table)}});
    if job.websocket {
        manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    }
    let mut origin = fixed("o", job.origin);
    if job.is_to_http2() {
        let options = format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions");
        origin["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options, "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    let config = frame(job.port, socket, manager, vec![origin]);
    start_with(job.cpu, 1, &job.dir.join("envoy.json"), &config)
}

/// What a filter chain says of TLS.
fn tls_context(job: &Job<'_>, tls: &Certificate) -> anyhow::Result<Value> {
    let certificate = job.write("envoy.crt", &tls.certificate)?;
    let key = job.write("envoy.key", &tls.key)?;
    Ok(json!({"name": "tls", "typed_config": {
        "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "tls_certificates": [{
                "certificate_chain": {"filename": certificate},
                "private_key": {"filename": key},
            }],
        },
    }}))
}

fn hosts(table: Option<Table>) -> Vec<Value> {
    let route = |prefix: String| json!({"match": {"prefix": prefix}, "route": {"cluster": "o", "timeout": "0s"}});
    let Some(table) = table else {
        return vec![json!({"name": "v", "domains": ["*"], "routes": [route("/".to_owned())]})];
    };
    let host = |at: usize| {
        let routes: Vec<Value> = (0..table.routes).map(Table::path).map(route).collect();
        json!({"name": format!("v{at}"), "domains": [Table::host(at)], "routes": routes})
    };
    (0..table.hosts).map(host).collect()
}

/// Adds the fields of one object to another.
fn merge(all: &mut Value, more: Value) {
    if let (Value::Object(all), Value::Object(more)) = (all, more) {
        all.extend(more);
    }
}
