//! `nodes/NAME/proxy`: the pages of a kubelet, as far as this node has what they show.
//!
//! Reading only. What changes something or opens a stream has its place in the API itself, and a
//! page that is not here is refused with the names of those that are.

mod logs;
mod metrics;
mod summary;

use std::sync::Arc;

use apiserver::connect::{Body, ConnectRequest, Connector};
use apiserver::status::Status;
use futures::FutureExt;
use http::Response;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::roles::pods;

/// What a refusal names.
const PAGES: &str = "healthz, pods, metrics, metrics/resource, stats/summary, configz, containerLogs/NAMESPACE/POD/CONTAINER and logs/";

/// Answers for the node.
pub(super) fn answer(node: &node::Node) -> Connector {
    let node = node.clone();
    Arc::new(move |request: ConnectRequest| {
        let node = node.clone();
        async move { page(&node, request).await }.boxed()
    })
}

async fn page(node: &node::Node, mut request: ConnectRequest) -> Result<Response<Body>, Status> {
    let Some((method, path)) = request.below() else {
        return Err(Status::no_such_path());
    };
    if method != http::Method::GET {
        return Err(Status::method_not_allowed());
    }
    let path = path.split('?').next().unwrap_or_default();
    let path = path.trim_start_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    match segments.as_slice() {
        ["healthz"] | ["healthz", "ping" | "syncloop" | "log" | ""] => text("ok"),
        ["pods" | "runningpods"] | ["pods" | "runningpods", ""] => {
            let running = segments[0] == "runningpods";
            let pods = node.pods();
            let wanted = pods.iter().filter(|pod| !running || is_running(pod));
            let items: Vec<_> = wanted.map(|pod| json!(**pod)).collect();
            document(
                &json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }),
            )
        }
        ["metrics"] => prometheus(metrics::kubelet(&request.name, &node.pods())),
        ["metrics", "resource"] => {
            let (pods, machine) = measure(node).await?;
            prometheus(metrics::resource(&pods, machine.as_ref()))
        }
        ["stats", "summary"] | ["stats", "summary", ""] => {
            let (pods, machine) = measure(node).await?;
            document(&summary::of(&request, &pods, machine.as_ref()))
        }
        ["configz"] => document(&configuration(&request.object)),
        ["containerLogs", namespace, pod, container] => {
            request.namespace = (*namespace).to_owned();
            request.name = (*pod).to_owned();
            request.query.retain(|(key, _)| key != "container");
            let named = ("container".to_owned(), (*container).to_owned());
            request.query.push(named);
            pods::logs(node, &request)
        }
        ["logs", below @ ..] => {
            let below: Vec<String> = below.iter().map(|&part| part.to_owned()).collect();
            let node = node.clone();
            let read = tokio::task::spawn_blocking(move || {
                let below: Vec<&str> = below.iter().map(String::as_str).collect();
                logs::answer(node.log_dir(), &below)
            });
            read.await
                .map_err(|error| Status::internal(error.to_string()))?
        }
        [
            "exec" | "attach" | "portForward" | "run" | "cri" | "checkpoint",
            ..,
        ] => Err(Status::new(
            404,
            "NotFound",
            "this node opens no streams of its own; use pods/exec, pods/attach and pods/portforward of the API",
        )),
        _ => Err(Status::new(
            404,
            "NotFound",
            format!("the node has no page {path:?}; it has {PAGES}"),
        )),
    }
}

type Measured = (Vec<node::PodUsage>, Option<node::Usage>);

/// Reads many small files.
async fn measure(node: &node::Node) -> Result<Measured, Status> {
    let node = node.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let machine = node.machine_usage().map(|(used, _)| used);
        (node.pod_usage(), machine)
    });
    measured
        .await
        .map_err(|error| Status::internal(error.to_string()))
}

fn is_running(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// The settings that this node really has, in the words of a kubelet's configuration.
fn configuration(node: &Value) -> Value {
    let most = node["status"]["capacity"]["pods"].as_str();
    let most = most.and_then(|text| text.parse::<u32>().ok());
    let mut config = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDomain": "cluster.local",
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
    });
    if let Some(most) = most {
        config["maxPods"] = json!(most);
    }
    json!({ "kubeletconfig": config })
}

fn document(value: &Value) -> Result<Response<Body>, Status> {
    respond("application/json", value.to_string())
}

fn text(text: &str) -> Result<Response<Body>, Status> {
    respond("text/plain; charset=utf-8", text.to_owned())
}

fn prometheus(text: String) -> Result<Response<Body>, Status> {
    respond("text/plain; version=0.0.4; charset=utf-8", text)
}

fn respond(media: &str, body: impl Into<Vec<u8>>) -> Result<Response<Body>, Status> {
    let body: Vec<u8> = body.into();
    let response = Response::builder().header("content-type", media);
    response
        .body(Body::full(body))
        .map_err(|error| Status::internal(error.to_string()))
}

/// Namespace and name of a pod.
fn named(pod: &Pod) -> (String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}
