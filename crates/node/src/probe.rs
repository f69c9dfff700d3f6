//! Probes: one check of a container (`check`), and how results become a verdict ([`Verdict`]).
//!
//! Semantics are the kubelet's, plus Knative's `periodSeconds: 0` for readiness: probe at once
//! and often until the first success, and from then on as if the field had been left out.

mod grpc;
mod http;

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::runtime::Sandbox;

/// The timings of a probe with Kubernetes' defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) initial_delay: Duration,
    /// `None` is Knative's period 0.
    pub(crate) period: Option<Duration>,
    pub(crate) timeout: Duration,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
}

/// How long one check over the network may take when the period is 0 (Knative's queue-proxy uses
/// the same). A command has the probe's own time: on a busy machine its start alone can take
/// longer, and the pod would never be ready.
const AGGRESSIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Kubernetes' period for a probe that names none.
pub(crate) const SETTLED_PERIOD: Duration = Duration::from_secs(10);

impl Timing {
    /// What holds for a probe of period 0 after its first success.
    pub(crate) fn settled(probe: &Probe) -> Self {
        Self::of(&Probe {
            period_seconds: None,
            ..probe.clone()
        })
    }

    /// Reads a probe's fields.
    pub(crate) fn of(probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value
                    .filter(|v| *v > 0)
                    .and_then(|v| u64::try_from(v).ok())
                    .unwrap_or(default),
            )
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(default)
        };
        let aggressive = probe.period_seconds == Some(0);
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: (!aggressive).then(|| seconds(probe.period_seconds, SETTLED_PERIOD.as_secs())),
            timeout: if aggressive && probe.exec.is_none() {
                AGGRESSIVE_TIMEOUT
            } else {
                seconds(probe.timeout_seconds, 1)
            },
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        }
    }
}

/// Counts results in a row; says when they are enough to change the verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    last: Option<bool>,
    in_a_row: u32,
}

impl Verdict {
    /// The verdict after one more result, if there are enough in a row.
    pub(crate) fn after(&mut self, success: bool, timing: &Timing) -> Option<bool> {
        self.in_a_row = if self.last == Some(success) {
            self.in_a_row.saturating_add(1)
        } else {
            1
        };
        self.last = Some(success);
        let enough = if success {
            timing.success_threshold
        } else {
            timing.failure_threshold
        };
        (self.in_a_row >= enough).then_some(success)
    }
}

/// What a probe does, with names and defaults resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Http {
        address: SocketAddr,
        host: Option<String>,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        address: SocketAddr,
    },
    Grpc {
        address: SocketAddr,
        service: String,
    },
    Exec {
        command: Vec<String>,
    },
}

/// Why a probe's action cannot be carried out at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the port {0:?} is no port of the container")]
    Port(String),
    #[error("the host {0:?} is not an IP address; leave it away to reach the pod")]
    Host(String),
    #[error("HTTPS is not supported by probes yet")]
    Https,
    #[error("it has no action")]
    Nothing,
}

impl Action {
    /// Reads a probe's action.
    pub(crate) fn of(
        probe: &Probe,
        container: &Container,
        sandbox: &Sandbox,
    ) -> Result<Self, Unusable> {
        if let Some(get) = &probe.http_get {
            return Self::of_http(get, container, sandbox);
        }
        if let Some(socket) = &probe.tcp_socket {
            return Ok(Self::Tcp {
                address: address(socket.host.as_deref(), &socket.port, container, sandbox)?,
            });
        }
        if let Some(grpc) = &probe.grpc {
            let address = address(None, &IntOrString::Int(grpc.port), container, sandbox)?;
            return Ok(Self::Grpc {
                address,
                service: grpc.service.clone().unwrap_or_default(),
            });
        }
        match &probe.exec {
            Some(exec) => Ok(Self::Exec {
                command: exec.command.clone().unwrap_or_default(),
            }),
            None => Err(Unusable::Nothing),
        }
    }

    /// Reads an HTTP action, of a probe or of a hook.
    pub(crate) fn of_http(
        get: &HTTPGetAction,
        container: &Container,
        sandbox: &Sandbox,
    ) -> Result<Self, Unusable> {
        if get
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
        {
            return Err(Unusable::Https);
        }
        let mut headers = Vec::new();
        let mut host = None;
        for header in get.http_headers.iter().flatten() {
            match header.name.eq_ignore_ascii_case("host") {
                true => host = Some(header.value.clone()),
                false => headers.push((header.name.clone(), header.value.clone())),
            }
        }
        let path = get
            .path
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "/".to_owned());
        let address = address(get.host.as_deref(), &get.port, container, sandbox)?;
        Ok(Self::Http {
            address,
            host,
            path,
            headers,
        })
    }

    /// One check over the network. `Exec` needs the runtime and is done by the caller.
    pub(crate) async fn check(&self) -> Result<(), String> {
        match self {
            Self::Http {
                address,
                host,
                path,
                headers,
            } => http::get(*address, host.as_deref(), path, headers).await,
            Self::Tcp { address } => match TcpStream::connect(address).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("dial tcp {address}: {error}")),
            },
            Self::Grpc { address, service } => grpc::check(*address, service).await,
            Self::Exec { .. } => Err("a command is run by the runtime".to_owned()),
        }
    }
}

fn address(
    host: Option<&str>,
    port: &IntOrString,
    container: &Container,
    sandbox: &Sandbox,
) -> Result<SocketAddr, Unusable> {
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            let named = ports
                .filter(|port| port.name.as_deref() == Some(name))
                .map(|port| port.container_port)
                .next();
            named
                .and_then(|port| u16::try_from(port).ok())
                .or_else(|| name.parse().ok())
        }
    };
    let number = number.filter(|port| *port > 0).ok_or_else(|| {
        Unusable::Port(match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => name.clone(),
        })
    })?;
    match host.filter(|host| !host.is_empty()) {
        None => Ok(sandbox.address(number)),
        Some(host) => {
            let ip = host.parse().map_err(|_| Unusable::Host(host.to_owned()))?;
            Ok(SocketAddr::new(ip, number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(probe: &Probe) -> Timing {
        Timing::of(probe)
    }

    #[test]
    fn a_probe_that_says_nothing_has_kubernetes_timings_and_period_0_means_at_once() {
        let defaults = timing(&Probe::default());
        assert_eq!(defaults.period, Some(Duration::from_secs(10)));
        assert_eq!(
            (defaults.success_threshold, defaults.failure_threshold),
            (1, 3)
        );
        let aggressive = timing(&Probe {
            period_seconds: Some(0),
            ..Probe::default()
        });
        assert_eq!(
            (aggressive.period, aggressive.timeout),
            (None, AGGRESSIVE_TIMEOUT)
        );
        let settled = Timing::settled(&Probe {
            period_seconds: Some(0),
            ..Probe::default()
        });
        assert_eq!(settled, defaults);
    }

    #[test]
    fn a_verdict_needs_enough_results_in_a_row() {
        let timing = timing(&Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            ..Probe::default()
        });
        let mut verdict = Verdict::default();
        let results = [
            true, false, true, true, false, false, true, false, false, false,
        ];
        let verdicts: Vec<_> = results
            .iter()
            .map(|result| verdict.after(*result, &timing))
            .collect();
        let expected = [
            None,
            None,
            None,
            Some(true),
            None,
            None,
            None,
            None,
            None,
            Some(false),
        ];
        assert_eq!(verdicts, expected);
    }
}
