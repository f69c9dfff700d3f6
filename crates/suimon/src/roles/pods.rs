//! What clients ask of the pods of this machine: logs, commands, streams, ports.
//!
//! The API server knows protocols and the node knows pods; here their words are translated.

use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::connect::{Body, ConnectRequest, Measure};
use apiserver::status::{FieldError, Status};
use apiserver::stream::{self, Containers, Duplex, Order, Running};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use lifecycle::Tasks;
use reconcile::{Cluster, Informer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::roles::kubelet;
use crate::roles::system::NODE;

const METRICS: &str = "metrics.k8s.io/v1beta1";
/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long an endpoint may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pods of this machine.
struct Pods {
    node: node::Node,
    slices: Informer<EndpointSlice>,
}

impl Containers for Pods {
    fn choose(&self, pod: &Value, asked: Option<&str>) -> Result<String, Status> {
        let pod = Pod::deserialize(pod).map_err(|error| Status::internal(error.to_string()))?;
        if pod
            .spec
            .as_ref()
            .is_none_or(|spec| spec.node_name.is_none())
        {
            let name = pod.metadata.name.unwrap_or_default();
            return Err(Status::bad_request(format!(
                "pod {name} does not have a host assigned"
            )));
        }
        self.node.running_container(&pod, asked).map_err(refusal)
    }

    fn run(&self, order: Order) -> BoxFuture<'static, Result<Running, String>> {
        let node = self.node.clone();
        async move {
            let wanted = node::Wanted {
                stdin: order.wanted.stdin,
                stdout: order.wanted.stdout,
                stderr: order.wanted.stderr,
                terminal: order.wanted.terminal,
            };
            let container = (order.pod.as_str(), order.container.as_str());
            let session = match &order.command {
                Some(command) => node.exec(container, command, wanted).await?,
                None => node.attach(container, wanted)?,
            };
            let resize = session.resize.map(|resize| {
                Box::new(move |size: stream::Size| resize(size.columns, size.rows)) as Box<_>
            });
            Ok(Running {
                stdin: session.stdin,
                stdout: session.stdout,
                stderr: session.stderr,
                resize,
                ended: session.ended.map(Ok).boxed(),
            })
        }
        .boxed()
    }

    fn dial(&self, pod: &Value, port: u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>> {
        let node = self.node.clone();
        let uid = pod["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        async move {
            let stream = node.dial(&uid, port).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }

    fn dial_service(
        &self,
        service: &Value,
        port: &str,
    ) -> BoxFuture<'static, Result<Box<dyn Duplex>, Status>> {
        let found = Service::deserialize(service)
            .map_err(Status::internal)
            .and_then(|service| {
                let slices = self
                    .slices
                    .in_namespace(&service.namespace().unwrap_or_default(), |slice| {
                        slice.labels().get(SERVICE_NAME) == Some(&service.name_any())
                    });
                endpoint(&service, &slices, port)
            });
        async move {
            let address = found?;
            let unreachable = |problem: &dyn std::fmt::Display| {
                Status::unavailable(format!(
                    "error trying to reach service: {address}: {problem}"
                ))
            };
            match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => Ok(Box::new(stream) as Box<dyn Duplex>),
                Ok(Err(error)) => Err(unreachable(&error)),
                Err(_) => Err(unreachable(&"no answer")),
            }
        }
        .boxed()
    }
}

/// Where a ready endpoint of a Service listens. `port` is a number or a name of the Service's.
fn endpoint(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    port: &str,
) -> Result<SocketAddr, Status> {
    let name = service.name_any();
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let wanted = ports.clone().find(|known| match port {
        "" => true,
        port => known.port.to_string() == port || known.name.as_deref() == Some(port),
    });
    let wanted = wanted.filter(|_| !port.is_empty() || ports.count() == 1);
    let wanted = wanted.ok_or_else(|| {
        Status::unavailable(format!(
            "no service port \"{port}\" found for service \"{name}\""
        ))
    })?;
    let addresses = slices.iter().flat_map(|slice| {
        let ports = slice.ports.iter().flatten();
        let number = ports
            .filter(|port| {
                port.name.as_deref().unwrap_or_default()
                    == wanted.name.as_deref().unwrap_or_default()
            })
            .find_map(|port| port.port);
        let number = number.and_then(|number| u16::try_from(number).ok());
        let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
            let ready = endpoint.conditions.as_ref().and_then(|is| is.ready);
            ready != Some(false)
        });
        ready
            .filter_map(|endpoint| endpoint.addresses.first()?.parse::<IpAddr>().ok())
            .filter_map(move |ip| Some(SocketAddr::new(ip, number?)))
    });
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_unstable();
    addresses.into_iter().next().ok_or_else(|| {
        Status::unavailable(format!("no endpoints available for service \"{name}\""))
    })
}

fn refusal(error: node::ContainerError) -> Status {
    match error.code() {
        500 => Status::internal(error.to_string()),
        _ => Status::bad_request(error.to_string()),
    }
}

