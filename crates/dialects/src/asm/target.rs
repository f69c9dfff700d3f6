//! What a policy is for: a virtual host, a Service, or a selector's Service.

use std::sync::Arc;

use crate::fields::Fields;
use crate::foreign::Object;
use crate::istio;
use crate::objects::Name;

/// Ports that stand for whatever port there is: the gateway's, and those of Knative's own proxies.
const ANY: [u16; 6] = [80, 443, 8012, 8013, 8112, 0];

/// One host, and the port if it says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// In lower case, whole.
    pub(super) host: Arc<str>,
    port: Option<u16>,
}

impl Target {
    /// Whether a backend with these ports is meant.
    pub(super) fn is_for(&self, ports: Option<&[u16]>) -> bool {
        match (self.port, ports) {
            (Some(port), Some(ports)) => ANY.contains(&port) || ports.contains(&port),
            _ => true,
        }
    }

    /// Whether requests for the other are meant as well.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.host == other.host && (self.port.is_none() || self.port == other.port)
    }

    fn new(host: &str, namespace: &str, port: Option<u16>) -> Self {
        Self {
            host: istio::fqdn(host, namespace).into(),
            port,
        }
    }
}

/// Whether the object is for this gateway. Other workloads are protected by the gateway in front
/// of them only if the policy says so.
pub(super) fn is_ours(spec: &Fields<'_>) -> bool {
    // Which of Envoy's chains a policy goes into; here there is one.
    spec.ignore("isGateway");
    spec.ignore("applyToTraffic");
    let Some(selector) = spec.object("workloadSelector") else {
        return true;
    };
    let labels = selector.string_map("labels");
    let ours = labels
        .iter()
        .all(|(key, value)| istio::is_gateway_label(key, value));
    if !ours {
        let message = "selects pods, and limits are enforced by the gateway; select \
                       istio: ingressgateway or app: activator";
        selector.refuse("labels", "WorkloadNotSupported", message);
    }
    ours
}

/// The targets of one entry of `configs`.
pub(super) fn of_config(config: &Fields<'_>, object: &Object) -> Vec<Target> {
    let own = &object.name.namespace;
    let mut targets = Vec::new();
    let mut is_narrower = false;
    if let Some(written) = config.object("match")
        && let Some(vhost) = written.object("vhost")
    {
        let port = vhost.number::<u16>("port");
        if let Some(route) = vhost.object("route") {
            is_narrower = route.has("name_match");
            route.unsupported(
                "name_match",
                "routes have no names; the entry is not in force",
            );
            is_narrower |= route.has("header_match");
            let remedy = "use limit_overrides; the entry is not in force";
            route.unsupported("header_match", remedy);
        }
        match vhost.text("name") {
            Some(name) => targets.push(Target::new(name, own, port)),
            None => vhost.refuse("name", "HostMissing", "write the host that is limited"),
        }
    }
    for service in config.objects("target_services") {
        let kind = service.text("kind").unwrap_or("Service");
        service.unsupported("section_name", "write the port's number");
        let port = service.number::<u16>("port");
        let namespace = service.text("namespace").unwrap_or(own);
        match service.text("name") {
            Some(name) if kind == "Service" => {
                let host = istio::of_service(&Name::new(namespace, name));
                targets.push(Target::new(&host, own, port));
            }
            _ => service.refuse("name", "TargetInvalid", "write kind Service and its name"),
        }
    }
    if targets.is_empty() {
        let message = "neither match.vhost.name nor target_services says what is limited";
        config
            .findings()
            .refuse("TargetMissing", config.path(), message);
    }
    if is_narrower {
        targets.clear();
    }
    targets
}

/// The targets of `selectors` of a scheduling policy, and the conditions that come with them.
pub(super) fn of_selectors<'v>(
    fields: &Fields<'v>,
    object: &Object,
) -> Vec<(Target, Option<Fields<'v>>)> {
    let mut found = Vec::new();
    for selector in fields.objects("selectors") {
        // Aperture's agents and their places; there is one of both.
        selector.ignore("agent_group");
        selector.ignore("control_point");
        let port = match selector.raw("port") {
            Some(serde_json::Value::Object(_)) => selector
                .object("port")
                .and_then(|port| port.number::<u16>("number")),
            _ => selector.number::<u16>("port"),
        };
        let labels = selector.object("label_matcher");
        match selector.text("service") {
            None | Some("any") => {
                let message = "write the full host of the Service that is meant; any is not \
                               supported";
                selector.refuse("service", "TargetMissing", message);
                labels.inspect(Fields::pass_over);
            }
            Some(host) => {
                found.push((Target::new(host, &object.name.namespace, port), labels));
            }
        }
    }
    if found.is_empty() {
        fields.refuse("selectors", "TargetMissing", "no selector names a Service");
    }
    found
}
