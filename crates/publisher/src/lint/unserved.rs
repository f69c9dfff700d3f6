//! Kinds of known gateways that nobody here reads, each with what to do instead. Nothing of them
//! is stored by the API server either, which has no definition of them.

/// What users do instead, by group and kind; an empty kind is every kind of the group.
const REMEDIES: [(&str, &str, &str); 24] = [
    (
        "configuration.konghq.com",
        "",
        "write HTTPRoutes, and TrafficPolicies for what plugins do",
    ),
    ("eventing.knative.dev", "", NO_EVENTING),
    ("flows.knative.dev", "", NO_EVENTING),
    (
        "inference.networking.k8s.io",
        "",
        "send the routes to the Service of the model servers",
    ),
    (
        "k8s.nginx.org",
        "",
        "write HTTPRoutes, and TrafficPolicies for what Policies do",
    ),
    ("messaging.knative.dev", "", NO_EVENTING),
    (
        "multicluster.x-k8s.io",
        "",
        "there is one cluster here: name its Services",
    ),
    ("sinks.knative.dev", "", NO_EVENTING),
    ("sources.knative.dev", "", NO_EVENTING),
    (
        "gateway.envoyproxy.io",
        "",
        "write a TrafficPolicy that targets the Gateway, route or Service",
    ),
    (
        "gateway.kgateway.dev",
        "",
        "write a TrafficPolicy of gateway.suimon.dev that targets the Gateway, route or Service",
    ),
    (
        "gateway.nginx.org",
        "",
        "write a TrafficPolicy that targets the Gateway, route or Service",
    ),
    (
        "gateway.solo.io",
        "MatchableHttpGateway",
        "write a Gateway for each kind of listener",
    ),
    (
        "gateway.solo.io",
        "MatchableTcpGateway",
        "write a Gateway for each kind of listener",
    ),
    (
        "getambassador.io",
        "AmbassadorInstallation",
        "there is no operator, and nothing to install",
    ),
    ("getambassador.io", "Filter", FILTER),
    ("getambassador.io", "FilterPolicy", FILTER),
    (
        "getambassador.io",
        "Project",
        "write a Knative Service in its place",
    ),
    ("getambassador.io", "RateLimit", BY_SERVICE),
    (
        "ratelimit.solo.io",
        "RateLimitConfig",
        "write its actions into ratelimit.rateLimits of the options",
    ),
    (
        "gloo.solo.io",
        "Proxy",
        "it is what Gloo makes of VirtualServices: write those",
    ),
    ("traefik.containo.us", "", TRAEFIK),
    ("traefik.io", "", TRAEFIK),
    (
        "x.getambassador.io",
        "",
        "write the kinds of getambassador.io",
    ),
];

const BY_SERVICE: &str = "write a TrafficPolicy that targets the Service";
const FILTER: &str = "nobody is asked about requests by it: write an AuthService, or a \
                      TrafficPolicy that targets the Service, with jwt or authorization";
const NO_EVENTING: &str = "there is no eventing; Services of serving.knative.dev are";
const TRAEFIK: &str = "write HTTPRoutes, and TrafficPolicies for what Middlewares do";

/// Why objects of a kind are not served.
pub(super) fn kind(group: &str, kind: &str) -> Option<String> {
    let (_, _, remedy) = REMEDIES
        .iter()
        .find(|(of, own, _)| *of == group && (own.is_empty() || *own == kind))?;
    Some(format!("{kind} of {group} is not served; {remedy}"))
}

/// Why objects of a version are not served, of a kind whose newer one is.
pub(super) fn version(group: &str, version: &str, kind: &str) -> Option<String> {
    let is_old = match group {
        "extensions" => true,
        "networking.k8s.io" => version != "v1",
        _ => false,
    };
    (is_old && kind == "Ingress").then(|| {
        format!(
            "Ingress of {group}/{version} is not served, as in Kubernetes since 1.22; write \
             networking.k8s.io/v1: a pathType for each path, and backend.service.name with \
             backend.service.port.number in place of serviceName and servicePort"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_by_its_name_and_a_group_as_a_whole_have_remedies() {
        let filter = kind("getambassador.io", "Filter").expect("a remedy");
        assert!(filter.contains("AuthService"), "{filter}");
        assert!(kind("traefik.io", "Middleware").is_some());
        assert_eq!(kind("getambassador.io", "Mapping"), None);
        assert_eq!(kind("apps", "Deployment"), None);
    }

    #[test]
    fn an_old_ingress_is_told_what_the_new_one_is_like() {
        let told = version("networking.k8s.io", "v1beta1", "Ingress").expect("old");
        assert!(told.contains("networking.k8s.io/v1:"), "{told}");
        assert!(version("extensions", "v1beta1", "Ingress").is_some());
        assert_eq!(version("networking.k8s.io", "v1", "Ingress"), None);
        assert_eq!(version("networking.k8s.io", "v1", "IngressClass"), None);
    }
}