/// Answers what clients ask of the pods of this machine.
pub fn connect(server: &apiserver::Server, cluster: &Cluster, node: &node::Node, tasks: &Tasks) {
    server.connect_streams(
        Arc::new(Pods {
            node: node.clone(),
            slices: cluster.informer(tasks),
        }),
        stream::Limits::STANDARD,
        tasks,
    );
    server.connect("nodes", "proxy", kubelet::answer(node));
    server.measure("pods.metrics.k8s.io", pod_metrics(node));
    server.measure("nodes.metrics.k8s.io", node_metrics(node));
    let node = node.clone();
    server.connect(
        "pods",
        "log",
        Arc::new(move |request: ConnectRequest| {
            let node = node.clone();
            async move { logs(&node, &request) }.boxed()
        }),
    );
}

pub(super) fn logs(
    node: &node::Node,
    request: &ConnectRequest,
) -> Result<http::Response<Body>, Status> {
    let options = log_options(request)?;
    let stream = node
        .logs(
            &request.namespace,
            &request.name,
            request.parameter("container"),
            &options,
        )
        .map_err(refusal)?;
    // A broken file ends the stream; the client has what could be read.
    let stream = stream
        .take_while(|piece| ready(piece.is_ok()))
        .filter_map(|piece| ready(piece.ok()));
    let response = http::Response::builder()
        .header("content-type", "text/plain")
        .body(Body::stream(stream));
    response.map_err(|error| Status::internal(error.to_string()))
}

fn log_options(request: &ConnectRequest) -> Result<node::LogOptions, Status> {
    fn number<T: FromStr>(request: &ConnectRequest, name: &str) -> Result<Option<T>, Status> {
        let Some(text) = request.parameter(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("{name}: \"{text}\" is not valid")))
    }
    let mut errors = Vec::new();
    let mut at_least = |name: &str, least: i64, words: &str| -> Result<Option<i64>, Status> {
        let found = number::<i64>(request, name)?;
        if let Some(value) = found.filter(|value| *value < least) {
            let detail = format!("must be greater than {words}");
            errors.push(FieldError::invalid(name, &json!(value), detail));
        }
        Ok(found)
    };
    let tail = at_least("tailLines", 0, "or equal to 0")?;
    let since_seconds = at_least("sinceSeconds", 1, "0")?;
    let limit = at_least("limitBytes", 1, "0")?;
    let since_time = number(request, "sinceTime")?;
    if since_seconds.is_some() && since_time.is_some() {
        let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden("", detail));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", &request.name, &errors));
    }
    Ok(node::LogOptions {
        follow: request.flag("follow"),
        tail_lines: tail.and_then(|lines| usize::try_from(lines).ok()),
        since_seconds,
        since_time,
        timestamps: request.flag("timestamps"),
        previous: request.flag("previous"),
        limit_bytes: limit.and_then(|bytes| u64::try_from(bytes).ok()),
    })
}

fn pod_metrics(node: &node::Node) -> Measure {
    let node = node.clone();
    Arc::new(move |namespace, name| {
        let node = node.clone();
        async move {
            // It reads many small files.
            let measured = tokio::task::spawn_blocking(move || node.pod_usage()).await;
            let wanted = measured.unwrap_or_default().into_iter().filter(|usage| {
                let pod = &usage.pod;
                (namespace.is_empty() || pod.namespace().as_ref() == Some(&namespace))
                    && (name.is_empty() || pod.name_any() == name)
            });
            wanted.map(|usage| pod_metric(&usage)).collect()
        }
        .boxed()
    })
}

fn pod_metric(usage: &node::PodUsage) -> Value {
    let containers: Vec<_> = usage
        .containers
        .iter()
        .map(|(name, used)| json!({ "name": name, "usage": quantities(used) }))
        .collect();
    json!({
        "apiVersion": METRICS,
        "kind": "PodMetrics",
        "metadata": {
            "name": usage.pod.name_any(),
            "namespace": usage.pod.namespace(),
            "labels": usage.pod.labels(),
            "creationTimestamp": reconcile::now(),
        },
        "timestamp": reconcile::now(),
        "window": window(usage.window),
        "containers": containers,
    })
}

fn node_metrics(node: &node::Node) -> Measure {
    let node = node.clone();
    Arc::new(move |_, name| {
        let node = node.clone();
        async move {
            let measured = tokio::task::spawn_blocking(move || node.machine_usage()).await;
            let (Ok(Some((used, time))), true) = (measured, name.is_empty() || name == NODE) else {
                return Vec::new();
            };
            vec![json!({
                "apiVersion": METRICS,
                "kind": "NodeMetrics",
                "metadata": { "name": NODE, "creationTimestamp": reconcile::now() },
                "timestamp": reconcile::now(),
                "window": window(time),
                "usage": quantities(&used),
            })]
        }
        .boxed()
    })
}

fn quantities(used: &node::Usage) -> Value {
    json!({
        "cpu": format!("{}n", used.cpu_nanos),
        "memory": format!("{}Ki", used.memory_bytes / 1024),
    })
}

/// A duration as Go writes it.
fn window(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}
