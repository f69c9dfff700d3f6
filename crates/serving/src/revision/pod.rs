//! The pod of a revision: the user's pod with the parts that the platform owns.
//!
//! There is no sidecar: requests go from the gateway straight to the port [`USER_PORT`] of the
//! serving container, so probes stay on the containers that the user put them on.

use std::collections::BTreeMap;

use api::names::{CLUSTER_DOMAIN, USER_PORT, label};
use api::serving::v1::Revision;
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EnvVar, Pod, PodAffinityTerm, PodAntiAffinity, PodSpec,
    Probe, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde_json::Value;

use crate::digest::Pinned;
use crate::object;
use crate::settings::Config;

/// Port of a serving container that names none.
const DEFAULT_PORT: i32 = 8080;

/// Which container serves requests: the one with a port, else the first.
pub(super) fn serving_container(revision: &Revision) -> Option<(usize, &Container)> {
    let containers = &revision.spec.pod.containers;
    let has_port = |container: &Container| {
        container
            .ports
            .as_ref()
            .is_some_and(|ports| !ports.is_empty())
    };
    let at = containers.iter().position(has_port).unwrap_or_default();
    containers.get(at).map(|container| (at, container))
}

/// The port that the program must listen on.
pub(crate) fn user_port(revision: &Revision) -> i32 {
    let (_, container) = match serving_container(revision) {
        Some(found) => found,
        None => return DEFAULT_PORT,
    };
    let port = container.ports.iter().flatten().next();
    port.map(|port| port.container_port)
        .filter(|port| *port != 0)
        .unwrap_or(DEFAULT_PORT)
}

/// `h2c` if the port says so, else `http1`.
pub(crate) fn protocol(revision: &Revision) -> &'static str {
    let container = serving_container(revision).map(|(_, container)| container);
    let ports = container.and_then(|container| container.ports.as_ref());
    match ports
        .into_iter()
        .flatten()
        .next()
        .and_then(|port| port.name.as_deref())
    {
        Some("h2c") => "h2c",
        _ => "http1",
    }
}

/// The pod's spec.
pub(super) fn spec(revision: &Revision, images: &Pinned, config: &Config) -> PodSpec {
    let mut pod = revision.spec.pod.clone();
    let serving = serving_container(revision).map_or(0, |(at, _)| at);
    let port = user_port(revision);
    for (at, container) in pod.containers.iter_mut().enumerate() {
        pin(container, images.containers.get(at));
        platform_environment(container, revision);
        if at == serving {
            serve(container, port);
        }
        container
            .termination_message_policy
            .get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
    }
    for (at, container) in pod.init_containers.iter_mut().flatten().enumerate() {
        pin(container, images.init_containers.get(at));
    }
    pod.termination_grace_period_seconds = revision
        .spec
        .timeout_seconds
        .or(Some(config.defaults.revision_timeout_seconds));
    if pod.runtime_class_name.is_none() {
        let class = config.deployment.runtime_class(revision.labels());
        pod.runtime_class_name = class.map(str::to_owned);
    }
    if pod.affinity.is_none() && config.deployment.spread_over_nodes {
        pod.affinity = Some(spread(revision));
    }
    pod
}

/// The Pod that a revision of `template` would have under Knative's settings; `None` if the template
/// cannot be read, which admission tells by itself.
pub fn sample(name: &str, namespace: &str, template: &Value) -> Option<Value> {
    let spec = serde_json::from_value(template.get("spec")?.clone()).ok()?;
    let mut revision = Revision::new(name, spec);
    revision.metadata.namespace = Some(namespace.to_owned());
    let pod = Pod {
        metadata: revision.metadata.clone(),
        spec: Some(self::spec(
            &revision,
            &Pinned::default(),
            &Config::new(CLUSTER_DOMAIN),
        )),
        status: None,
    };
    serde_json::to_value(pod).ok()
}

fn pin(container: &mut Container, image: Option<&api::serving::v1::ContainerStatus>) {
    if let Some(image) = image.and_then(|image| image.image_digest.clone()) {
        container.image = Some(image);
    }
}

fn serve(container: &mut Container, port: i32) {
    let named = container.ports.iter().flatten().next();
    let name = named.and_then(|port| port.name.clone()).unwrap_or_default();
    container.ports = Some(vec![ContainerPort {
        name: Some(USER_PORT.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }]);
    let environment = container.env.get_or_insert_default();
    environment.push(variable("PORT", &port.to_string()));
    if let Some(readiness) = &mut container.readiness_probe {
        // Left out, Knative means 0, which is "as fast as possible"; the API would fill in
        // Kubernetes' ten seconds, and a cold start would wait for them.
        readiness.period_seconds.get_or_insert(0);
    }
    let probes = [
        &mut container.readiness_probe,
        &mut container.liveness_probe,
        &mut container.startup_probe,
    ];
    for probe in probes.into_iter().flatten() {
        fill_port(probe, port, &name);
    }
}

/// A probe without a port, or with the name that the user gave the port, means the user port.
fn fill_port(probe: &mut Probe, port: i32, name: &str) {
    let fill = |given: &mut IntOrString| match given {
        IntOrString::Int(0) => *given = IntOrString::Int(port),
        IntOrString::String(text) if text.is_empty() || text == name => {
            *given = IntOrString::Int(port);
        }
        IntOrString::Int(_) | IntOrString::String(_) => {}
    };
    if let Some(get) = &mut probe.http_get {
        fill(&mut get.port);
    }
    if let Some(socket) = &mut probe.tcp_socket {
        fill(&mut socket.port);
    }
    if let Some(grpc) = &mut probe.grpc
        && grpc.port == 0
    {
        grpc.port = port;
    }
}

fn platform_environment(container: &mut Container, revision: &Revision) {
    let of_label = |key| object::label(revision, key).unwrap_or_default();
    let environment = container.env.get_or_insert_default();
    environment.push(variable("K_REVISION", &revision.name_any()));
    environment.push(variable("K_CONFIGURATION", of_label(label::CONFIGURATION)));
    environment.push(variable("K_SERVICE", of_label(label::SERVICE)));
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

/// Pods of one revision prefer different nodes.
fn spread(revision: &Revision) -> Affinity {
    let own_name = BTreeMap::from([(label::REVISION.to_owned(), revision.name_any())]);
    let term = WeightedPodAffinityTerm {
        weight: 100,
        pod_affinity_term: PodAffinityTerm {
            topology_key: "kubernetes.io/hostname".to_owned(),
            label_selector: Some(LabelSelector {
                match_labels: Some(own_name),
                match_expressions: None,
            }),
            ..PodAffinityTerm::default()
        },
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}
