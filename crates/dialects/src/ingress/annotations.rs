//! Annotations with which other Ingress controllers are told what the fields cannot say.
//!
//! A gateway that ignored, say, an allow-list would be open where its user believes it closed. So
//! those of ingress-nginx are read in [`super::nginx`], and each one that is not served is named,
//! with what to write instead.

use k8s_openapi::api::networking::v1::Ingress;

use crate::diagnostic::{Diagnostic, Effect};

/// Prefixes of annotations that are for an Ingress controller and are not read.
const PREFIXES: [&str; 13] = [
    "alb.ingress.kubernetes.io/",
    "appgw.ingress.kubernetes.io/",
    "cilium.io/",
    "haproxy-ingress.github.io/",
    "haproxy.org/",
    "ingress.cilium.io/",
    "ingress.kubernetes.io/",
    "konghq.com/",
    "nginx.com/",
    "nginx.org/",
    "projectcontour.io/",
    "traefik.ingress.kubernetes.io/",
    "voyager.appscode.com/",
];

/// Annotations that ask for what is so anyway: name without the prefix, and value.
const AS_SERVED: [(&str, &str); 20] = [
    ("auth-always-set-cookie", "false"),
    ("backend-protocol", "HTTP"),
    ("canary", "false"),
    ("enable-cors", "false"),
    ("enable-csrf", "false"),
    ("enable-modsecurity", "false"),
    ("enable-opentelemetry", "false"),
    ("enable-owasp-core-rules", "false"),
    ("enable-rewrite-log", "false"),
    ("enable-websocket", "true"),
    ("force-ssl-redirect", "false"),
    ("load-balance", "round_robin"),
    ("preserve-host", "true"),
    ("proxy-body-size", "0"),
    ("proxy-buffering", "off"),
    ("proxy-http-version", "1.1"),
    ("proxy-request-buffering", "off"),
    ("satisfy", "all"),
    ("ssl-redirect", "false"),
    ("use-regex", "false"),
];

/// Whether an annotation changes nothing: its name without the prefix, and its value.
pub(super) fn is_as_served(short: &str, value: &str) -> bool {
    let is_same = |known: &str, same: &str| known == short && value.eq_ignore_ascii_case(same);
    AS_SERVED.iter().any(|(known, same)| is_same(known, same))
}

