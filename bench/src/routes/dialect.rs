//! The same routes as each dialect writes them.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Place;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// HTTPRoutes of one Gateway
    GatewayApi,
    /// VirtualServices of one Gateway
    Istio,
    /// HTTPProxies
    Contour,
    /// Mappings
    Emissary,
    /// Kubernetes Ingresses
    Ingress,
}

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// A Service at a port of this machine: plural and object each.
pub fn service(name: &str, port: u16) -> [(&'static str, Value); 2] {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    });
    [("services", service), ("endpointslices", slice)]
}

impl Dialect {
    /// What routes are attached to.
    pub fn door(self, port: u16) -> Vec<(&'static str, Value)> {
        let metadata = json!({"name": "bench", "namespace": "default"});
        match self {
            Self::GatewayApi => vec![(
                "gateways",
                json!({
                    "apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": metadata,
                    "spec": {
                        "gatewayClassName": "suimon",
                        "listeners": [{"name": "http", "protocol": "HTTP", "port": port}],
                    },
                }),
            )],
            Self::Istio => vec![(
                "gateways",
                json!({
                    "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata,
                    "spec": {
                        "selector": {"istio": "ingressgateway"},
                        "servers": [{
                            "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                            "hosts": ["*"],
                        }],
                    },
                }),
            )],
            Self::Contour | Self::Emissary | Self::Ingress => Vec::new(),
        }
    }

    /// One route, to this Service.
    pub fn route(self, place: Place, route: usize, to: &str) -> (&'static str, Value) {
        let (host, path) = (place.host(route), place.path(route));
        let (plural, version, kind, spec) = match self {
            Self::GatewayApi => (
                "httproutes",
                GATEWAY_API,
                "HTTPRoute",
                json!({
                    "parentRefs": [{"name": "bench"}], "hostnames": [host],
                    "rules": [{
                        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                        "backendRefs": [{"name": to, "port": 80}],
                    }],
                }),
            ),
            Self::Istio => (
                "virtualservices",
                "networking.istio.io/v1",
                "VirtualService",
                json!({
                    "hosts": [host], "gateways": ["bench"],
                    "http": [{
                        "match": [{"uri": {"prefix": path}}],
                        "route": [{"destination": {"host": to, "port": {"number": 80}}}],
                    }],
                }),
            ),
            Self::Contour => (
                "httpproxies",
                "projectcontour.io/v1",
                "HTTPProxy",
                json!({
                    "virtualhost": {"fqdn": host},
                    "routes": [{
                        "conditions": [{"prefix": path}],
                        "services": [{"name": to, "port": 80}],
                    }],
                }),
            ),
            Self::Emissary => (
                "mappings",
                "getambassador.io/v3alpha1",
                "Mapping",
                json!({"hostname": host, "prefix": path, "service": to}),
            ),
            Self::Ingress => (
                "ingresses",
                "networking.k8s.io/v1",
                "Ingress",
                json!({"rules": [{"host": host, "http": {"paths": [{
                    "path": path, "pathType": "Prefix",
                    "backend": {"service": {"name": to, "port": {"number": 80}}},
                }]}}]}),
            ),
        };
        let object = json!({
            "apiVersion": version, "kind": kind,
            "metadata": {"name": format!("r{route}"), "namespace": "default"},
            "spec": spec,
        });
        (plural, object)
    }

    /// Whether the status says which generation it is about.
    pub fn tells_generations(self) -> bool {
        match self {
            Self::GatewayApi | Self::Istio | Self::Contour => true,
            Self::Emissary | Self::Ingress => false,
        }
    }

    /// The generation that the status is about.
    pub fn told(self, object: &Value) -> Option<i64> {
        let status = &object["status"];
        let of_condition = |conditions: &Value| conditions[0]["observedGeneration"].as_i64();
        match self {
            Self::GatewayApi => of_condition(&status["parents"][0]["conditions"]),
            Self::Istio => {
                let whole = &status["observedGeneration"];
                // Kinds of Istio write 64-bit numbers as text.
                let whole = whole.as_i64().or_else(|| whole.as_str()?.parse().ok());
                whole.or_else(|| of_condition(&status["conditions"]))
            }
            Self::Contour => of_condition(&status["conditions"]),
            Self::Emissary | Self::Ingress => None,
        }
    }
}
