//! A kubelet's metrics in the Prometheus text format, with its names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use node::{PodUsage, Usage};

use super::{is_running, named};

/// `/metrics`: what runs.
pub(super) fn kubelet(node: &str, pods: &[Arc<Pod>]) -> String {
    let mut containers: BTreeMap<&str, usize> = BTreeMap::new();
    for status in pods.iter().flat_map(|pod| statuses(pod)) {
        let state = status.state.as_ref();
        let word = match state {
            Some(state) if state.running.is_some() => "running",
            Some(state) if state.terminated.is_some() => "exited",
            _ => "created",
        };
        *containers.entry(word).or_default() += 1;
    }
    let running = pods.iter().filter(|pod| is_running(pod)).count();
    let mut out = String::new();
    head(&mut out, "kubelet_node_name", "The node's name.", "gauge");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "kubelet_node_name{{node=\"{node}\"}} 1");
    head(&mut out, "kubelet_running_pods", "Pods that run.", "gauge");
    let _ = writeln!(out, "kubelet_running_pods {running}");
    let name = "kubelet_running_containers";
    head(&mut out, name, "Containers of pods, by state.", "gauge");
    for (state, count) in containers {
        let _ = writeln!(out, "{name}{{container_state=\"{state}\"}} {count}");
    }
    out
}

/// `/metrics/resource`: what is used.
pub(super) fn resource(pods: &[PodUsage], machine: Option<&Usage>) -> String {
    let mut out = String::new();
    let containers = |of: &dyn Fn(&Usage) -> String| {
        let all = pods.iter().flat_map(|usage| {
            let (namespace, pod) = named(&usage.pod);
            usage.containers.iter().map(move |(container, used)| {
                let labels =
                    format!("container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"");
                (labels, used)
            })
        });
        all.map(|(labels, used)| (labels, of(used)))
            .collect::<Vec<_>>()
    };
    let sums = |of: &dyn Fn(&Usage) -> String| {
        let all = pods.iter().map(|usage| {
            let (namespace, pod) = named(&usage.pod);
            let labels = format!("namespace=\"{namespace}\",pod=\"{pod}\"");
            (labels, of(&sum(usage)))
        });
        all.collect::<Vec<_>>()
    };
    let cpu = |used: &Usage| used.cpu_time.as_secs_f64().to_string();
    let memory = |used: &Usage| used.memory_bytes.to_string();
    let machine = |of: &dyn Fn(&Usage) -> String| {
        let values = machine.map(|used| (String::new(), of(used)));
        values.into_iter().collect::<Vec<_>>()
    };
    let tables = [
        (
            "container_cpu_usage_seconds_total",
            "counter",
            containers(&cpu),
        ),
        (
            "container_memory_working_set_bytes",
            "gauge",
            containers(&memory),
        ),
        ("pod_cpu_usage_seconds_total", "counter", sums(&cpu)),
        ("pod_memory_working_set_bytes", "gauge", sums(&memory)),
        ("node_cpu_usage_seconds_total", "counter", machine(&cpu)),
        ("node_memory_working_set_bytes", "gauge", machine(&memory)),
        ("container_start_time_seconds", "gauge", starts(pods)),
        (
            "resource_scrape_error",
            "gauge",
            vec![(String::new(), "0".to_owned())],
        ),
    ];
    for (name, kind, rows) in tables {
        let help = if kind == "counter" {
            "Processor time used."
        } else {
            "As of now."
        };
        head(&mut out, name, help, kind);
        for (labels, value) in rows {
            let labels = match labels.as_str() {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    }
    out
}

/// A pod's containers together.
pub(super) fn sum(usage: &PodUsage) -> Usage {
    let all = usage.containers.iter();
    all.fold(Usage::default(), |sum, (_, used)| Usage {
        cpu_nanos: sum.cpu_nanos + used.cpu_nanos,
        cpu_time: sum.cpu_time + used.cpu_time,
        memory_bytes: sum.memory_bytes + used.memory_bytes,
    })
}

fn starts(pods: &[PodUsage]) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for usage in pods {
        let (namespace, pod) = named(&usage.pod);
        for status in statuses(&usage.pod) {
            let running = status
                .state
                .as_ref()
                .and_then(|state| state.running.as_ref());
            if let Some(started) = running.and_then(|running| running.started_at.as_ref()) {
                let container = &status.name;
                let labels =
                    format!("container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"");
                rows.push((labels, started.0.as_second().to_string()));
            }
        }
    }
    rows
}

pub(super) fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| {
        status
            .container_statuses
            .iter()
            .chain(&status.init_container_statuses)
            .chain(&status.ephemeral_container_statuses)
            .flatten()
    })
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_a_pod_uses_is_the_sum_of_its_containers() {
        let pod = serde_json::json!({ "metadata": { "name": "p", "namespace": "n" } });
        let used = Usage {
            cpu_nanos: 5,
            cpu_time: Duration::from_millis(1500),
            memory_bytes: 7,
        };
        let usage = PodUsage {
            pod: Arc::new(serde_json::from_value(pod).expect("a pod")),
            containers: vec![("a".to_owned(), used), ("b".to_owned(), used)],
            window: Duration::from_secs(1),
        };
        let text = resource(&[usage], None);
        for line in [
            "container_cpu_usage_seconds_total{container=\"a\",namespace=\"n\",pod=\"p\"} 1.5",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 3",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 14",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
