//! The addresses of Kubernetes Services: for pods, and for programs of the machine.

use std::net::SocketAddr;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::guest::{self, IMAGE};
use crate::{Server, http};

/// A Deployment of the guest that knows its name, and a Service of a type in front of it.
fn web(kind: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{replicas: 2, \
         selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, \
         spec: {{containers: [{{name: c, image: {IMAGE}, env: [{{name: WHO, value: web}}, {{name: PORT, value: '8080'}}], \
         ports: [{{name: http, containerPort: 8080}}], readinessProbe: {{tcpSocket: {{port: http}}}}}}]}}}}}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{type: {kind}, \
         selector: {{app: web}}, ports: [{{name: http, port: 8000, targetPort: http}}]}}}}\n"
    )
}

fn address(ip: &Value, port: &Value) -> Option<SocketAddr> {
    let port = u16::try_from(port.as_u64()?).ok()?;
    Some(SocketAddr::new(ip.as_str()?.parse().ok()?, port))
}

async fn answers(server: &Server, what: &str, address: SocketAddr) -> anyhow::Result<()> {
    server
        .eventually(what, || async {
            let answer = http::get(address, "web", "/env/WHO").await;
            Ok(answer.ok().filter(|answer| answer.body == "web").map(drop))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ports_and_load_balancers_lead_to_pods_and_end_with_them() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    server.apply(&web("LoadBalancer")).await?;
    let service = server
        .eventually("its addresses", || async {
            let service = server.object(&["service", "web"]).await?;
            let balanced = service["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
            let port = service["spec"]["ports"][0]["nodePort"].is_u64();
            Ok((balanced && port).then_some(service))
        })
        .await?;
    let ingress = &service["status"]["loadBalancer"]["ingress"][0];
    let balancer = address(&ingress["ip"], &Value::from(8000)).expect("an address");
    answers(&server, "an answer at the load balancer", balancer).await?;
    let node_port = &service["spec"]["ports"][0]["nodePort"];
    let node = address(&Value::from("127.0.0.1"), node_port).expect("an address");
    answers(&server, "an answer at the node port", node).await?;

    server.suimon(&["delete", "deployment", "web"]).await?;
    server
        .eventually("a refused connection", || async {
            let connection = tokio::net::TcpStream::connect(balancer).await;
            Ok(connection.is_err().then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_calls_services_by_their_names() -> anyhow::Result<()> {
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    guest::add_image(&server).await?;
    server.apply(&web("ClusterIP")).await?;
    server.apply(&guest::service("caller", "", "")).await?;
    let callee = "env: [{name: WHO, value: callee}]";
    server.apply(&guest::service("callee", callee, "")).await?;

    let service = server.object(&["service", "web"]).await?;
    let cluster_ip = address(&service["spec"]["clusterIP"], &Value::from(8000));
    answers(&server, "the cluster IP", cluster_ip.expect("an address")).await?;
    for (target, who) in [
        ("web:8000", "web"),
        ("web.default.svc.cluster.local:8000", "web"),
        // A Service of Knative, through the gateway.
        ("callee.default.svc.cluster.local:80", "callee"),
    ] {
        let path = format!("/fetch/{target}/env/WHO");
        server
            .eventually(target, || async {
                let answer = server.get("caller", &path).await?;
                if answer.status != 200 {
                    eprintln!("{target}: {}", answer.body);
                }
                Ok((answer.body == who).then_some(()))
            })
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_told_where_the_api_is_and_can_trust_it() -> anyhow::Result<()> {
    let server = Server::start().await?;
    guest::add_image(&server).await?;
    server.apply(&guest::service("asker", "", "")).await?;
    let variable = async |name: &str| -> anyhow::Result<String> {
        let answer = server.get("asker", &format!("/env/{name}")).await?;
        anyhow::ensure!(answer.status == 200, "{name}: {answer:?}");
        Ok(answer.body)
    };
    let host = variable("KUBERNETES_SERVICE_HOST").await?;
    let port = variable("KUBERNETES_SERVICE_PORT").await?;
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.cluster_url = format!("https://{host}:{port}").parse()?;
    let version = Client::try_from(config)?.apiserver_version().await?;
    assert!(version.git_version.contains("suimon"), "{version:?}");
    Ok(())
}