/// What to do instead, by the beginning of the annotation's short name; the first counts.
const REMEDIES: [(&str, &str); 43] = [
    ("affinity", BY_COOKIE),
    ("session-cookie-", "it belongs to affinity: cookie"),
    (
        "auth-tls-",
        "write a Gateway with tls.frontend.validation for the listener",
    ),
    (
        "auth-type",
        "use basic, or a TrafficPolicy with jwt for the Service",
    ),
    ("auth-secret", "it belongs to auth-type basic"),
    ("auth-realm", "it belongs to auth-type basic"),
    ("auth-snippet", SNIPPET),
    ("auth-uri", EXTERNAL),
    ("auth-cache-", "every request is asked about: remove it"),
    ("auth-", "it belongs to auth-url"),
    ("enable-global-auth", EXTERNAL),
    (
        "backend-protocol",
        "say it in appProtocol of the Service's port (kubernetes.io/h2c, grpc); for TLS write a \
         BackendTLSPolicy with an HTTPRoute, or a DestinationRule with tls for the Service",
    ),
    ("canary", "it belongs to canary: \"true\""),
    ("client-body-buffer-size", STREAMED),
    ("configuration-snippet", SNIPPET),
    ("server-snippet", SNIPPET),
    ("stream-snippet", SNIPPET),
    ("modsecurity-snippet", SNIPPET),
    ("cors-", "it belongs to enable-cors: \"true\""),
    (
        "custom-headers",
        "write an HTTPRoute with ResponseHeaderModifier",
    ),
    ("custom-http-errors", "answer errors in the Service itself"),
    (
        "default-backend",
        "write spec.defaultBackend; a Service without endpoints is answered 503",
    ),
    (
        "enable-modsecurity",
        "put a firewall in front, or refuse in the Service itself",
    ),
    (
        "enable-owasp-core-rules",
        "put a firewall in front, or refuse in the Service itself",
    ),
    (
        "enable-access-log",
        "set access-log of the gateway's settings file",
    ),
    (
        "from-to-www-redirect",
        "write an HTTPRoute for the other host with RequestRedirect",
    ),
    ("http-allow-methods", METHODS),
    ("http-block-methods", METHODS),
    ("enable-csrf", "check the token in the Service itself"),
    (
        "limit-connections",
        "write a TrafficPolicy with adaptiveConcurrency for the Service",
    ),
    ("limit-", "it belongs to limit-rps or limit-rpm"),
    ("mirror-", "write an HTTPRoute with RequestMirror"),
    (
        "plugin-config-name",
        "write an ApisixRoute with plugin_config_name",
    ),
    (
        "proxy-connect-timeout",
        "write a TrafficPolicy with connections.connectTimeout for the Service",
    ),
    (
        "proxy-next-upstream",
        "write an HTTPRoute with a TrafficPolicy that targets it: retries",
    ),
    ("proxy-read-timeout", TIMES),
    ("proxy-send-timeout", TIMES),
    (
        "upstream-",
        "write a TrafficPolicy with loadBalancer or upstreamTimeouts for the Service",
    ),
    (
        "proxy-ssl-",
        "write a DestinationRule with tls for the Service",
    ),
    ("proxy-b", STREAMED),
    (
        "response-rewrite",
        "write an HTTPRoute with ResponseHeaderModifier",
    ),
    (
        "ssl-passthrough",
        "write a TLSRoute at a Gateway whose listener has mode Passthrough",
    ),
    (
        "svc-namespace",
        "write an HTTPRoute, and a ReferenceGrant in the Service's namespace",
    ),
];

const BY_COOKIE: &str = "write a TrafficPolicy for the Service with loadBalancer.type RingHash \
                         and a cookie in loadBalancer.hash";
const EXTERNAL: &str = "write an HTTPRoute with a filter ExternalAuth, or with a TrafficPolicy \
                        that targets it: externalAuthorization";
const METHODS: &str = "write an HTTPRoute with the methods in its matches";
const SNIPPET: &str = "there is no NGINX whose configuration it could be: say it with the fields \
                       of an HTTPRoute, or in the Service itself";
const STREAMED: &str = "bodies are streamed, never held: remove it";
const TIMES: &str = "write a TrafficPolicy with upstreamTimeouts (responseStart, idle) for the \
                     Service; there is no limit otherwise";

/// What to do in place of an annotation, by its name without the prefix.
pub(super) fn remedy(short: &str) -> &'static str {
    let known = REMEDIES.iter().find(|(start, _)| short.starts_with(start));
    known.map_or(
        "remove it, or say it with an HTTPRoute if that has a field for it",
        |(_, remedy)| remedy,
    )
}

/// One diagnostic for every annotation of other controllers that asks for something else than
/// what is served.
pub(super) fn diagnose(ingress: &Ingress) -> Vec<Diagnostic> {
    let annotations = ingress.metadata.annotations.iter().flatten();
    let foreign = annotations.filter_map(|(key, value)| {
        let prefix = PREFIXES.iter().find(|prefix| key.starts_with(**prefix))?;
        let short = &key[prefix.len()..];
        (!is_as_served(short, value)).then_some((key, value))
    });
    let diagnostic = |(key, value): (&String, &String)| {
        let message = format!(
            "annotation {key} ({value:?}) is not supported and changes nothing; remove it, or say \
             it with an HTTPRoute if that has a field for it"
        );
        let field = format!("metadata.annotations[{key}]");
        Diagnostic::new(Effect::Refused, "AnnotationNotSupported", &field, message)
    };
    foreign.map(diagnostic).collect()
}
