//! Annotations with which other Ingress controllers are told what the fields cannot say.
//!
//! None of them is served yet, and a gateway that ignored, say, an allow-list would be open where
//! its user believes it closed. So each is named.

use k8s_openapi::api::networking::v1::Ingress;

use crate::diagnostic::{Diagnostic, Effect};

/// Prefixes of annotations that are for an Ingress controller.
const PREFIXES: [&str; 15] = [
    "alb.ingress.kubernetes.io/",
    "appgw.ingress.kubernetes.io/",
    "cilium.io/",
    "haproxy-ingress.github.io/",
    "haproxy.org/",
    "ingress.cilium.io/",
    "ingress.kubernetes.io/",
    "konghq.com/",
    "k8s.apisix.apache.org/",
    "nginx.com/",
    "nginx.ingress.kubernetes.io/",
    "nginx.org/",
    "projectcontour.io/",
    "traefik.ingress.kubernetes.io/",
    "voyager.appscode.com/",
];

/// Annotations that ask for what is so anyway: name without the prefix, and value.
const AS_SERVED: [(&str, &str); 9] = [
    ("backend-protocol", "HTTP"),
    ("force-ssl-redirect", "false"),
    ("ssl-redirect", "false"),
    ("proxy-buffering", "off"),
    ("proxy-request-buffering", "off"),
    ("proxy-body-size", "0"),
    ("proxy-http-version", "1.1"),
    ("use-regex", "false"),
    ("preserve-host", "true"),
];

/// One diagnostic for every annotation that asks for something else than what is served.
pub(super) fn diagnose(ingress: &Ingress) -> Vec<Diagnostic> {
    let annotations = ingress.metadata.annotations.iter().flatten();
    let foreign = annotations.filter_map(|(key, value)| {
        let prefix = PREFIXES.iter().find(|prefix| key.starts_with(**prefix))?;
        let name = &key[prefix.len()..];
        let served = AS_SERVED
            .iter()
            .any(|(known, same)| *known == name && value.eq_ignore_ascii_case(same));
        (!served).then_some((key, value))
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
