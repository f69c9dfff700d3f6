//! What clients ask of the pods of this machine: logs, commands, streams, ports.
//!
//! The API server knows protocols and the node knows pods; here their words are translated.

use std::future::ready;
use std::str::FromStr;
use std::sync::Arc;

use apiserver::connect::{Body, ConnectRequest};
use apiserver::status::Status;
use apiserver::stream::{self, Containers, Duplex, Order, Running};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::Tasks;
use serde::Deserialize;
use serde_json::Value;

/// The pods of this machine.
struct Pods(node::Node);

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
        self.0.running_container(&pod, asked).map_err(refusal)
    }

    fn run(&self, order: Order) -> BoxFuture<'static, Result<Running, String>> {
        let node = self.0.clone();
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
        let node = self.0.clone();
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
}

fn refusal(error: node::ContainerError) -> Status {
    match error.code() {
        500 => Status::internal(error.to_string()),
        _ => Status::bad_request(error.to_string()),
    }
}

/// Answers what clients ask of the pods of this machine.
pub fn connect(server: &apiserver::Server, node: &node::Node, tasks: &Tasks) {
    server.connect_streams(
        Arc::new(Pods(node.clone())),
        stream::Limits::STANDARD,
        tasks,
    );
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

fn logs(node: &node::Node, request: &ConnectRequest) -> Result<http::Response<Body>, Status> {
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
    let flag = |name: &str| {
        request
            .parameter(name)
            .is_some_and(|value| value != "false" && value != "0")
    };
    Ok(node::LogOptions {
        follow: flag("follow"),
        tail_lines: number(request, "tailLines")?,
        since_seconds: number(request, "sinceSeconds")?,
        since_time: number(request, "sinceTime")?,
        timestamps: flag("timestamps"),
        previous: flag("previous"),
        limit_bytes: number(request, "limitBytes")?,
    })
}
