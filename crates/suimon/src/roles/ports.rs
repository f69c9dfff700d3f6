//! Where the ports of this machine's pods are, for port-forward.
//!
//! The connection is made from the machine to the pod's address. So a program that listens only on
//! its container's loopback address is not reached, other than with the kubelet.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::names::annotation;
use apiserver::stream::{Duplex, Ports};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::Value;
use tokio::net::TcpStream;

/// How long a pod may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pods of this machine.
pub struct PodPorts;

impl Ports for PodPorts {
    fn dial(&self, pod: &Value, port: u16) -> BoxFuture<'static, Result<Box<dyn Duplex>, String>> {
        let address = match address(pod, port) {
            Ok(address) => address,
            Err(problem) => return ready(Err(problem)).boxed(),
        };
        async move {
            let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
            let stream = connected
                .map_err(|_| format!("no answer from {address} within {PATIENCE:?}"))?
                .map_err(|error| {
                    format!(
                        "cannot connect to {address}: {error}; does the program listen on all addresses?"
                    )
                })?;
            // What is typed should not wait for more.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }
}

/// Programs of the process runtime have a host port for each port that their pod names.
fn address(pod: &Value, port: u16) -> Result<SocketAddr, String> {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let ip: Option<IpAddr> = pod["status"]["podIP"]
        .as_str()
        .and_then(|ip| ip.parse().ok());
    let ip = ip
        .filter(|_| phase == "Running")
        .ok_or_else(|| format!("the pod is not running, its phase is {phase}"))?;
    let Some(text) = pod["metadata"]["annotations"][annotation::HOST_PORTS].as_str() else {
        return Ok(SocketAddr::new(ip, port));
    };
    let ports: BTreeMap<u16, u16> = serde_json::from_str(text).map_err(|error| {
        format!(
            "the pod's annotation {} is damaged: {error}",
            annotation::HOST_PORTS
        )
    })?;
    let host_port = ports.get(&port).ok_or_else(|| {
        let named: Vec<_> = ports.keys().map(u16::to_string).collect();
        format!(
            "the pod does not name this port; programs of the process runtime are reached on the containerPorts of their pod: {}",
            named.join(", ")
        )
    })?;
    Ok(SocketAddr::new(ip, *host_port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, annotations: Value) -> Value {
        json!({
            "metadata": { "annotations": annotations },
            "status": { "phase": phase, "podIP": "10.88.0.2" },
        })
    }

    #[test]
    fn a_port_is_where_the_runtime_put_it_and_a_missing_one_is_told() {
        let own = pod("Running", Value::Null);
        let found = address(&own, 8080).expect("an address");
        assert_eq!(found.to_string(), "10.88.0.2:8080");
        let mapped = pod(
            "Running",
            json!({ annotation::HOST_PORTS: "{\"8080\":31007}" }),
        );
        let found = address(&mapped, 8080).expect("an address");
        assert_eq!(found.port(), 31007);
        assert!(
            address(&mapped, 81)
                .expect_err("not named")
                .contains("8080")
        );
        let pending = pod("Pending", Value::Null);
        assert!(
            address(&pending, 80)
                .expect_err("no pod")
                .contains("Pending")
        );
        let damaged = pod("Running", json!({ annotation::HOST_PORTS: "?" }));
        assert!(address(&damaged, 80).is_err());
    }
}
